//! The two files that are written.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::access::{self, folder_of};

/// Of a file for others to read.
const MODE: u32 = 0o644;

/// `FILE.json`.
pub(super) fn figures_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".json");
    name.into()
}

/// Errors: the folder is missing, or there is something that is no file.
pub(super) fn ensure_writable(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    ensure!(path.file_name().is_some(), "cannot write {shown}: name a file");
    let folder = folder_of(path);
    ensure!(
        folder.is_dir(),
        "cannot write {shown}: there is no folder {}: make it, or name another one",
        folder.display()
    );
    for path in [path.to_owned(), figures_beside(path)] {
        real(&path)?;
    }
    Ok(())
}

/// Where the file is that is replaced: behind links.
fn real(path: &Path) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot write {}", path.display());
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => fs::canonicalize(path).with_context(cannot),
        Ok(_) => bail!("{}: it is no ordinary file; without --output, the text is printed", cannot()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(error).with_context(cannot),
    }
}

/// The old file, or the new one, whatever happens on the way.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let path = real(path)?;
    let mut new = OsString::from(".");
    new.push(path.file_name().unwrap_or_default());
    new.push(".new");
    access::replace(&path, &path.with_file_name(new), MODE, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hookgate-evidence-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_behind_a_link_is_replaced_and_the_link_stays() {
        let folder = folder("link");
        let [path, link] = ["file", "link"].map(|name| folder.join(name));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        ensure_writable(&link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing is left behind");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_missing_folder_and_what_is_no_file_are_refused() {
        let folder = folder("refused");
        let error = |path: &Path| format!("{:#}", ensure_writable(path).unwrap_err());
        assert!(error(&folder.join("none/file")).contains("there is no folder"));
        assert!(error(&folder).contains("no ordinary file"));
        assert!(error(Path::new("/dev/null")).contains("no ordinary file"));
        fs::create_dir(folder.join("file.json")).unwrap();
        assert!(error(&folder.join("file")).contains("file.json"), "the figures have no place");
        fs::remove_dir_all(folder).unwrap();
    }
}
