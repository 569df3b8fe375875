//! The certificates that clients are shown.

use jiff::Timestamp;

use super::Finding;
use crate::access::Disk;
use crate::acme::Store;
use crate::check;
use crate::config::{Config, Key, Pair};
use crate::observe::clock::{self, date};

pub fn findings(config: &Config) -> Vec<Finding> {
    let Some(tls) = &config.tls else { return Vec::new() };
    let pairs = tls.pairs.iter().flat_map(|pair| certificate(&Key::new("tls"), pair, clock::now()));
    pairs.chain(automatic(config)).chain(certbot(config)).collect()
}

/// The one from `[acme]`, as it is kept.
fn automatic(config: &Config) -> Vec<Finding> {
    let Some(acme) = config.acme.as_ref().filter(|acme| !acme.domains.is_empty()) else { return Vec::new() };
    let path = Store::new(acme, &Disk).certificate_path();
    match path.try_exists() {
        Ok(true) => {
            let pair = Pair { cert: path.clone(), key: path };
            certificate(&Key::new("acme.state"), &pair, clock::now())
        }
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

fn certificate(at: &Key, pair: &Pair, now: Timestamp) -> Vec<Finding> {
    let subject = format!("certificate {}", pair.cert.display());
    match check::certificate(at, pair, now) {
        (Some(certificate), faults) if faults.is_empty() => {
            let text = format!("{}, until {}", certificate.names().join(", "), date(certificate.not_after));
            vec![Finding::ok(subject, text)]
        }
        (_, faults) => faults.into_iter().map(|fault| Finding::of(subject.clone(), fault)).collect(),
    }
}

fn certbot(config: &Config) -> Option<Finding> {
    check::certbot(config).map(|fault| Finding::of("certbot", fault))
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
