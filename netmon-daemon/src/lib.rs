#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod access;
pub mod config;
mod daemon;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod listen;
mod privileges;
mod query;
mod reply;
mod routes;
mod run;

pub use run::{Failure, document, run};
