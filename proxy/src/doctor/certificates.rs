//! The certificates that clients are shown.

use jiff::Timestamp;

use super::Finding;
use crate::access::Disk;
use crate::acme::Store;
use crate::config::{Config, Mode, Pair};
use crate::observe::clock::{self, date};
use crate::tls::{self, Certificate};

const DAY: i64 = 24 * 3600;
/// Less than that left, and whoever renews has missed more than one chance.
const SOON: i64 = 14 * DAY;

pub fn findings(config: &Config) -> Vec<Finding> {
    let Some(tls) = &config.tls else { return Vec::new() };
    let pairs = tls.pairs.iter().flat_map(|pair| certificate(pair, clock::now()));
    pairs.chain(automatic(config)).chain(certbot(config)).collect()
}

/// The one from `[acme]`, as it is kept.
fn automatic(config: &Config) -> Vec<Finding> {
    let Some(acme) = config.acme.as_ref().filter(|acme| !acme.domains.is_empty()) else { return Vec::new() };
    let path = Store::new(acme, &Disk).certificate_path();
    match path.try_exists() {
        Ok(true) => certificate(&Pair { cert: path.clone(), key: path }, clock::now()),
        Ok(false) => {
            let text = format!("none for {} yet", acme.domains.join(", "));
            let next = "hookgate run gets it; its log and /ready say what is in the way";
            vec![Finding::warn("certificate from [acme]", text, next)]
        }
        Err(error) => {
            vec![Finding::warn(
                "certificate from [acme]",
                format!("{}: {error}", path.display()),
                "run as root",
            )]
        }
    }
}

fn certificate(pair: &Pair, now: Timestamp) -> Vec<Finding> {
    let subject = format!("certificate {}", pair.cert.display());
    match tls::load(pair, &Disk) {
        Err(error) => vec![Finding::fail(subject, error.to_string(), "correct [tls]")],
        Ok(certificate) => {
            let mut findings = vec![validity(&subject, &certificate, now)];
            findings.extend(chain(subject, &certificate));
            findings
        }
    }
}

fn validity(subject: &str, certificate: &Certificate, now: Timestamp) -> Finding {
    let names = match certificate.names() {
        [] => return Finding::fail(subject, "names no host", "use one that names the callback URL's host"),
        names => names.join(", "),
    };
    let (now, left) = (now.as_second(), certificate.not_after - now.as_second());
    if certificate.not_before > now {
        let next = "is the clock right?";
        return Finding::fail(
            subject,
            format!("{names}: not valid before {}", date(certificate.not_before)),
            next,
        );
    }
    let end = date(certificate.not_after);
    match left {
        ..0 => {
            Finding::fail(subject, format!("{names}: expired on {end}"), "renew it: Meta delivers nothing")
        }
        // What is short-lived is renewed late.
        left if left < SOON.min((certificate.not_after - certificate.not_before) / 4) => {
            let text = format!("{names}: expires on {end}, in {} days", left / DAY);
            Finding::warn(subject, text, "renew it; does what should renew it run?")
        }
        _ => Finding::ok(subject, format!("{names}, until {end}")),
    }
}

/// What Meta's client would mind about it.
fn chain(subject: String, certificate: &Certificate) -> Option<Finding> {
    if certificate.is_self_signed {
        let next = "Meta delivers only to certificates of a public authority";
        return Some(Finding::warn(subject, "signed by itself", next));
    }
    (certificate.chain_length() == 1).then(|| {
        let next = "give the whole chain (certbot's fullchain.pem), unless a root has signed it directly";
        Finding::warn(subject, "the file has no certificate of the authority that signed it", next)
    })
}

/// certbot's authority knocks at port 80, which `strict` would not open to it.
fn certbot(config: &Config) -> Option<Finding> {
    const HTTP: u16 = 80;
    let guard =
        config.guard.as_ref().filter(|guard| guard.mode == Mode::Strict && guard.ports.contains(&HTTP))?;
    let of_certbot = |pair: &&Pair| pair.cert.starts_with("/etc/letsencrypt");
    config.tls.iter().flat_map(|tls| &tls.pairs).find(of_certbot)?;
    let text = format!(
        "renewals will fail: the authority comes to port {HTTP}, where mode \"{}\" drops it",
        guard.mode
    );
    let next = "take 80 out of [guard] ports, use mode \"limit\", or let certbot use a DNS challenge";
    Some(Finding::warn("certbot", text, next))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn certbot_and_strict_go_together_only_where_80_is_open() {
        for (mode, ports, cert, expected) in [
            ("strict", "[80, 443]", "/etc/letsencrypt/live/p/fullchain.pem", Some(Level::Warn)),
            ("strict", "[443]", "/etc/letsencrypt/live/p/fullchain.pem", None),
            ("limit", "[80, 443]", "/etc/letsencrypt/live/p/fullchain.pem", None),
            ("strict", "[80, 443]", "/etc/ssl/p.pem", None),
        ] {
            let text = format!(
                "[listen]\nhttps = [\"0.0.0.0:443\"]\n[tls]\ncert = \"{cert}\"\nkey = \"/k\"\n\
                 [guard]\ninterfaces = [\"eth0\"]\nmode = \"{mode}\"\nports = {ports}\n"
            );
            let config = Config::parse(Path::new("hookgate.toml"), &text).unwrap();
            assert_eq!(certbot(&config).map(|finding| finding.level), expected, "{mode} {ports} {cert}");
        }
    }
    #[test]
    fn what_has_not_been_got_yet_is_told() {
        let state = std::env::temp_dir().join(format!("hookgate-doctor-acme-{}", std::process::id()));
        let text = format!(
            "[listen]\nhttps = [\"0.0.0.0:443\"]\nhttp = [\"0.0.0.0:80\"]\n[acme]\n\
             domains = [\"p.example\"]\nstate = {state:?}\n"
        );
        let config = Config::parse(Path::new("hookgate.toml"), &text).unwrap();
        let found = findings(&config);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].level, &*found[0].text), (Level::Warn, "none for p.example yet"));
        let path = Store::new(config.acme.as_ref().unwrap(), &Disk).certificate_path();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "nonsense").unwrap();
        assert_eq!(findings(&config)[0].level, Level::Fail);
        std::fs::remove_dir_all(state).unwrap();
    }
}
