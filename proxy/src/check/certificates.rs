//! The certificates that clients are shown, and their keys.

use jiff::Timestamp;

use super::Diagnostic;
use crate::access::Disk;
use crate::acme::{BadState, Store};
use crate::config::{Config, Key, Mode, Pair, Severity, contact_domain};
use crate::observe::clock::{self, date};
use crate::tls::{self, Certificate};

const DAY: i64 = 24 * 3600;
/// With less than that left, a renewal has failed more than once.
const EXPIRY_WARNING_SECONDS: i64 = 14 * DAY;

/// Domains that receive no mail (RFC 2606, RFC 6762).
const REFUSED_MAIL_DOMAINS: [&str; 9] = [
    "example.com",
    "example.net",
    "example.org",
    "example",
    "invalid",
    "test",
    "localhost",
    "local",
    "internal",
];

/// `pairs`: where each of the pairs is written.
pub(super) fn faults(config: &Config, pairs: &[Key]) -> Vec<Diagnostic> {
    let configured = config.tls.iter().flat_map(|tls| &tls.pairs);
    let now = clock::now();
    let of_pairs = pairs.iter().zip(configured).flat_map(|(at, pair)| examine(at, pair, now).1);
    let of_acme = kept(config).into_iter().chain(contacts(config));
    of_pairs.chain(of_acme).chain(certbot(config)).chain(clients(config)).collect()
}

/// Names of clients that no certificate is likely to have.
fn clients(config: &Config) -> Vec<Diagnostic> {
    let names = config.tls.iter().flat_map(|tls| &tls.client_names).enumerate();
    let wildcards = names.filter(|(_, name)| name.contains('*')).map(|(number, name)| {
        let text = format!("`{name}` is compared as it is, not as a wildcard");
        let next = "write each name whole, as the certificate has it";
        Diagnostic::new(Severity::Warning, Key::new("tls.client_names").element(number), text, next)
    });
    wildcards.collect()
}

/// The certificate of a pair, if it can be used, and all that is wrong with it. `at`: the table
/// that has the pair's keys.
pub fn examine(at: &Key, pair: &Pair, now: Timestamp) -> (Option<Certificate>, Vec<Diagnostic>) {
    match tls::load(pair, &Disk) {
        Ok(certificate) => {
            let faults =
                [validity(&certificate, now), usage(&certificate), names(&certificate), chain(&certificate)];
            let fault = |(severity, text, next): Complaint| {
                Diagnostic::new(severity, at.clone().key("cert"), text, next)
            };
            let faults = faults.into_iter().flatten().map(fault).collect();
            (Some(certificate), faults)
        }
        Err(errors) => {
            let key = |blames_key| at.clone().key(if blames_key { "key" } else { "cert" });
            let fault =
                |error: &tls::BadCertificate| Diagnostic::of(Severity::Fatal, key(error.blames_key()), error);
            (None, errors.iter().map(fault).collect())
        }
    }
}

type Complaint = (Severity, String, &'static str);

fn validity(certificate: &Certificate, now: Timestamp) -> Option<Complaint> {
    let (begin, end) = (certificate.not_before, certificate.not_after);
    let now = now.as_second();
    if begin > now {
        let text = format!("the certificate is not valid before {}", date(begin));
        return Some((Severity::Error, text, "is this machine's clock right?"));
    }
    match end - now {
        ..0 => {
            let text = format!("the certificate expired on {}", date(end));
            Some((Severity::Error, text, "renew it; Meta delivers nothing"))
        }
        // What is short-lived is renewed late.
        left if left < EXPIRY_WARNING_SECONDS.min((end - begin) / 4) => {
            let text = format!("the certificate expires on {}, in {} days", date(end), left / DAY);
            Some((Severity::Warning, text, "renew it; does what should renew it run?"))
        }
        _ => None,
    }
}

fn usage(certificate: &Certificate) -> Option<Complaint> {
    let text = "the certificate is not for servers, and Meta's client refuses it".into();
    (!certificate.is_for_servers).then_some((Severity::Error, text, "get one for TLS servers (serverAuth)"))
}

fn names(certificate: &Certificate) -> Option<Complaint> {
    let text = "the certificate names no host".into();
    certificate.names().is_empty().then_some((
        Severity::Warning,
        text,
        "use one for the name in the callback URL",
    ))
}

/// What Meta's client would mind about it.
fn chain(certificate: &Certificate) -> Option<Complaint> {
    let (text, next) = match certificate.chain_length() {
        _ if certificate.is_self_signed => (
            "the certificate is signed by itself",
            "get one of a public authority; Meta delivers to no other",
        ),
        1 => (
            "the file has no certificate of the authority that signed it",
            "give the whole chain (certbot's fullchain.pem), unless a root has signed it directly",
        ),
        _ if !certificate.is_in_order() => (
            "the certificates in the file are not in order",
            "put after each that of the authority that signed it, and nothing else",
        ),
        _ => return None,
    };
    Some((Severity::Warning, text.into(), next))
}

/// The one from `[acme]` that is kept.
fn kept(config: &Config) -> Option<Diagnostic> {
    let acme = config.acme.as_ref().filter(|acme| !acme.domains.is_empty())?;
    let key = Key::new("acme.state");
    match Store::new(acme, &Disk).certificate() {
        Ok(_) => None,
        Err(BadState::Certificate(bad)) => {
            let text = format!("the certificate that was kept can't be used: {bad}");
            Some(Diagnostic::new(Severity::Warning, key, text, "nothing, `hookgate run` gets another"))
        }
        // The check of folders reports a path that leads to none.
        Err(BadState::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotADirectory => None,
        Err(error) => Some(Diagnostic::of(Severity::Fatal, key, &error)),
    }
}

/// Well-formed addresses that authorities refuse.
fn contacts(config: &Config) -> Vec<Diagnostic> {
    let contacts = config.acme.iter().flat_map(|acme| &acme.contact).enumerate();
    let refused = contacts.filter_map(|(number, contact)| {
        let domain = contact_domain(contact).ok()?.to_ascii_lowercase();
        let is_reserved = REFUSED_MAIL_DOMAINS.iter().any(|reserved| {
            domain.strip_suffix(reserved).is_some_and(|above| above.is_empty() || above.ends_with('.'))
        });
        is_reserved.then(|| {
            let at = Key::new("acme.contact").element(number);
            let text = format!("Let's Encrypt refuses {domain}");
            Diagnostic::new(Severity::Warning, at, text, "write your own address, or leave contact out")
        })
    });
    refused.collect()
}

/// certbot's authority knocks at port 80, which `strict` would not open to it.
pub fn certbot(config: &Config) -> Option<Diagnostic> {
    const HTTP: u16 = 80;
    config.guard.as_ref().filter(|guard| guard.mode == Mode::Strict && guard.ports.contains(&HTTP))?;
    let of_certbot = |pair: &&Pair| pair.cert.starts_with("/etc/letsencrypt");
    config.tls.iter().flat_map(|tls| &tls.pairs).find(of_certbot)?;
    let text = format!(
        "certbot's renewals will fail: the authority comes to port {HTTP}, where \"strict\" drops it"
    );
    let next = "take 80 out of [guard] ports, use mode \"limit\", or let certbot use a DNS challenge";
    Some(Diagnostic::new(Severity::Warning, Key::new("guard.mode"), text, next))
}
