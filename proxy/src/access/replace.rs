use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces the file at `path` as a whole: a crash or a power cut leaves the old one or the new
/// one. `write` fills the new one, which is called `new` until then, in the same folder, and has
/// `mode`.
///
/// Errors: nothing was replaced, or the folder could not be synced.
pub fn replace(
    path: &Path,
    new: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let written = create_anew(new, mode).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(new, path));
    if replaced.is_err() {
        // The first error is the one to tell.
        fs::remove_file(new).ok();
    }
    // The rename itself has to outlive a power cut too.
    replaced.and_then(|()| File::open(folder_of(path))?.sync_all())
}

/// Creates a file in place of whatever has its name: a process that was killed has left it, or
/// another user of the folder put a link there, through which nothing may be written.
fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// `""` is the current folder.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_lies_at_the_new_files_name_is_replaced_and_not_written_to() {
        let dir = std::env::temp_dir().join(format!("hookgate-new-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let [victim, path, new] = ["victim", "prefixes", "prefixes.1"].map(|name| dir.join(name));
        fs::write(&victim, "kept").unwrap();
        std::os::unix::fs::symlink(&victim, &new).unwrap();
        replace(&path, &new, 0o600, |file| file.write_all(b"text")).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        assert!(!new.exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_cannot_be_written_changes_nothing() {
        let dir = std::env::temp_dir().join(format!("hookgate-kept-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let [path, new] = ["file", ".file.new"].map(|name| dir.join(name));
        fs::write(&path, "old").unwrap();
        let full = |file: &mut File| {
            file.write_all(b"ne")?;
            Err(ErrorKind::StorageFull.into())
        };
        assert_eq!(replace(&path, &new, 0o600, full).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert!(!new.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
