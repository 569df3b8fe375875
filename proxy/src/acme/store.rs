//! The folder that outlives the process: account, key and certificate. Every file is replaced as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown,
};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::tls::{BadCertificate, Certificate};

const CERTIFICATE: &str = "certificate.pem";
/// For the user who serves alone.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// One authority's part of `[acme] state`.
#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
    folder: PathBuf,
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
        ErrorKind::PermissionDenied => "; [acme] state must belong to the user who serves",
        ErrorKind::ReadOnlyFilesystem => "; put [acme] state where it can be written",
        _ => "",
    }
}

/// The account, and whom its authority writes to.
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
}

impl Attempts {
    /// The same, as they can be `now`: a clock that was wrong must not make anybody wait for it.
    pub(super) fn as_of(self, now: i64) -> Self {
        const DAY: i64 = 24 * 3600;
        let not_before = self.not_before.map(|at| at.min(now + DAY));
        Self { last: self.last.map(|last| last.min(now)), not_before, ..self }
    }
}

/// The right to ask for a certificate, until it is dropped.
pub(super) struct Lock {
    _folder: File,
}

impl Store {
    pub fn new(acme: &config::Acme) -> Self {
        Self { state: acme.state.clone(), folder: acme.state.join(folder_name(&acme.directory)) }
    }

    /// Where key and certificate lie, in one file: neither is ever there without the other.
    pub fn certificate_path(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// The certificate that was got last.
    ///
    /// Errors: it cannot be used.
    pub fn certificate(&self) -> Result<Option<Certificate>, BadState> {
        let path = self.certificate_path();
        let pem = self.read(&path)?;
        Ok(pem.map(|pem| Certificate::from_pem(&pem, &path)).transpose()?)
    }

    /// The longest-lived certificate for all of `names` that another authority has given: it serves until this one
    /// gives one. Those that cannot be used are left out.
    pub(super) fn stand_in(&self, names: &[String], now: i64) -> Option<Certificate> {
        let folders = fs::read_dir(&self.state).ok()?.filter_map(Result::ok);
        let others = folders.filter_map(|folder| {
            let path = folder.path().join(CERTIFICATE);
            Certificate::from_pem(&fs::read(&path).ok()?, &path).ok()
        });
        let usable = others.filter(|held| held.not_after > now && names.iter().all(|name| held.covers(name)));
        let mut longest = usable.max_by_key(|held| held.not_after)?;
        longest.is_placeholder = true;
        Some(longest)
    }

    /// Makes the folders, for `owner` (user and group), or else for this process's own.
    pub fn prepare(&self, owner: Option<(u32, u32)>) -> Result<(), BadState> {
        let owner = owner.unwrap_or_else(|| (geteuid().as_raw(), getegid().as_raw()));
        if let Some(above) = self.state.parent().filter(|above| !above.as_os_str().is_empty()) {
            fs::create_dir_all(above).map_err(at(above))?;
        }
        for folder in [&self.state, &self.folder] {
            match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
                Ok(()) => lchown(folder, Some(owner.0), Some(owner.1)).map_err(at(folder))?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(folder)(error)),
            }
        }
        give(&self.state, owner)
    }

    pub(super) fn lock(&self) -> Result<Lock, BadState> {
        let folder = File::open(&self.folder).map_err(at(&self.folder))?;
        match folder.try_lock() {
            Ok(()) => Ok(Lock { _folder: folder }),
            Err(TryLockError::WouldBlock) => Err(BadState::Busy(self.folder.clone())),
            Err(TryLockError::Error(error)) => Err(at(&self.folder)(error)),
        }
    }

    pub(super) fn store_certificate(&self, pem: &str) -> Result<(), BadState> {
        self.write(CERTIFICATE, pem.as_bytes())
    }

    pub(super) fn account(&self) -> Result<Option<Account>, BadState> {
        let path = self.folder.join("account.json");
        let text = self.read(&path)?;
        let read = text.map(|text| serde_json::from_slice(&text)).transpose();
        read.map_err(|error| BadState::Account { path, error })
    }

    pub(super) fn store_account(&self, account: &Account) -> Result<(), BadState> {
        self.write_json("account.json", account)
    }

    /// None where nothing sensible is kept: they only space out what is done anyway.
    pub(super) fn attempts(&self) -> Attempts {
        let text = fs::read(self.folder.join("attempts.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(super) fn store_attempts(&self, attempts: Attempts) -> Result<(), BadState> {
        self.write_json("attempts.json", &attempts)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, BadState> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(path)(error)),
        }
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), BadState> {
        let text = serde_json::to_vec(value).map_err(|error| at(&self.folder.join(name))(error.into()))?;
        self.write(name, &text)
    }

    /// The old file, or the new one, whatever happens on the way.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BadState> {
        let path = self.folder.join(name);
        let new = self.folder.join(format!(".{name}.new"));
        let written = write_new(&new, bytes).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            // The first error is the one to tell.
            fs::remove_file(&new).ok();
        }
        // The rename itself has to outlive a power cut too.
        written.and_then(|()| File::open(&self.folder)?.sync_all()).map_err(at(&path))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // One that was killed has left it.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn at(path: &Path) -> impl Fn(io::Error) -> BadState {
    move |error| BadState::Io { path: path.to_owned(), error }
}

/// Gives a folder and what lies in it to its new owner. A folder that is theirs already is left alone: they may have
/// put links there.
fn give(folder: &Path, owner: (u32, u32)) -> Result<(), BadState> {
    let meta = fs::symlink_metadata(folder).map_err(at(folder))?;
    if meta.uid() == owner.0 {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        match fs::symlink_metadata(&path).map_err(at(&path))?.is_dir() {
            true => give(&path, owner)?,
            false => lchown(&path, Some(owner.0), Some(owner.1)).map_err(at(&path))?,
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER_MODE)).map_err(at(folder))?;
    lchown(folder, Some(owner.0), Some(owner.1)).map_err(at(folder))
}

/// `https://acme.example/a/dir` as `acme.example-a-dir`: accounts and certificates of one authority are nothing to
/// another, also when they take turns.
fn folder_name(directory: &str) -> String {
    let rest = directory.strip_prefix("https://").unwrap_or(directory).trim_end_matches('/');
    rest.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> Store {
        let state = std::env::temp_dir().join(format!("hookgate-acme-{name}-{}", std::process::id()));
        let folder = state.join(folder_name("https://acme.example:14000/dir/"));
        assert!(folder.ends_with("acme.example-14000-dir"));
        Store { state, folder }
    }

    #[test]
    fn what_is_kept_is_for_its_owner_alone_and_replaced_as_a_whole() {
        let store = store("modes");
        assert!(store.store_attempts(Attempts::default()).is_err(), "no folder yet");
        store.prepare(None).unwrap();
        store.prepare(None).unwrap();
        fs::write(store.folder.join(".attempts.json.new"), "left by one that was killed").unwrap();
        let attempts = Attempts { last: Some(5), failures: 3, not_before: None };
        store.store_attempts(Attempts::default()).unwrap();
        store.store_attempts(attempts).unwrap();
        assert_eq!(store.attempts(), attempts);
        let ahead = Attempts { last: Some(1 << 40), failures: 3, not_before: Some(1 << 40) };
        assert_eq!(ahead.as_of(5), Attempts { last: Some(5), failures: 3, not_before: Some(86_405) });
        assert_eq!(attempts.as_of(6), attempts);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&store.state), mode(&store.folder)), (0o700, 0o700));
        let files: Vec<_> = fs::read_dir(&store.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files, [store.folder.join("attempts.json")]);
        assert_eq!(mode(&files[0]), 0o600);
        assert!(store.account().unwrap().is_none() && store.certificate().unwrap().is_none());
        fs::write(store.folder.join("account.json"), "{").unwrap();
        fs::write(store.certificate_path(), "nonsense").unwrap();
        let error = store.account().err().unwrap().to_string();
        assert!(error.contains("account.json: ") && error.contains("; remove it"), "{error}");
        assert!(matches!(store.certificate(), Err(BadState::Certificate(_))));
        fs::remove_dir_all(&store.state).unwrap();
    }

    #[test]
    fn one_at_a_time() {
        let store = store("lock");
        store.prepare(None).unwrap();
        let first = store.lock().unwrap();
        assert!(matches!(store.lock(), Err(BadState::Busy(_))));
        drop(first);
        store.lock().unwrap();
        fs::remove_dir_all(&store.state).unwrap();
    }
}
