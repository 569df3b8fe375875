//! TLS: certificates and keys, what clients are offered, and whom they may claim to be.

mod certificate;
mod chain;
mod challenges;
mod client_auth;
mod fault;
mod pem;
mod provider;
mod resolver;
mod self_signed;
mod server;

pub use certificate::{BadCertificate, Certificate};
pub use chain::{Link, chain};
pub use challenges::{ACME_TLS, Asked, Challenges, is_answer};
pub use fault::fault;
pub use pem::BadPem;
pub use provider::provider;
pub use resolver::Resolver;
pub use self_signed::{CannotSign, placeholder};
pub use server::{BadTls, add_roots, load, reload, server_config};
