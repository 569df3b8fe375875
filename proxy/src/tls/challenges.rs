//! Answers to what a certificate authority asks before it signs.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::OFlags;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::self_signed::{self, CannotSign};

/// The protocol in which an authority asks to be shown a certificate, and nothing else is said (RFC 8737 §4).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where challenges are asked for over HTTP, and lie below a webroot (RFC 8555 §8.3).
const FOLDER: &str = ".well-known/acme-challenge/";
/// The longest answer that is taken from a webroot, in bytes.
const MOST_ANSWER_BYTES: u64 = 4096;

/// The answers that are ready now.
#[derive(Debug, Default)]
pub struct Challenges {
    /// By token.
    texts: RwLock<HashMap<String, String>>,
    /// By name.
    certificates: RwLock<HashMap<String, Arc<CertifiedKey>>>,
    webroot: Option<PathBuf>,
}

/// What an HTTP request asks of the challenges.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    /// A challenge that nobody knows.
    Unknown,
    Answered(Vec<u8>),
}

impl Challenges {
    /// `webroot`: where somebody else's answers lie.
    pub fn new(webroot: Option<PathBuf>) -> Self {
        Self { webroot, ..Self::default() }
    }

    /// From now on `token` is answered with `text`.
    pub fn set_text(&self, token: &str, text: &str) {
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        texts.insert(token.into(), text.into());
    }

    /// From now on `name` shows a certificate with `digest` to whoever speaks [`ACME_TLS`].
    pub fn set_certificate(&self, name: &str, digest: &[u8]) -> Result<(), CannotSign> {
        let answer = self_signed::answer(name, digest)?;
        let mut certificates = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        certificates.insert(name.into(), answer);
        Ok(())
    }

    /// Forgets every answer.
    pub fn clear(&self) {
        self.texts.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.certificates.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What an HTTP request for `path` asks.
    pub fn asked(&self, path: &[u8]) -> Asked {
        let name = path.strip_prefix(b"/").and_then(|path| path.strip_prefix(FOLDER.as_bytes()));
        let Some(name) = name else { return Asked::Nothing };
        // base64url alone (RFC 8555 §8.3): nothing that leads out of a folder.
        let is_token = |name: &&str| {
            (1..=256).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let Some(token) = std::str::from_utf8(name).ok().filter(is_token) else { return Asked::Unknown };
        let own = self.texts.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        let theirs = || read(&self.webroot.as_ref()?.join(FOLDER).join(token));
        own.map(String::into_bytes).or_else(theirs).map_or(Asked::Unknown, Asked::Answered)
    }

    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Whether an authority wants to be shown an answer.
pub(super) fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.next() == Some(ACME_TLS) && protocols.next().is_none())
}

/// A small regular file; nothing that could keep a reader waiting.
fn read(path: &Path) -> Option<Vec<u8>> {
    let at_once = i32::try_from(OFlags::NONBLOCK.bits()).ok()?;
    let file = OpenOptions::new().read(true).custom_flags(at_once).open(path).ok()?;
    let is_small = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MOST_ANSWER_BYTES);
    let mut text = Vec::new();
    is_small.then(|| file.take(MOST_ANSWER_BYTES).read_to_end(&mut text).ok())??;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_are_answered() {
        let folder = std::env::temp_dir().join(format!("hookgate-webroot-{}", std::process::id()));
        let below = folder.join(FOLDER);
        std::fs::create_dir_all(below.join("folder")).unwrap();
        std::fs::write(below.join("of-certbot_1"), "theirs").unwrap();
        std::fs::write(below.join("large"), vec![b'x'; 5000]).unwrap();
        std::fs::write(below.parent().unwrap().join("secret"), "secret").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            below.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let challenges = Challenges::new(Some(folder.clone()));
        challenges.set_text("own", "own.thumbprint");
        let asked = |name: &str| challenges.asked(format!("/.well-known/acme-challenge/{name}").as_bytes());
        assert_eq!(asked("own"), Asked::Answered(b"own.thumbprint".to_vec()));
        assert_eq!(asked("of-certbot_1"), Asked::Answered(b"theirs".to_vec()));
        for name in ["", "none", "large", "folder", "../secret", "..%2fsecret", "own?", "own/", "é"] {
            assert_eq!(asked(name), Asked::Unknown, "{name}");
        }
        // There is nobody at its other end.
        assert_eq!(asked("pipe"), Asked::Unknown);
        assert_eq!(challenges.asked(b"/up.example/x"), Asked::Nothing);
        challenges.clear();
        assert_eq!(asked("own"), Asked::Unknown);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_certificate_for_a_challenge_holds_the_digest() {
        let challenges = Challenges::default();
        challenges.set_certificate("a.example", &[7; 32]).unwrap();
        let shown = challenges.certificate("a.example").unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&shown.cert[0]).unwrap();
        let identifier = parsed.extensions().iter().find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let identifier = identifier.unwrap();
        assert!(identifier.critical);
        assert_eq!(identifier.value, [&[4, 32][..], &[7; 32]].concat());
        assert!(challenges.certificate("b.example").is_none());
        assert!(challenges.set_certificate("a.example", b"short").is_err());
    }
}
