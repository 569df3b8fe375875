//! Replaces a configuration file as a whole, one editor at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// The right to edit, until it is dropped. It lies on the configuration's folder: that stays the same file when those
/// in it are replaced.
#[derive(Debug)]
pub struct EditLock {
    _folder: File,
}

/// A file that cannot be edited; it is as it was.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", path.display())]
pub struct CannotReplace {
    path: PathBuf,
    error: io::Error,
}

impl EditLock {
    /// Waits for whoever else edits the configuration at `path`.
    pub fn take(path: &Path) -> Result<Self, CannotReplace> {
        let folder = fs::canonicalize(path).and_then(|path| {
            let folder = File::open(folder(&path))?;
            folder.lock()?;
            Ok(folder)
        });
        let folder = folder.map_err(|error| CannotReplace { path: path.to_owned(), error })?;
        Ok(Self { _folder: folder })
    }

    /// Writes `text` in place of what `path` leads to, which keeps its mode and owner. Whatever happens on the way,
    /// there is the old file or the new one.
    pub fn replace(&self, path: &Path, text: &str) -> Result<(), CannotReplace> {
        let failed = |error| CannotReplace { path: path.to_owned(), error };
        let path = fs::canonicalize(path).map_err(failed)?;
        let new = beside(&path);
        let replaced = write_like(&path, &new, text).and_then(|()| fs::rename(&new, &path));
        if replaced.is_err() {
            // The first error is the one to tell.
            fs::remove_file(&new).ok();
        }
        replaced.and_then(|()| File::open(folder(&path))?.sync_all()).map_err(failed)
    }
}

/// No name that would be read as a configuration.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// A new file that has the mode and the owner of `old`.
fn write_like(old: &Path, new: &Path, text: &str) -> io::Result<()> {
    // One that was killed has left it.
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let like = fs::metadata(old)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// `""` is the current folder.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
