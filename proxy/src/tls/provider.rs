use std::sync::Arc;

use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CommonState, SupportedCipherSuite};

/// AES-128-GCM first: its SHA-256 has instructions of its own on most machines, where SHA-384 has
/// none, and that is most of what a handshake hashes.
const CIPHER_SUITES: &[SupportedCipherSuite] = &[
    TLS13_AES_128_GCM_SHA256,
    TLS13_AES_256_GCM_SHA384,
    TLS13_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The groups in which keys are agreed on. The hybrid with ML-KEM-768 comes first: what is
/// recorded today can't be read by a quantum computer later. An upstream is offered a share of
/// X25519 beside it, so that one without ML-KEM need not ask for another.
static GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

/// The cryptography that is used in both directions.
pub fn provider() -> Arc<CryptoProvider> {
    provider_with(&GROUPS)
}

/// The same for upstreams that a ClientHello of more than a packet does not reach.
pub fn provider_without_ml_kem() -> Arc<CryptoProvider> {
    // The hybrid is the first; the shares of the others fit into a packet.
    provider_with(&GROUPS[1..])
}

fn provider_with(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: CIPHER_SUITES.to_vec(),
        kx_groups: groups.to_vec(),
        ..default_provider()
    })
}

/// The names of the groups, by IANA's registry; the preferred one first.
pub fn group_names() -> [&'static str; GROUPS.len()] {
    GROUPS.map(|group| group.name().as_str().unwrap_or_default())
}

/// The group in which a session's keys were agreed on. `None`: a session of TLS
/// 1.2 was resumed, which takes no key exchange.
pub fn group_name(session: &CommonState) -> Option<&'static str> {
    session.negotiated_key_exchange_group().and_then(|group| group.name().as_str())
}
