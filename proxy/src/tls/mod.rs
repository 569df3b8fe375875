//! TLS: certificates and keys, what clients are offered, and whom they may claim to be.

mod certificate;
mod client_auth;
mod pem;
mod provider;
mod resolver;
mod server;

pub use certificate::Certificate;
pub use pem::BadPem;
pub use provider::provider;
pub use resolver::Resolver;
pub use server::{BadTls, add_roots, reload, server_config};
