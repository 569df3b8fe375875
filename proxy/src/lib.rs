//! hookgate: a relay for Meta's webhooks, with an XDP guard that counts every connection.
#![deny(unsafe_code)]

pub mod config;
pub mod prefixes;
