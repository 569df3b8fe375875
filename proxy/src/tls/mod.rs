//! TLS : certificates and keys, and what clients are offered.

mod certs;

pub use certs::{BadCertificate, certificates, server_config};
