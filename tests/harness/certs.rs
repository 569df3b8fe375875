use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::TempDir;

/// A certificate authority made on the spot; nothing outside trusts it.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// PEM of the root that clients know.
    root: String,
    /// PEM of what stands between the root and what is issued here.
    between: String,
}

/// A certificate (with what stands between it and the root) and its key, and the root that the
/// other side must trust; all PEM.
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
        let issuer = CertifiedIssuer::self_signed(authority(name, 1)?, KeyPair::generate()?)?;
        Ok(Self { root: issuer.pem(), between: String::new(), issuer })
    }

    /// An intermediate authority.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn below(&self, name: &str) -> Result<Self> {
        let mut params = authority(name, 0)?;
        params.use_authority_key_identifier_extension = true;
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate()?, &self.issuer)?;
        Ok(Self { root: self.root.clone(), between: issuer.pem(), issuer })
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
        let mut params = leaf(names.first().copied(), names, ExtendedKeyUsagePurpose::ServerAuth)?;
        params.not_after = date_time_ymd(year, 12, 31);
        self.sign(params, &KeyPair::generate()?)
    }

    /// The same, valid for `days` from now.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn issue_for_days(&self, names: &[&str], days: u64) -> Result<Certs> {
        let mut params = leaf(names.first().copied(), names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?;
        params.not_after = date_time_ymd(1970, 1, 1) + (now + Duration::from_secs(days * 24 * 3600));
        self.sign(params, &KeyPair::generate()?)
    }

    /// The same, valid from the beginning of a year on.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn issue_from(&self, names: &[&str], year: i32) -> Result<Certs> {
        let mut params = leaf(names.first().copied(), names, ExtendedKeyUsagePurpose::ServerAuth)?;
        (params.not_before, params.not_after) = (date_time_ymd(year, 1, 1), date_time_ymd(year + 1, 1, 1));
        self.sign(params, &KeyPair::generate()?)
    }

    /// The same for a key that you have (PEM, PKCS #8).
    ///
    /// # Errors
    /// As [`Ca::issue`], or it is no key.
    pub fn issue_for_key(&self, names: &[&str], key: &str) -> Result<Certs> {
        let params = leaf(names.first().copied(), names, ExtendedKeyUsagePurpose::ServerAuth)?;
        self.sign(params, &KeyPair::from_pem(key)?)
    }

    /// A client certificate with a common name and DNS names, valid to the end of a year.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn issue_to_client(&self, common_name: &str, names: &[&str], year: i32) -> Result<Certs> {
        let mut params = leaf(Some(common_name), names, ExtendedKeyUsagePurpose::ClientAuth)?;
        params.not_after = date_time_ymd(year, 12, 31);
        self.sign(params, &KeyPair::generate()?)
    }

    /// A client certificate with a common name, valid for `seconds` from now.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn issue_to_client_for_seconds(&self, common_name: &str, seconds: u64) -> Result<Certs> {
        let mut params = leaf(Some(common_name), &[], ExtendedKeyUsagePurpose::ClientAuth)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?;
        params.not_after = date_time_ymd(1970, 1, 1) + (now + Duration::from_secs(seconds));
        self.sign(params, &KeyPair::generate()?)
    }

    /// Its own certificate and key; PEM.
    pub fn own(&self) -> [String; 2] {
        [self.issuer.pem(), self.issuer.key().serialize_pem()]
    }

    fn sign(&self, params: CertificateParams, key: &KeyPair) -> Result<Certs> {
        let cert = params.signed_by(key, &self.issuer)?.pem() + &self.between;
        Ok(Certs { ca: self.root.clone(), cert, key: key.serialize_pem() })
    }
}

fn authority(name: &str, most_below: u8) -> Result<CertificateParams> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most_below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf(
    common_name: Option<&str>,
    names: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams> {
    let owned = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(owned).with_context(|| format!("a certificate for {names:?}"))?;
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

impl Certs {
    /// A server certificate from an authority of its own.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn new(names: &[&str]) -> Result<Self> {
        Ca::new("hookgate test authority")?.issue(names)
    }

    /// Writes `<name>-ca.pem`, `<name>-cert.pem` and `<name>-key.pem`, and returns the paths in
    /// this order.
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
