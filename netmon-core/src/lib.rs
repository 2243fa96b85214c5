#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod answer;
mod clean;
mod control;
mod error;
pub mod fact;
pub mod filter;
pub mod monitor;
pub mod request;
pub mod source;
pub mod view;

pub use answer::{Answer, Coverage, Header, MissingHook, Window};
pub use clean::CleanText;
pub use control::{Cancel, Control, Progress};
pub use error::{Error, ErrorKind, Result};
pub use filter::Filter;
pub use monitor::{
    CapabilitiesAnswer, Connection, ConnectionWatch, ConnectionsAnswer, InterfacesAnswer, ListenersAnswer,
    Monitor, PacketDrops, PatternsAnswer, Rate, RatesAnswer, SocketsAnswer, SummaryAnswer,
};
pub use request::{
    ConnectionFilter, ConnectionsRequest, DropsRequest, PatternsRequest, RateRequest, SocketsRequest,
    SummaryRequest,
};
pub use source::Source;
