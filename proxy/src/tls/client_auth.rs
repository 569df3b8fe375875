//! Client certificates: asked for, never demanded; one that is shown must hold.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::chain::{Fingerprint, dns_names, fingerprint, printable};
use crate::observe::clock;

/// Which client certificates count: the configured authorities, what they have revoked, and names.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientAuthority {
    pub roots: Vec<CertificateDer<'static>>,
    pub names: Vec<String>,
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// What the lists name, by [`identity`].
    revoked: HashSet<Fingerprint>,
}

impl ClientAuthority {
    /// `lists`: of certificates that are revoked. One that is damaged names none; rustls refuses
    /// it.
    pub fn new(
        roots: Vec<CertificateDer<'static>>,
        names: Vec<String>,
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Self {
        let mut revoked = HashSet::new();
        for list in &lists {
            let Ok((_, list)) = CertificateRevocationList::from_der(list) else { continue };
            let issuer = list.issuer().as_raw();
            let named = list.iter_revoked_certificates();
            revoked.extend(named.map(|named| identity(issuer, named.raw_serial())));
        }
        Self { roots, names, lists, revoked }
    }
}

/// A certificate, by what it has from its issuer alone (RFC 5280 §4.1.2.2).
fn identity(issuer: &[u8], serial: &[u8]) -> Fingerprint {
    fingerprint(&[issuer, serial])
}

/// Who has issued a list, and when the next one is due, in seconds of Unix time; `None`: it does
/// not say.
pub fn next_update(list: &CertificateRevocationListDer<'_>) -> Option<(String, i64)> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    Some((printable(&list.issuer().to_string()), list.next_update()?.timestamp()))
}

/// A client that has shown a certificate, in its handshake or in the one that it resumes.
#[derive(Debug)]
pub struct VerifiedClient {
    /// In force when the certificate was verified.
    authority: Arc<ClientAuthority>,
    /// In seconds of Unix time.
    not_after: i64,
    /// Of each certificate in its chain.
    identities: Box<[Fingerprint]>,
}

impl VerifiedClient {
    /// Of the chain that a handshake under `authority` has verified, leaf first.
    pub fn new(chain: &[CertificateDer<'_>], authority: &Arc<ClientAuthority>) -> Option<Self> {
        let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
        let not_after = leaf.validity().not_after.timestamp();
        let identities = chain.iter().filter_map(|certificate| {
            let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
            Some(identity(certificate.issuer().as_raw(), certificate.raw_serial()))
        });
        Some(Self { authority: Arc::clone(authority), not_after, identities: identities.collect() })
    }

    /// Whether it would be verified again: the certificate has not expired, the same authority is
    /// in force, and has not revoked it. rustls checks none of it for a connection that is kept,
    /// nor when a session is resumed.
    pub fn is_valid(&self, in_force: Option<&Arc<ClientAuthority>>) -> bool {
        in_force.is_some_and(|authority| self.is_under(authority))
            && clock::now().as_second() <= self.not_after
    }

    /// Whether the same authority is in force, be it read anew, and has revoked nothing of the
    /// chain.
    fn is_under(&self, in_force: &Arc<ClientAuthority>) -> bool {
        let ClientAuthority { roots, names, revoked, lists: _ } = &**in_force;
        Arc::ptr_eq(&self.authority, in_force)
            || self.authority.roots == *roots
                && self.authority.names == *names
                && !self.identities.iter().any(|identity| revoked.contains(identity))
    }
}

/// Leaves the chain to rustls and checks the name.
#[derive(Debug)]
pub(super) struct NamedClients {
    chain: Arc<dyn ClientCertVerifier>,
    /// In lower case; empty: any name.
    names: Vec<String>,
}

impl NamedClients {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, names: &[String]) -> Self {
        Self { chain, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether the common name or a DNS name of `certificate` is one of the expected, without
    /// wildcards.
    fn names_match(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
        let common_names = parsed
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .map(str::to_ascii_lowercase);
        common_names.chain(dns_names(&parsed)).any(|name| self.names.contains(&name))
    }
}

impl ClientCertVerifier for NamedClients {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        if self.names.is_empty() || self.names_match(end_entity) {
            return Ok(verified);
        }
        // This error becomes the alert `access_denied`.
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
