//! Certificates from an authority that speaks ACME (RFC 8555): got, kept and renewed without
//! anybody doing anything.

mod account;
mod attempt;
mod failure;
mod order;
mod refusal;
mod renewal;
mod renewal_info;
mod schedule;
mod store;
mod transport;

pub use failure::explain;
pub use renewal::{BadAcme, Progress, Renewal, TrustedAuthority};
pub use store::{BadState, Store, folder};
pub use transport::{not_before, response};
