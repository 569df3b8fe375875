//! The certificates in force: those from files, which are read again when they change; and the one that an authority gives,
//! which is renewed here.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::access::Access;
use crate::acme::{BadAcme, Renewal};
use crate::config::{self, Acme, Challenge, Config};
use crate::observe::Log;
use crate::tls::{self, BadTls, Challenges, Resolver};

/// The certificates in force, and where they come from.
pub(super) struct Certificates {
    tls: config::Tls,
    acme: Option<Acme>,
    dns: config::Dns,
    server_config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    renewal: Option<Arc<Renewal>>,
    access: Arc<dyn Access>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificates {
    #[error(transparent)]
    Tls(#[from] BadTls),
    #[error(transparent)]
    Acme(#[from] BadAcme),
}

impl Certificates {
    /// Loads them, and what TLS towards clients needs besides; `None`: there is no TLS.
    pub(super) fn load(
        config: &Config,
        log: &Log,
        access: &Arc<dyn Access>,
    ) -> Result<Option<Self>, BadCertificates> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let acme = config.acme.as_ref().filter(|acme| !acme.domains.is_empty());
        let renewal = acme.map(|acme| Renewal::new(acme, &config.dns, log.clone(), access)).transpose()?;
        let in_tls = acme.is_some_and(|acme| acme.challenge == Challenge::TlsAlpn01);
        let challenges = renewal.as_ref().filter(|_| in_tls).map(Renewal::challenges);
        let (server_config, resolver) = tls::server_config(tls, challenges, &**access)?;
        if let Some(renewal) = &renewal {
            resolver.replace_automatic(renewal.first()?);
        }
        Ok(Some(Self {
            tls: tls.clone(),
            acme: config.acme.clone(),
            dns: config.dns.clone(),
            server_config,
            resolver,
            renewal: renewal.map(Arc::new),
            access: Arc::clone(access),
        }))
    }

    /// What handshakes are made with.
    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server_config)
    }

    /// Where the certificates in force are found.
    pub(super) fn resolver(&self) -> Arc<Resolver> {
        Arc::clone(&self.resolver)
    }

    /// Who sees to the one from an authority, where there is one.
    pub(super) fn renewal(&self) -> Option<&Arc<Renewal>> {
        self.renewal.as_ref()
    }

    /// Makes the folder for what an authority gives.
    pub(super) fn prepare(&self) -> Result<(), BadCertificates> {
        Ok(self.renewal.as_ref().map_or(Ok(()), |renewal| renewal.prepare())?)
    }

    /// Whether they are what is configured, and reading their files again is all that there is to do.
    pub(super) fn serve(&self, config: &Config) -> bool {
        let is_same = config.tls.as_ref() == Some(&self.tls) && config.acme == self.acme;
        is_same && self.tls.client_ca.is_none() && (self.renewal.is_none() || config.dns == self.dns)
    }

    /// Reads the files; those that do not work leave the old certificates in force.
    pub(super) fn read_again(&self) -> Result<(), BadTls> {
        tls::reload(&self.tls, &self.resolver, &*self.access)
    }
}

/// What certificate authorities are answered over HTTP, if anything.
pub(super) fn challenges(
    config: &Config,
    certificates: Option<&Certificates>,
    access: &Arc<dyn Access>,
) -> Option<Arc<Challenges>> {
    match certificates.and_then(Certificates::renewal) {
        Some(renewal) => Some(renewal.challenges()),
        None => {
            let webroot = config.acme.as_ref()?.webroot.clone();
            Some(Arc::new(Challenges::new(webroot, access)))
        }
    }
}
