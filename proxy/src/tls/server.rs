use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::certificate::BadCertificate;
use super::client_auth::{ClientAuthority, NamedClients};
use super::pem::{BadPem, certificates, revocation_lists};
use super::provider::provider;
use super::{ACME_TLS, Certificate, Challenges, Resolver};
use crate::access::Access;
use crate::config;

/// TLS towards clients cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadTls {
    #[error("{}", joined(.0))]
    Certificates(Vec<BadCertificate>),
    #[error(transparent)]
    Pem(#[from] BadPem),
    #[error(
        "a certificate in {path} cannot be used as a root: it is not valid X.509: give the authority's own \
         certificate, as PEM"
    )]
    Root { path: PathBuf },
    #[error("{path} cannot be used for client certificates: {error}")]
    ClientCa { path: PathBuf, error: VerifierBuilderError },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

fn joined(all: &[BadCertificate]) -> String {
    all.iter().map(BadCertificate::to_string).collect::<Vec<_>>().join("; ")
}

/// TLS 1.2 and 1.3, HTTP/1.x alone, sessions resumed by tickets whose keys rotate; and what its
/// certificates come from. With `challenges`, certificate authorities that look at certificates are
/// answered too. `authority`: from [`client_authority`].
pub fn server_config(
    tls: &config::Tls,
    authority: &ClientAuthority,
    challenges: Option<Arc<Challenges>>,
    access: &dyn Access,
) -> Result<(Arc<ServerConfig>, Arc<Resolver>), BadTls> {
    let provider = provider();
    let mut protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    protocols.extend(challenges.is_some().then(|| ACME_TLS.to_vec()));
    let resolver = Arc::new(Resolver::new(challenges));
    resolver.replace(load_all(tls, access, &provider)?);
    let verifier = client_verifier(tls, authority, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver.clone());
    config.alpn_protocols = protocols;
    config.ignore_client_order = true;
    // For the kernel.
    config.enable_secret_extraction = true;
    config.ticketer = Ticketer::new()?;
    Ok((Arc::new(config), resolver))
}

/// Reads all pairs again, for [`Resolver::replace`].
pub fn load_pairs(tls: &config::Tls, access: &dyn Access) -> Result<Vec<Certificate>, BadTls> {
    load_all(tls, access, &provider())
}

/// What `client_ca` and `client_crl` hold; nothing where they are not configured.
pub fn client_authority(tls: &config::Tls, access: &dyn Access) -> Result<ClientAuthority, BadTls> {
    let roots = tls.client_ca.as_ref().map(|path| certificates(path, access)).transpose()?;
    let lists = tls.client_crl.as_ref().map(|path| revocation_lists(path, access)).transpose()?;
    let names = tls.client_names.clone();
    Ok(ClientAuthority::new(roots.unwrap_or_default(), names, lists.unwrap_or_default()))
}

/// Reads one pair and checks it, as a start does.
///
/// Errors: all that can be told of its two files.
pub fn load(pair: &config::Pair, access: &dyn Access) -> Result<Certificate, Vec<BadCertificate>> {
    Certificate::load(pair, access, &provider())
}

fn load_all(
    tls: &config::Tls,
    access: &dyn Access,
    provider: &CryptoProvider,
) -> Result<Vec<Certificate>, BadTls> {
    let load = |pair| Certificate::load(pair, access, provider);
    tls.pairs.iter().map(load).collect::<Result<_, _>>().map_err(BadTls::Certificates)
}

fn client_verifier(
    tls: &config::Tls,
    authority: &ClientAuthority,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, BadTls> {
    let Some(path) = &tls.client_ca else { return Ok(Arc::new(NoClientAuth)) };
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, &authority.roots, path)?;
    // A certificate of an authority without a list counts, and so does one under a list that has
    // expired: who forgets to fetch a list loses no webhooks.
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .with_crls(authority.lists.iter().cloned())
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| BadTls::ClientCa { path: unusable_file(tls, path, &error).clone(), error })?;
    Ok(Arc::new(NamedClients::new(chain, &tls.client_names)))
}

/// The file that a verifier of client certificates can't be built from.
fn unusable_file<'a>(tls: &'a config::Tls, ca: &'a PathBuf, error: &VerifierBuilderError) -> &'a PathBuf {
    match (error, &tls.client_crl) {
        (VerifierBuilderError::InvalidCrl(_), Some(crl)) => crl,
        _ => ca,
    }
}

/// Adds `certificates`, which were read from `path`.
pub fn add_roots(
    roots: &mut RootCertStore,
    certificates: &[CertificateDer<'static>],
    path: &Path,
) -> Result<(), BadTls> {
    for certificate in certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|_| BadTls::Root { path: path.to_owned() })?;
    }
    Ok(())
}
