//! What outlives the process: account, key and certificate, and how asking for one has gone.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::access::{Access, State, StateFile};
use crate::config::{self, HostName};
use crate::tls::{BadCertificate, Certificate};

/// One authority's part of `[acme] state`.
pub struct Store {
    folder: PathBuf,
    state: Box<dyn State>,
}

/// What is kept cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    #[error("{}: {error}{}", path.display(), remedy(error))]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {error}; remove it, and a new account is made", path.display())]
    Account { path: PathBuf, error: serde_json::Error },
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    #[error("another process gets a certificate with {} at the moment", .0.display())]
    Busy(PathBuf),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room there",
        ErrorKind::PermissionDenied => "; [acme] state must belong to the user who starts hookgate",
        ErrorKind::ReadOnlyFilesystem => "; put [acme] state where it can be written",
        _ => "",
    }
}

/// The account, and the addresses that its authority writes to.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) contact: Vec<String>,
    /// instant-acme's, the key among them.
    pub(super) credentials: serde_json::Value,
}

/// How asking the authority went the last times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempts {
    /// When it was last asked for a certificate, in Unix time.
    pub(super) last: Option<i64>,
    /// In a row.
    pub(super) failures: u32,
    /// Before that the authority does not want to be asked, in Unix time.
    pub(super) not_before: Option<i64>,
    /// The settings ([`Attempts::settings`]) with which it refused for good.
    #[serde(default)]
    pub(super) refused_settings: Option<u64>,
}

impl Attempts {
    /// The same, as they can be `now`: a clock that was wrong must not make anybody wait for it.
    pub(super) fn as_of(self, now: i64) -> Self {
        const DAY: i64 = 24 * 3600;
        let not_before = self.not_before.map(|at| at.min(now + DAY));
        Self { last: self.last.map(|last| last.min(now)), not_before, ..self }
    }

    /// The same for `acme`, without a refusal of other settings.
    pub(super) fn with(self, acme: &config::Acme) -> Self {
        match self.refused_settings.filter(|refused| *refused != Self::settings(acme)) {
            Some(_) => Self { failures: 0, refused_settings: None, ..self },
            None => self,
        }
    }

    /// Identifies the settings that an authority may refuse.
    pub(super) fn settings(acme: &config::Acme) -> u64 {
        let asked = serde_json::to_vec(&(&acme.domains, &acme.contact)).unwrap_or_default();
        let digest = digest(&SHA256, &asked);
        digest.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }
}

/// The right to ask for a certificate, until it is dropped.
pub(super) struct Lock {
    _held: OwnedFd,
}

impl Store {
    pub fn new(acme: &config::Acme, access: &dyn Access) -> Self {
        let folder = folder(acme);
        Self { state: access.state(folder.clone()), folder }
    }

    /// Where key and certificate lie, in one file: neither is ever there without the other.
    pub fn certificate_path(&self) -> PathBuf {
        self.folder.join(StateFile::Certificate.name())
    }

    /// The certificate that was got last.
    ///
    /// Errors: it cannot be used.
    pub fn certificate(&self) -> Result<Option<Certificate>, BadState> {
        let pem = self.read(StateFile::Certificate)?;
        Ok(pem.map(|pem| Certificate::from_pem(&pem, &self.certificate_path())).transpose()?)
    }

    /// The longest-lived certificate for all of `names` that another authority has given: it serves
    /// until this one gives one. Those that cannot be used are left out.
    pub(super) fn fallback_certificate(&self, names: &[HostName], now: i64) -> Option<Certificate> {
        let others = self.state.certificates_beside().ok()?;
        let others = others.iter().filter_map(|pem| Certificate::from_pem(pem, &self.folder).ok());
        let usable = others.filter(|held| held.not_after > now && names.iter().all(|name| held.covers(name)));
        let mut longest = usable.max_by_key(|held| held.not_after)?;
        longest.is_placeholder = true;
        Some(longest)
    }

    /// Makes the folders.
    pub fn prepare(&self) -> Result<(), BadState> {
        self.state.prepare().map_err(at(&self.folder))
    }

    pub(super) fn lock(&self) -> Result<Lock, BadState> {
        match self.state.lock() {
            Ok(held) => Ok(Lock { _held: held }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(BadState::Busy(self.folder.clone())),
            Err(error) => Err(at(&self.folder)(error)),
        }
    }

    pub(super) fn store_certificate(&self, pem: &str) -> Result<(), BadState> {
        self.replace(StateFile::Certificate, pem.as_bytes())
    }

    pub(super) fn account(&self) -> Result<Option<Account>, BadState> {
        let text = self.read(StateFile::Account)?;
        let read = text.map(|text| serde_json::from_slice(&text)).transpose();
        read.map_err(|error| BadState::Account { path: self.account_path(), error })
    }

    pub(super) fn store_account(&self, account: &Account) -> Result<(), BadState> {
        self.replace_json(StateFile::Account, account)
    }

    /// None where nothing sensible is kept: they only space out what is done anyway.
    pub(super) fn attempts(&self) -> Attempts {
        let text = self.state.read(StateFile::Attempts).ok().flatten();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    pub(super) fn store_attempts(&self, attempts: Attempts) -> Result<(), BadState> {
        self.replace_json(StateFile::Attempts, &attempts)
    }

    fn account_path(&self) -> PathBuf {
        self.folder.join(StateFile::Account.name())
    }

    fn read(&self, file: StateFile) -> Result<Option<Zeroizing<Vec<u8>>>, BadState> {
        self.state.read(file).map_err(at(&self.folder.join(file.name())))
    }

    fn replace_json(&self, file: StateFile, value: &impl Serialize) -> Result<(), BadState> {
        let failed = |error: serde_json::Error| at(&self.folder.join(file.name()))(error.into());
        let text = Zeroizing::new(serde_json::to_vec(value).map_err(failed)?);
        self.replace(file, &text)
    }

    fn replace(&self, file: StateFile, bytes: &[u8]) -> Result<(), BadState> {
        self.state.replace(file, bytes).map_err(at(&self.folder.join(file.name())))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> BadState {
    move |error| BadState::Io { path: path.to_owned(), error }
}

/// Where that authority's part of `[acme] state` lies: accounts and certificates of one are nothing
/// to another, also when they take turns.
pub fn folder(acme: &config::Acme) -> PathBuf {
    acme.state.join(folder_name(&acme.directory))
}

/// `https://acme.example/a/dir` as `acme.example-a-dir`.
fn folder_name(directory: &str) -> String {
    let rest = directory.strip_prefix("https://").unwrap_or(directory).trim_end_matches('/');
    rest.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Disk;

    #[test]
    fn what_is_kept_and_is_no_use_is_said_so() {
        let state = std::env::temp_dir().join(format!("hookgate-acme-{}", std::process::id()));
        let folder = state.join(folder_name("https://acme.example:14000/dir/"));
        assert!(folder.ends_with("acme.example-14000-dir"));
        let store = Store { state: Disk.state(folder.clone()), folder };
        store.prepare().unwrap();
        let attempts = Attempts { last: Some(5), failures: 3, not_before: None, refused_settings: None };
        store.store_attempts(attempts).unwrap();
        assert_eq!(store.attempts(), attempts);
        let ahead = Attempts { last: Some(1 << 40), not_before: Some(1 << 40), ..attempts };
        let now = Attempts { last: Some(7), not_before: Some(7 + 24 * 3600), ..attempts };
        assert_eq!((ahead.as_of(7), attempts.as_of(7)), (now, attempts));

        assert!(store.account().unwrap().is_none() && store.certificate().unwrap().is_none());
        std::fs::write(store.account_path(), "{").unwrap();
        std::fs::write(store.certificate_path(), "nonsense").unwrap();
        let error = store.account().err().unwrap().to_string();
        assert!(error.contains("account.json") && error.contains("remove it"), "{error}");
        assert!(matches!(store.certificate(), Err(BadState::Certificate(_))));
        let held = store.lock().unwrap();
        assert!(matches!(store.lock(), Err(BadState::Busy(_))));
        drop(held);
        std::fs::remove_dir_all(state).unwrap();
    }
}
