use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::TempDir;

/// A certificate authority made on the spot; nothing outside trusts it.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A server certificate and its key, with the authority that a client must trust; all PEM.
#[derive(Clone)]
pub struct Certs {
    pub ca: String,
    pub cert: String,
    pub key: String,
}

impl Ca {
    /// # Errors
    /// The system gives no randomness.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// A server certificate for DNS names and IP addresses.
    ///
    /// # Errors
    /// A name is neither.
    pub fn issue(&self, names: &[&str]) -> Result<Certs> {
        self.issue_until(names, 4096)
    }

    /// The same, valid to the end of a year.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn issue_until(&self, names: &[&str], year: i32) -> Result<Certs> {
        let owned = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params =
            CertificateParams::new(owned).with_context(|| format!("a certificate for {names:?}"))?;
        if let Some(first) = names.first() {
            params.distinguished_name.push(DnType::CommonName, *first);
        }
        params.not_after = date_time_ymd(year, 12, 31);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.0)?;
        Ok(Certs { ca: self.0.pem(), cert: cert.pem(), key: key.serialize_pem() })
    }
}

impl Certs {
    /// A server certificate from an authority of its own.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn new(names: &[&str]) -> Result<Self> {
        Ca::new("hookgate test authority")?.issue(names)
    }

    /// Writes `<name>-ca.pem`, `<name>-cert.pem` and `<name>-key.pem`, and returns the paths in this order.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, dir: &TempDir, name: &str) -> Result<[PathBuf; 3]> {
        Ok([
            dir.write(&format!("{name}-ca.pem"), &self.ca)?,
            dir.write(&format!("{name}-cert.pem"), &self.cert)?,
            dir.write(&format!("{name}-key.pem"), &self.key)?,
        ])
    }
}
