//! `[acme]`: certificates that are got and renewed without anybody doing anything.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::document::Section;
use super::upstreams::host;
use super::value::{again, one_of, path, text};
use super::{HostName, HttpsUrl, Listen};

const STATE: &str = "/var/lib/hookgate/acme";
/// The most names that authorities put in one certificate.
const MAX_DOMAINS: usize = 100;

/// `[acme]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acme {
    /// The names that the certificate has. Empty: none is asked for, and only `webroot` counts.
    pub domains: Vec<HostName>,
    pub contact: Vec<String>,
    /// The authority's directory (RFC 8555 §7.1.1).
    pub directory: HttpsUrl,
    /// A PEM file with more roots for the authority alone.
    pub ca: Option<PathBuf>,
    pub challenge: Challenge,
    /// The folder for account, keys and certificates.
    pub state: PathBuf,
    /// The folder of another client's answers to http-01, below `.well-known/acme-challenge/`.
    pub webroot: Option<PathBuf>,
}

/// How the authority convinces itself that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    /// RFC 8555 §8.3.
    Http01,
    /// RFC 8737.
    TlsAlpn01,
}

impl Challenge {
    /// Where the authority comes to: the port that it asks for, and those that are listened on.
    pub(super) fn ports(self, listen: &Listen) -> Vec<u16> {
        let (listeners, port) = match self {
            Self::Http01 => (&listen.http, 80),
            Self::TlsAlpn01 => (&listen.https, 443),
        };
        listeners.iter().map(SocketAddr::port).chain([port]).collect()
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        })
    }
}

pub(super) fn keys(section: &mut Section<'_>, base: &Path, listen: &Listen) -> Acme {
    let challenges = [("http-01", Challenge::Http01), ("tls-alpn-01", Challenge::TlsAlpn01)];
    let written = section.list("domains", domain);
    let acme = Acme {
        domains: written.clone().unwrap_or_default(),
        contact: section.list("contact", contact).unwrap_or_default(),
        directory: section.value("directory", directory).unwrap_or_else(HttpsUrl::lets_encrypt),
        ca: section.value("ca", path(base)),
        challenge: section.value("challenge", one_of(&challenges)).unwrap_or(Challenge::Http01),
        state: section.value("state", path(base)).unwrap_or_else(|| STATE.into()),
        webroot: section.value("webroot", path(base)),
    };
    if !section.is_present() {
        return acme;
    }
    let domains = &acme.domains;
    if domains.is_empty() {
        // Names that are wrong have been told.
        if acme.webroot.is_none() && (written.is_some() || !section.seems_to_have("domains")) {
            section.problem(
                "domains",
                "which names shall the certificate have? write domains = [\"your.name\"]",
            );
        }
        return acme;
    }
    if let Some(twice) = again(domains) {
        section.problem("domains", &format!("`{twice}` is named twice; remove one"));
    }
    if domains.len() > MAX_DOMAINS {
        section.problem("domains", &format!("at most {MAX_DOMAINS}, as many as a certificate can have"));
    }
    let is_wrong = |key| section.document().is_wrong(key);
    if listen.https.is_empty() && !is_wrong("listen.https") {
        section.problem("domains", "nothing would show the certificate: write [listen] https");
    }
    if acme.challenge == Challenge::Http01 && listen.http.is_empty() && !is_wrong("listen.http") {
        let message = "http-01 comes to port 80: write [listen] http = [\"0.0.0.0:80\", \"[::]:80\"], \
                       or challenge = \"tls-alpn-01\"";
        section.problem("challenge", message);
    }
    acme
}

fn domain(value: &toml::de::DeValue<'_>) -> Result<HostName, String> {
    let written = text(value)?;
    if written.starts_with("*.") {
        return Err(format!(
            "`{written}`: wildcards take a DNS challenge, which there is not; name each host"
        ));
    }
    host("write the name by which clients come, which the certificate is for")(value)
}

fn contact(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let written = text(value)?;
    match contact_domain(written) {
        Ok(_) => Ok(written.to_owned()),
        Err(why) => Err(format!("`{written}`: {why}; write your own address, or leave contact out")),
    }
}

/// The domain of a contact's address.
///
/// Errors: why no authority accepts it.
pub fn contact_domain(written: &str) -> Result<&str, &'static str> {
    let address = written.strip_prefix("mailto:").ok_or("must begin with mailto:")?;
    if address.contains(',') {
        return Err("one address each: [\"mailto:A\", \"mailto:B\"]");
    }
    if address.contains('?') {
        return Err("nothing may follow the address");
    }
    let (user, domain) = address.rsplit_once('@').ok_or("not an e-mail address")?;
    let is_plain = user.bytes().all(|b| b.is_ascii_graphic() && !b"@<>()[]:;\"\\".contains(&b));
    if user.is_empty() || !is_plain || domain.parse::<HostName>().is_err() {
        return Err("not an e-mail address");
    }
    if !domain.contains('.') {
        return Err("no authority can write to that domain");
    }
    Ok(domain)
}

fn directory(value: &toml::de::DeValue<'_>) -> Result<HttpsUrl, String> {
    text(value)?.parse().map_err(|_| "must be the https URL of a directory (RFC 8555)".into())
}
