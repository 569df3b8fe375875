//! Replaces a configuration file as a whole, one editor at a time.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::attributes;
use crate::access::{self, folder_of};

/// The right to edit, until it is dropped. It lies on the configuration's folder: that stays the
/// same file when those in it are replaced.
#[derive(Debug)]
pub struct EditLock {
    _folder: File,
}

/// A file that cannot be edited; it is as it was.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}{}", path.display(), next.iter().map(|next| format!(": {next}")).collect::<String>())]
pub struct CannotReplace {
    path: PathBuf,
    error: io::Error,
    /// What to do, where `error` does not say so.
    next: Option<String>,
}

impl CannotReplace {
    /// `real`: `path` with its links resolved.
    fn new(path: &Path, real: &Path, error: io::Error) -> Self {
        let next = remedy(real, &error);
        Self { path: path.to_owned(), error, next }
    }
}

impl EditLock {
    /// Waits for other editors of the configuration at `path`.
    pub fn take(path: &Path) -> Result<Self, CannotReplace> {
        let folder = fs::canonicalize(path).and_then(|path| {
            let folder = File::open(folder_of(&path))?;
            folder.lock()?;
            Ok(folder)
        });
        let folder = folder.map_err(|error| CannotReplace::new(path, path, error))?;
        Ok(Self { _folder: folder })
    }

    /// Replaces the file that `path` leads to. Mode, owner, ACL and other attributes stay.
    /// A crash leaves the old file or the new one.
    pub fn replace(&self, path: &Path, text: &str) -> Result<(), CannotReplace> {
        let real = fs::canonicalize(path).map_err(|error| CannotReplace::new(path, path, error))?;
        let replaced = ensure_replaceable(&real).and_then(|()| {
            access::replace(&real, &beside(&real), 0o600, |file| write_like(&real, file, text))
        });
        replaced.map_err(|error| CannotReplace::new(path, &real, error))
    }
}

/// No name that would be read as a configuration.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Fails early: in an append-only folder the new file could not be removed again.
fn ensure_replaceable(path: &Path) -> io::Result<()> {
    match find_unchangeable(path) {
        Some(_) => Err(ErrorKind::PermissionDenied.into()),
        None => Ok(()),
    }
}

/// What the operator can do about `error`, the result of replacing `path`.
fn remedy(path: &Path, error: &io::Error) -> Option<String> {
    let (shown, folder) = (path.display(), folder_of(path));
    match (error.kind(), find_unchangeable(path)) {
        (ErrorKind::ResourceBusy, _) => Some(format!(
            "{shown} is mounted by itself (docker -v FILE:FILE), and such a file can't be replaced: mount its \
             folder instead, or edit it outside"
        )),
        (ErrorKind::ReadOnlyFilesystem, _) => Some(
            "the file system is mounted read-only: edit the file where it comes from, or mount it writable"
                .into(),
        ),
        (ErrorKind::PermissionDenied, Some(path)) => {
            let path = path.display();
            Some(format!("{path} is immutable or append-only: `chattr -ia {path}` lifts that"))
        }
        (ErrorKind::PermissionDenied, None) => Some(format!(
            "run this as root, or as the file's owner who may also write in {}",
            folder.display()
        )),
        _ => None,
    }
}

/// The file or its folder, if one of them is immutable or append-only (chattr(1)).
fn find_unchangeable(path: &Path) -> Option<&Path> {
    let is_marked = |path: &&Path| {
        let found = statx(CWD, *path, AtFlags::empty(), StatxFlags::empty());
        let marks = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        found.is_ok_and(|found| found.stx_attributes.intersects(marks))
    };
    [path, folder_of(path)].into_iter().find(is_marked)
}

/// Writes `text` into `file`, which gets mode, owner and attributes of `old`.
fn write_like(old: &Path, file: &mut File, text: &str) -> io::Result<()> {
    let old = File::open(old)?;
    let like = old.metadata()?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(&*file, Some(like.uid()), Some(like.gid()))?;
    }
    attributes::drop_inherited(&old, file)?;
    attributes::copy(&old, file)?;
    // Last: for a file with an ACL the group bits are the mask.
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    file.write_all(text.as_bytes())
}
