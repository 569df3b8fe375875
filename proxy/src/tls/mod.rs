//! TLS: certificates and keys, what clients are offered, and their certificates.

mod algorithm;
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
mod server_auth;

pub use algorithm::KeyKind;
pub use certificate::{BadCertificate, Certificate};
pub use chain::{Fingerprint, Link, chain, fingerprint, listed};
pub use challenges::{ACME_TLS, ChallengeFile, Challenges, is_answer};
pub use client_auth::{ClientAuthority, VerifiedClient, next_update};
pub use fault::{HandshakeFault, fault};
pub use pem::{BadBlock, BadPem, certificates, revocation_lists};
pub use provider::{group_name, group_names, provider, provider_without_ml_kem};
pub use resolver::Resolver;
pub use self_signed::{CannotSign, placeholder};
pub use server::{BadTls, add_roots, client_authority, load, load_pairs, server_config};
pub use server_auth::{CertificateFault, ServerVerifier, no_name, other_name, unusable_authority};
