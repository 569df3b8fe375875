//! Answers to what a certificate authority asks before it signs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::self_signed::{self, CannotSign};
use crate::access::Access;

/// The protocol in which an authority asks to be shown a certificate, and nothing else is said (RFC
/// 8737 §4).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where challenges are asked for over HTTP, and lie below a webroot (RFC 8555 §8.3).
const FOLDER: &str = ".well-known/acme-challenge/";
/// The longest answer that is taken from a webroot, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// The answers that are ready now.
#[derive(Debug, Default)]
pub struct Challenges {
    /// By token.
    texts: RwLock<HashMap<String, String>>,
    /// By name.
    certificates: RwLock<HashMap<String, Arc<CertifiedKey>>>,
    webroot: Option<(PathBuf, Arc<dyn Access>)>,
}

/// What an HTTP request asks of the challenges.
#[derive(Debug, PartialEq, Eq)]
pub enum ChallengeFile {
    Nothing,
    /// An unknown challenge.
    Unknown,
    Answered(Vec<u8>),
    /// It may be in this file: [`Challenges::read`] tells.
    Kept(PathBuf),
}

impl Challenges {
    /// `webroot`: the folder of another client's answers.
    pub fn new(webroot: Option<PathBuf>, access: &Arc<dyn Access>) -> Self {
        Self { webroot: webroot.map(|webroot| (webroot, Arc::clone(access))), ..Self::default() }
    }

    /// From now on `token` is answered with `text`.
    pub fn set_text(&self, token: &str, text: &str) {
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        texts.insert(token.into(), text.into());
    }

    /// From now on `name` shows a certificate with `digest` to clients that speak [`ACME_TLS`].
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
    pub fn asked(&self, path: &[u8]) -> ChallengeFile {
        let name = path.strip_prefix(b"/").and_then(|path| path.strip_prefix(FOLDER.as_bytes()));
        let Some(name) = name else { return ChallengeFile::Nothing };
        let token = std::str::from_utf8(name).ok().filter(|name| is_token(name));
        let Some(token) = token else { return ChallengeFile::Unknown };
        let own = self.texts.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        let theirs = || Some(folder_below(&self.webroot.as_ref()?.0).join(token));
        match own {
            Some(own) => ChallengeFile::Answered(own.into_bytes()),
            None => theirs().map_or(ChallengeFile::Unknown, ChallengeFile::Kept),
        }
    }

    /// The content of a file of the webroot. May block.
    pub fn read(&self, path: &Path) -> ChallengeFile {
        let text = self.webroot.as_ref().and_then(|(_, access)| access.read(path).ok());
        text.filter(|text| text.len() <= MAX_ANSWER_BYTES)
            .map_or(ChallengeFile::Unknown, ChallengeFile::Answered)
    }

    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Whether an authority wants to be shown an answer.
pub(super) fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.next() == Some(ACME_TLS) && protocols.next().is_none())
}

/// Whether this is the name of a file with an answer below `webroot`.
pub fn is_answer(path: &Path, webroot: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent() == Some(&folder_below(webroot)) && name.is_some_and(is_token)
}

fn folder_below(webroot: &Path) -> PathBuf {
    webroot.join(FOLDER.trim_end_matches('/'))
}

/// base64url alone (RFC 8555 §8.3): nothing that leads out of a folder.
fn is_token(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Disk;

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
        let disk: Arc<dyn Access> = Arc::new(Disk);
        let challenges = Challenges::new(Some(folder.clone()), &disk);
        challenges.set_text("own", "own.thumbprint");
        let asked =
            |name: &str| match challenges.asked(format!("/.well-known/acme-challenge/{name}").as_bytes()) {
                ChallengeFile::Kept(path) => {
                    assert!(is_answer(&path, &folder));
                    challenges.read(&path)
                }
                asked => asked,
            };
        assert_eq!(asked("own"), ChallengeFile::Answered(b"own.thumbprint".to_vec()));
        assert_eq!(asked("of-certbot_1"), ChallengeFile::Answered(b"theirs".to_vec()));
        for name in ["", "none", "large", "folder", "../secret", "..%2fsecret", "own?", "own/", "é"] {
            assert_eq!(asked(name), ChallengeFile::Unknown, "{name}");
        }
        // It has no other end.
        assert_eq!(asked("pipe"), ChallengeFile::Unknown);
        assert_eq!(challenges.asked(b"/up.example/x"), ChallengeFile::Nothing);
        challenges.clear();
        assert_eq!(asked("own"), ChallengeFile::Unknown);
        for other in ["of-certbot_1", "../x/of-certbot_1", "folder/of-certbot_1", ".."] {
            assert!(!is_answer(&folder.join(other), &folder), "{other}");
        }
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
