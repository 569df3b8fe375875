//! hookgate: a relay for Meta's webhooks, with an XDP guard that counts every connection.
#![deny(unsafe_code)]

pub mod access;
pub mod acme;
pub mod admin;
pub mod check;
pub mod cli;
pub mod config;
pub mod datapath;
pub mod doctor;
pub mod guard;
pub mod host;
pub mod http;
pub mod import;
pub mod insight;
pub mod messages;
pub mod net;
pub mod observe;
pub mod prefixes;
pub mod probe;
pub mod registry;
pub mod server;
pub mod stats;
mod sys;
pub mod tls;
pub mod upstream;
