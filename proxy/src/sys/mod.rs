//! What needs `unsafe`: the kernel's interfaces that Rust's types cannot speak for.
#![allow(unsafe_code, reason = "the only module of the proxy that may")]

mod fork;
mod shared;

pub use fork::{ForkResult, fork};
pub use shared::Shared;
