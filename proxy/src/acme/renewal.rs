use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use tokio::sync::Notify;

use super::store::{BadState, Store};
use super::transport::AcmeTransport;
use crate::access::Access;
use crate::config::{self, Acme, HostName};
use crate::observe::{Counter, Exposition, Log, clock};
use crate::tls::{BadTls, CannotSign, Certificate, Challenges, Fingerprint, placeholder};
use crate::upstream::dns::BadDns;
use crate::upstream::{Dns, client_config_and_ca};

/// Certificates cannot be got as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadAcme {
    #[error("[acme] state: {0}")]
    State(#[from] BadState),
    #[error("[acme] ca: {0}")]
    Ca(#[from] BadTls),
    #[error("[acme]: {0}")]
    Placeholder(#[from] CannotSign),
    #[error(transparent)]
    Dns(#[from] BadDns),
}

/// Sees to it that there is a certificate.
pub struct Renewal {
    pub(super) acme: Acme,
    pub(super) store: Store,
    pub(super) challenges: Arc<Challenges>,
    pub(super) transport: AcmeTransport,
    pub(super) wake: Notify,
    /// Fingerprint of the certificates in `[acme] ca`.
    ca: Mutex<Fingerprint>,
    log: Mutex<Log>,
    progress: Mutex<Progress>,
    pub(super) issued: Counter,
    pub(super) failed: Counter,
}

/// How the authority's own TLS certificate is verified.
pub struct TrustedAuthority {
    config: Arc<ClientConfig>,
    /// Fingerprint of the certificates in `ca`.
    ca: Fingerprint,
}

impl TrustedAuthority {
    fn read(acme: &Acme, access: &dyn Access) -> Result<Self, BadAcme> {
        let (config, ca) = client_config_and_ca(acme.ca.as_deref(), access)?;
        Ok(Self { config, ca })
    }
}

/// How it stands.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// When the authority is asked next for a certificate, in Unix time; `None`: it is being asked.
    pub next: Option<i64>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
}

impl Renewal {
    /// For certificates of `acme`, which has domains.
    pub fn new(acme: &Acme, dns: &config::Dns, log: Log, access: &Arc<dyn Access>) -> Result<Self, BadAcme> {
        let dns = Dns::new(dns, &**access)?;
        let TrustedAuthority { config, ca } = TrustedAuthority::read(acme, &**access)?;
        Ok(Self {
            store: Store::new(acme, &**access),
            challenges: Arc::new(Challenges::new(acme.webroot.clone(), access)),
            transport: AcmeTransport::new(dns, config),
            ca: Mutex::new(ca),
            wake: Notify::new(),
            log: Mutex::new(log),
            progress: Mutex::default(),
            issued: Counter::default(),
            failed: Counter::default(),
            acme: acme.clone(),
        })
    }

    /// What the authority is answered with.
    pub fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.challenges)
    }

    /// The certificate to begin with: the one that is kept, else another authority's for the same
    /// names, else a self-signed one; the last two as placeholders.
    ///
    /// Errors: what is kept cannot be read. A file that holds no certificate counts as missing.
    pub fn first(&self) -> Result<Certificate, BadAcme> {
        match self.store.certificate() {
            Ok(Some(certificate)) => return Ok(certificate),
            Ok(None) => {}
            Err(BadState::Certificate(bad)) => self.note(&format!("the certificate that was kept: {bad}")),
            Err(error) => return Err(error.into()),
        }
        match self.store.fallback_certificate(&self.acme.domains, clock::now().as_second()) {
            Some(other) => Ok(other),
            None => Ok(placeholder(&self.acme.domains)?),
        }
    }

    /// Makes the folders for what is kept.
    pub fn prepare(&self) -> Result<(), BadAcme> {
        Ok(self.store.prepare()?)
    }

    /// Reads this machine's roots and `[acme] ca` again; nothing changes yet.
    pub fn read_authority(&self, access: &dyn Access) -> Result<TrustedAuthority, BadAcme> {
        TrustedAuthority::read(&self.acme, access)
    }

    /// Verifies the authority like this from now on.
    pub fn trust(&self, TrustedAuthority { config, ca }: TrustedAuthority) {
        self.transport.trust(config);
        *self.ca.lock().unwrap_or_else(PoisonError::into_inner) = ca;
    }

    /// Fingerprint of the certificates in `[acme] ca`.
    pub fn authority_fingerprint(&self) -> Fingerprint {
        *self.ca.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn domains(&self) -> &[HostName] {
        &self.acme.domains
    }

    /// The authority's, a URL.
    pub fn directory(&self) -> &str {
        &self.acme.directory
    }

    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The operator may have mended what was in the way: what failed is tried again sooner.
    pub fn wake(&self, log: Log) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = log;
        self.wake.notify_one();
    }

    /// Appends what has been counted.
    pub fn expose(&self, to: &mut Exposition) {
        to.family("hookgate_acme_orders_total", "counter", "Certificates asked for, by what came of it");
        to.used_sample(&[("reason", "issued")], &self.issued);
        to.used_sample(&[("reason", "failed")], &self.failed);
        if let Some(next) = self.progress().next {
            to.family(
                "hookgate_acme_next_order_seconds",
                "gauge",
                "When a certificate is asked for next, in Unix time",
            );
            to.sample(&[], next);
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn note(&self, message: &str) {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        log.note(&format!("acme: {message}"));
    }
}
