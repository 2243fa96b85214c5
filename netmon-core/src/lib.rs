#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod answer;
mod clean;
mod control;
mod error;
pub mod fact;
pub mod monitor;
pub mod request;
pub mod source;
pub mod view;

pub use answer::{Answer, Coverage, Header, MissingHook, Window};
pub use clean::CleanText;
pub use control::{Cancel, Control, Progress};
pub use error::{Error, Result};
pub use monitor::{CapabilitiesAnswer, InterfacesAnswer, Monitor, Rate, RatesAnswer};
pub use request::RateRequest;
pub use source::Source;
