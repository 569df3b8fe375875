//! What is told to people: the log.

pub mod clock;
mod log;
mod redact;
mod request;

pub use log::{Format, Log};
pub use request::Request;
