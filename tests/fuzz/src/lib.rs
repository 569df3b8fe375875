//! What must hold for any bytes: one property a target, told by a panic. libFuzzer looks for bytes
//! that break one (`cargo xtask fuzz`); `cargo test` tries those that have been worth keeping.
#![forbid(unsafe_code)]

mod authority;
mod chunked;
mod config;
mod connection;
mod control;
mod head;
mod message;
mod nginx;
mod packet;
mod pieces;
mod plain;
mod proxy_protocol;
mod redact;
mod registry;
mod response;
mod scan;
pub mod seeds;
mod target;
#[cfg(test)]
mod tests;

/// Panics when something does not hold for the bytes.
pub type Check = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Check); 15] = [
    ("head", head::check),
    ("response", response::check),
    ("chunked", chunked::check),
    ("proxy_protocol", proxy_protocol::check),
    ("target", target::check),
    ("config", config::check),
    ("packet", packet::check),
    ("registry", registry::check),
    ("nginx", nginx::check),
    ("redact", redact::check),
    ("authority", authority::check),
    ("message", message::check),
    ("control", control::check),
    ("connection", connection::check),
    ("scan", scan::check),
];

pub fn target(name: &str) -> Option<Check> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}
