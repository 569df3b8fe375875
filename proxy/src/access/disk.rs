use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};

use zeroize::Zeroizing;

use super::{Access, MAX_STATE_BYTES, MachineRoots, State, StateFile, replace};

/// Where distributions keep all of their roots in one file: Debian and its kin, Fedora and its kin,
/// others.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// For the process's user alone.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Held by the process that asks the authority.
const LOCK: &str = "lock";

/// Files as this process can reach them.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Disk {
    pub fn shared(self) -> Arc<dyn Access> {
        Arc::new(self)
    }
}

impl Access for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn roots(&self) -> io::Result<MachineRoots> {
        let [file, folders] = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os);
        // One file instead of hundreds: most of the time that a start takes.
        let bundle = || BUNDLES.iter().map(PathBuf::from).find(|path| path.exists());
        let file = file.map(PathBuf::from).or_else(|| folders.is_none().then(bundle).flatten());
        let mut found = match (&file, &folders) {
            (None, None) => load_native_certs(),
            (file, _) => load_certs_from_paths(file.as_deref(), None),
        };
        // A folder may hold other files, so errors there are no fault.
        let bad = found.errors.first().zip(file);
        let fault = bad.map(|(error, file)| format!("{}: {}", file.display(), cause(error)));
        for folder in folders.iter().flat_map(std::env::split_paths) {
            found.certs.extend(load_certs_from_paths(None, Some(&folder)).certs);
        }
        // A folder may link to what the file holds.
        found.certs.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        found.certs.dedup();
        Ok(MachineRoots { certificates: found.certs, fault })
    }

    fn state(&self, folder: PathBuf) -> Box<dyn State> {
        Box::new(DiskState::new(folder))
    }
}

fn cause(error: &rustls_native_certs::Error) -> String {
    match &error.kind {
        rustls_native_certs::ErrorKind::Io { inner, .. } => inner.to_string(),
        _ => "it is damaged".into(),
    }
}

/// Opens a regular file; nothing that could keep a reader waiting.
pub fn open(path: &Path) -> io::Result<File> {
    let at_once = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(at_once).open(path)?;
    ensure_regular(&file)?;
    Ok(file)
}

/// The same for a file below `folder` where others may write: no link below it is followed, and no
/// file that has a second name is opened. Either could lead to a file that they may not read
/// themselves.
///
/// Errors: also when `path` is not below `folder`.
pub fn open_below(folder: &Path, path: &Path) -> io::Result<File> {
    const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
    let below = path.strip_prefix(folder).map_err(io::Error::other)?;
    let mut at: OwnedFd = File::open(folder)?.into();
    for component in below.components() {
        let Component::Normal(name) = component else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a name of a file"));
        };
        at = openat(&at, name, SAFE, Mode::empty())?;
    }
    let file = File::from(at);
    ensure_regular(&file)?;
    match file.metadata()?.nlink() {
        1 => Ok(file),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "it has several names (hard links)")),
    }
}

fn ensure_regular(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// A folder that this process can reach.
#[derive(Debug)]
pub struct DiskState {
    folder: PathBuf,
}

impl DiskState {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// For reading alone; `None`: there is no such file.
    pub fn open(&self, file: StateFile) -> io::Result<Option<File>> {
        match open(&self.folder.join(file.name())) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The whole of a file of [`State`].
pub fn read_state(mut file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl State for DiskState {
    fn prepare(&self) -> io::Result<()> {
        let above = self.folder.parent().filter(|above| !above.as_os_str().is_empty());
        if let Some(parent) = above.and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        for folder in above.into_iter().chain([&*self.folder]) {
            match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&self, file: StateFile) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        self.open(file)?.map(|file| read_state(&file)).transpose()
    }

    fn replace(&self, file: StateFile, bytes: &[u8]) -> io::Result<()> {
        let name = file.name();
        if bytes.len() > MAX_STATE_BYTES {
            let text = format!("{name} would have {} bytes, more than {MAX_STATE_BYTES}", bytes.len());
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let new = self.folder.join(format!(".{name}.new"));
        replace(&self.folder.join(name), &new, FILE_MODE, |file| file.write_all(bytes))
    }

    fn certificates_beside(&self) -> io::Result<Vec<Zeroizing<Vec<u8>>>> {
        let Some(above) = self.folder.parent() else { return Ok(Vec::new()) };
        let folders = fs::read_dir(above)?.filter_map(Result::ok);
        let others = folders.filter(|folder| folder.path() != self.folder);
        let certificate = |folder: fs::DirEntry| {
            let file = open(&folder.path().join(StateFile::Certificate.name())).ok()?;
            read_state(&file).ok()
        };
        Ok(others.filter_map(certificate).collect())
    }

    /// Of an empty file, through which its holder reaches no other.
    fn lock(&self) -> io::Result<OwnedFd> {
        const ANEW: OFlags = OFlags::CREATE.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let path = self.folder.join(LOCK);
        let file = File::from(openat(CWD, path, ANEW, Mode::from_raw_mode(FILE_MODE))?);
        match file.try_lock() {
            Ok(()) => Ok(file.into()),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn state(name: &str) -> (PathBuf, DiskState) {
        let above = std::env::temp_dir().join(format!("hookgate-state-{name}-{}", std::process::id()));
        (above.clone(), DiskState::new(above.join("one")))
    }

    #[test]
    fn files_are_for_their_owner_alone_and_replaced_as_a_whole() {
        let (above, state) = state("modes");
        let file = StateFile::Account;
        assert!(state.replace(file, b"1").is_err(), "no folder yet");
        state.prepare().unwrap();
        state.prepare().unwrap();
        fs::write(state.folder.join(".account.json.new"), "left by one that was killed").unwrap();
        state.replace(file, b"1").unwrap();
        state.replace(file, b"2").unwrap();
        let read = |file| state.read(file).unwrap().map(|bytes| bytes.to_vec());
        assert_eq!(read(file).as_deref(), Some(&b"2"[..]));
        assert_eq!(read(StateFile::Certificate), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&above), mode(&state.folder)), (0o700, 0o700));
        assert_eq!(mode(&state.folder.join(file.name())), 0o600);
        assert_eq!(fs::read_dir(&state.folder).unwrap().count(), 1);
        fs::remove_dir_all(above).unwrap();
    }

    #[test]
    fn folders_beside_show_their_certificates() {
        let (above, state) = state("beside");
        state.prepare().unwrap();
        let other = DiskState::new(above.join("two"));
        other.prepare().unwrap();
        state.replace(StateFile::Certificate, b"own").unwrap();
        other.replace(StateFile::Certificate, b"other").unwrap();
        other.replace(StateFile::Account, b"key").unwrap();
        let beside = state.certificates_beside().unwrap();
        assert_eq!(beside.iter().map(|bytes| bytes.to_vec()).collect::<Vec<_>>(), [b"other"]);
        fs::remove_dir_all(above).unwrap();
    }

    #[test]
    fn what_is_replaced_has_a_limit() {
        let (above, state) = state("limit");
        state.prepare().unwrap();
        state.replace(StateFile::Attempts, &[b'1'; MAX_STATE_BYTES]).unwrap();
        let refused = state.replace(StateFile::Attempts, &[b'2'; MAX_STATE_BYTES + 1]).unwrap_err();
        assert!(refused.to_string().contains("attempts.json would have 131073 bytes"), "{refused}");
        assert_eq!(state.read(StateFile::Attempts).unwrap().unwrap()[0], b'1');
        fs::remove_dir_all(above).unwrap();
    }

    #[test]
    fn one_at_a_time_holds_the_folder() {
        let (above, state) = state("lock");
        state.prepare().unwrap();
        let first = state.lock().unwrap();
        assert!(File::from(first.try_clone().unwrap()).write_all(b"x").is_err(), "nothing can be kept in it");
        assert_eq!(state.lock().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(first);
        state.lock().unwrap();
        fs::remove_dir_all(above).unwrap();
    }

    #[test]
    fn no_link_below_a_folder_is_followed() {
        let root = std::env::temp_dir().join(format!("hookgate-below-{}", std::process::id()));
        let (folder, secret) = (root.join("web"), root.join("secret"));
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(&secret, "secret").unwrap();
        fs::write(folder.join("a/own"), "own").unwrap();
        symlink(&secret, folder.join("a/link")).unwrap();
        symlink(&root, folder.join("b")).unwrap();
        fs::hard_link(&secret, folder.join("a/hard")).unwrap();
        let read = |name: &str| open_below(&folder, &folder.join(name)).and_then(io::read_to_string);
        assert_eq!(read("a/own").unwrap(), "own");
        for name in ["a/link", "b/secret", "a/hard", "a/../../secret", "a", "a/none"] {
            assert!(read(name).is_err(), "{name}");
        }
        assert!(open_below(&folder, &secret).is_err());
        // The folder itself is the configuration's.
        symlink(&folder, root.join("alias")).unwrap();
        let alias = root.join("alias");
        assert!(open_below(&alias, &alias.join("a/own")).is_ok());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn only_regular_files_are_opened() {
        let error = open(&std::env::temp_dir()).unwrap_err();
        assert!(
            error.to_string().contains("not a regular file") || error.raw_os_error().is_some(),
            "{error}"
        );
        let pipe = std::env::temp_dir().join(format!("hookgate-pipe-{}", std::process::id()));
        let (fifo, mode) = (rustix::fs::FileType::Fifo, Mode::RUSR);
        rustix::fs::mknodat(CWD, &pipe, fifo, mode, 0).unwrap();
        // It has no other end.
        assert!(open(&pipe).unwrap_err().to_string().contains("not a regular file"));
        fs::remove_file(pipe).unwrap();
    }
}
