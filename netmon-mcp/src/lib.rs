#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod call;
#[cfg(feature = "http")]
mod http;
mod schema;
mod serve;
mod server;
mod tools;

#[cfg(feature = "http")]
pub use self::http::HttpService;
pub use serve::{ServeError, serve, serve_stdio};
pub use server::NetmonServer;
