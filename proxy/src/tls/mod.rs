//! TLS: certificates and keys, what clients are offered, and whom they may claim to be.

mod certificate;
mod chain;
mod client_auth;
mod fault;
mod pem;
mod provider;
mod resolver;
mod server;

pub use certificate::{BadCertificate, Certificate};
pub use chain::{Link, chain};
pub use fault::fault;
pub use pem::BadPem;
pub use provider::provider;
pub use resolver::Resolver;
pub use server::{BadTls, add_roots, load, reload, server_config};
