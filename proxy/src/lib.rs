//! hookgate: a relay for Meta's webhooks, with an XDP guard that counts every connection.
#![deny(unsafe_code)]

pub mod config;
pub mod http;
pub mod net;
pub mod prefixes;
pub mod tls;
pub mod upstream;
