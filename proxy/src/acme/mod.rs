//! Certificates from an authority that speaks ACME (RFC 8555): got, kept and renewed without anybody doing anything.

mod account;
mod attempt;
mod messenger;
mod order;
mod refusal;
mod renewal;
mod schedule;
mod store;
mod suggestion;

pub use messenger::{not_before, response};
pub use refusal::explain;
pub use renewal::{BadAcme, Progress, Renewal, TrustedAuthority};
pub use store::{BadState, Store, folder};
