//! The certificates in force: those from files, which are read again when they change; and the one
//! that an authority gives, which is renewed here.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::access::Access;
use crate::acme::{BadAcme, Renewal, TrustedAuthority};
use crate::config::{self, Acme, Challenge, Config};
use crate::observe::Log;
use crate::tls::{
    self, BadTls, Certificate, Challenges, ClientAuthority, Fingerprint, Resolver, fingerprint,
};

/// The certificates in force, and where they come from.
pub(super) struct Certificates {
    tls: config::Tls,
    acme: Option<Acme>,
    dns: config::Dns,
    server_config: Arc<ServerConfig>,
    client_authority: Arc<ClientAuthority>,
    resolver: Arc<Resolver>,
    renewal: Option<Arc<Renewal>>,
    access: Arc<dyn Access>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    #[error(transparent)]
    Tls(#[from] BadTls),
    #[error(transparent)]
    Acme(#[from] BadAcme),
}

/// What the files hold now: read and checked, not in force yet.
pub(super) struct NewFiles {
    pairs: Vec<Certificate>,
    authority: Option<TrustedAuthority>,
}

impl Certificates {
    /// Loads them, and what TLS towards clients needs besides; `None`: there is no TLS.
    pub(super) fn load(
        config: &Config,
        log: &Log,
        access: &Arc<dyn Access>,
    ) -> Result<Option<Self>, CertificatesError> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let acme = config.acme.as_ref().filter(|acme| !acme.domains.is_empty());
        let renewal = acme.map(|acme| Renewal::new(acme, &config.dns, log.clone(), access)).transpose()?;
        let in_tls = acme.is_some_and(|acme| acme.challenge == Challenge::TlsAlpn01);
        let challenges = renewal.as_ref().filter(|_| in_tls).map(Renewal::challenges);
        let client_authority = Arc::new(tls::client_authority(tls, &**access)?);
        let (server_config, resolver) = tls::server_config(tls, &client_authority, challenges, &**access)?;
        if let Some(renewal) = &renewal {
            resolver.replace_automatic(renewal.first()?);
        }
        Ok(Some(Self {
            tls: tls.clone(),
            acme: config.acme.clone(),
            dns: config.dns.clone(),
            client_authority,
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

    /// Which client certificates count.
    pub(super) fn client_authority(&self) -> Arc<ClientAuthority> {
        Arc::clone(&self.client_authority)
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
    pub(super) fn prepare(&self) -> Result<(), CertificatesError> {
        Ok(self.renewal.as_ref().map_or(Ok(()), |renewal| renewal.prepare())?)
    }

    /// Whether they are what is configured, and reading their files again is all that there is to
    /// do.
    ///
    /// Errors: `client_ca` or `client_crl` cannot be used.
    pub(super) fn serve(&self, config: &Config) -> Result<bool, BadTls> {
        let is_same = config.tls.as_ref() == Some(&self.tls) && config.acme == self.acme;
        Ok(is_same
            && (self.renewal.is_none() || config.dns == self.dns)
            && tls::client_authority(&self.tls, &*self.access)? == *self.client_authority)
    }

    /// Reads the files again; nothing changes yet.
    pub(super) fn read_again(&self) -> Result<NewFiles, CertificatesError> {
        let authority = self.renewal.as_ref().map(|renewal| renewal.read_authority(&*self.access));
        Ok(NewFiles { pairs: tls::load_pairs(&self.tls, &*self.access)?, authority: authority.transpose()? })
    }

    /// Puts in force what was read.
    pub(super) fn put_in_force(&self, NewFiles { pairs, authority }: NewFiles) {
        self.resolver.replace(pairs);
        if let Some((renewal, authority)) = self.renewal.as_ref().zip(authority) {
            renewal.trust(authority);
        }
    }

    /// The files in force, and the fingerprint of each.
    pub(super) fn files(&self) -> Vec<(String, Fingerprint)> {
        let pairs = self.tls.pairs.iter().zip(self.resolver.from_files());
        let pairs = pairs
            .map(|(pair, held)| (format!("[tls] certificate: {}", pair.cert.display()), held.fingerprint()));
        let ClientAuthority { roots, lists, .. } = &*self.client_authority;
        let client_ca = self.tls.client_ca.iter();
        let client_ca =
            client_ca.map(|path| (format!("[tls] client_ca: {}", path.display()), fingerprint(roots)));
        let client_crl = self.tls.client_crl.iter();
        let client_crl =
            client_crl.map(|path| (format!("[tls] client_crl: {}", path.display()), fingerprint(lists)));
        let authority = self.renewal.iter().filter_map(|renewal| {
            let path = self.acme.as_ref()?.ca.as_ref()?;
            Some((format!("[acme] ca: {}", path.display()), renewal.authority_fingerprint()))
        });
        pairs.chain(client_ca).chain(client_crl).chain(authority).collect()
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
