use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Certificate;

/// Picks the certificate for a client, from a set that can be replaced while connections are served.
#[derive(Debug)]
pub struct Resolver {
    certificates: RwLock<Arc<[Certificate]>>,
}

impl Resolver {
    /// The first certificate is for clients that name no server, or one that none covers.
    pub(super) fn new(certificates: Vec<Certificate>) -> Self {
        Self { certificates: RwLock::new(certificates.into()) }
    }

    /// Those offered now.
    pub fn current(&self) -> Arc<[Certificate]> {
        Arc::clone(&self.certificates.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, certificates: Vec<Certificate>) {
        *self.certificates.write().unwrap_or_else(PoisonError::into_inner) = certificates.into();
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.current();
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let usable = |c: &&Certificate| c.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let pick = |candidates: &mut dyn Iterator<Item = &Certificate>| {
            candidates.filter(usable).max_by_key(|c| c.is_preferred()).map(|c| Arc::clone(&c.key))
        };
        let named = name.and_then(|name| pick(&mut certificates.iter().filter(|c| c.covers(&name))));
        named.or_else(|| certificates.iter().find(usable).map(|c| Arc::clone(&c.key)))
    }
}
