#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod answer;
mod clean;
mod control;
mod error;
pub mod fact;
pub mod filter;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "ai")]
pub mod model;
pub mod monitor;
pub mod request;
pub mod source;
pub mod view;

pub use answer::{Answer, Coverage, Header, MissingHook, Window};
pub use clean::{CleanProse, CleanText};
pub use control::{Cancel, Control, Progress};
pub use error::{Error, ErrorKind, Result};
pub use filter::Filter;
pub use monitor::{
    CapabilitiesAnswer, Connection, ConnectionWatch, ConnectionsAnswer, Diagnosis, DiffAnswer,
    InterfacesAnswer, ListenersAnswer, Monitor, PacketDrops, PatternsAnswer, Rate, RatesAnswer, RunAnswer,
    RunWatch, SocketsAnswer, SummaryAnswer,
};
pub use request::{
    ConnectionFilter, ConnectionsRequest, DiagnoseRequest, DiffRequest, DropsRequest, PatternsRequest,
    RateRequest, RunRequest, SocketsRequest, SummaryRequest,
};
pub use source::Source;
