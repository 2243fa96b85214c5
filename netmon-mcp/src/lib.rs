#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod call;
mod schema;
mod serve;
mod server;
mod tools;

pub use serve::{ServeError, serve, serve_stdio};
pub use server::NetmonServer;
