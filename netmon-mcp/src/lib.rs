#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod call;
mod completions;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "http")]
pub mod http;
mod prompts;
mod recording;
mod resources;
mod schema;
mod serve;
mod server;
mod tools;

#[cfg(feature = "http")]
pub use self::http::HttpService;
pub use serve::{ServeError, serve, serve_stdio};
pub use server::NetmonServer;
