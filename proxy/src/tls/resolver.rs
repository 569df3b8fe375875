use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::challenges::is_challenge;
use super::{Certificate, Challenges};

/// Picks the certificate for a client, from a set that can be replaced while connections are
/// served.
#[derive(Debug)]
pub struct Resolver {
    offered: RwLock<OfferedCertificates>,
    /// Where authorities ask in TLS.
    challenges: Option<Arc<Challenges>>,
}

/// Those from files first: the first is for clients that name no server, or one that none covers.
#[derive(Debug, Default)]
struct OfferedCertificates {
    from_files: Vec<Arc<Certificate>>,
    automatic: Option<Arc<Certificate>>,
    all: Arc<[Arc<Certificate>]>,
}

impl OfferedCertificates {
    fn gather(&mut self) {
        self.all = self.from_files.iter().chain(&self.automatic).cloned().collect();
    }
}

impl Resolver {
    /// Offers none until it is given some.
    pub(super) fn new(challenges: Option<Arc<Challenges>>) -> Self {
        Self { offered: RwLock::default(), challenges }
    }

    /// Those offered now.
    pub fn current(&self) -> Arc<[Arc<Certificate>]> {
        Arc::clone(&self.offered.read().unwrap_or_else(PoisonError::into_inner).all)
    }

    /// Those that came from files, in the order of the configuration.
    pub fn from_files(&self) -> Vec<Arc<Certificate>> {
        self.offered.read().unwrap_or_else(PoisonError::into_inner).from_files.clone()
    }

    /// The one that is got from an authority, or its placeholder, where there is such.
    pub fn automatic(&self) -> Option<Arc<Certificate>> {
        self.offered.read().unwrap_or_else(PoisonError::into_inner).automatic.clone()
    }

    /// Offers these in place of the others that came from files.
    pub fn replace(&self, certificates: Vec<Certificate>) {
        let mut offered = self.offered.write().unwrap_or_else(PoisonError::into_inner);
        offered.from_files = certificates.into_iter().map(Arc::new).collect();
        offered.gather();
    }

    /// Offers this one in place of the other that was got from an authority.
    pub fn replace_automatic(&self, certificate: Certificate) {
        let mut offered = self.offered.write().unwrap_or_else(PoisonError::into_inner);
        offered.automatic = Some(Arc::new(certificate));
        offered.gather();
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        if let Some(challenges) = self.challenges.as_ref().filter(|_| is_challenge(&hello)) {
            return challenges.certificate(&name?);
        }
        let certificates = self.current();
        let usable = |c: &&Arc<Certificate>| c.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let pick = |candidates: &mut dyn Iterator<Item = &Arc<Certificate>>| {
            let best = candidates.filter(usable).max_by_key(|c| (!c.is_placeholder, c.is_preferred()));
            best.map(|c| Arc::clone(&c.key))
        };
        let named = name.and_then(|name| pick(&mut certificates.iter().filter(|c| c.covers(&name))));
        named.or_else(|| certificates.iter().find(usable).map(|c| Arc::clone(&c.key)))
    }
}
