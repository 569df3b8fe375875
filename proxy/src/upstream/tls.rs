//! TLS towards upstreams: who is believed.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::tls::{BadTls, add_roots};

/// The machine's own roots. Certificates that it has and that cannot be used are left out.
pub(super) fn platform_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Full verification against `roots` and those in the PEM file `ca`; TLS 1.2 and 1.3.
pub(super) fn client_config(
    roots: &Arc<RootCertStore>,
    ca: Option<&PathBuf>,
) -> Result<Arc<ClientConfig>, BadTls> {
    let mut roots = Arc::clone(roots);
    if let Some(path) = ca {
        add_roots(Arc::make_mut(&mut roots), path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
