//! A repository as apt reads it: a folder that any web server can serve as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::packages::ARCHITECTURES;
use super::signer::Signer;
use super::sums;
use crate::arch::Arch;
use crate::install;

/// The public key, in the repository's root.
pub const PUBLIC_KEY: &str = "hookgate.asc";
const SUITE: &str = "stable";
const POOL: &str = "pool/main/h/hookgate";

/// A repository in a folder.
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Adds files, of which the packages are listed; what is there already stays, so that an
    /// earlier version can still be installed. Dated `committed`, in seconds since 1970.
    ///
    /// # Errors
    /// Another file of such a name is there, a tool fails, or a file can't be written.
    pub fn add(&self, files: &[PathBuf], committed: u64, signer: &Signer) -> Result<()> {
        if !harness_core::in_path("apt-ftparchive") {
            install::packages("to list packages for apt", &["apt-utils"])?;
        }
        let pool = self.root.join(POOL);
        create(&pool)?;
        files.iter().try_for_each(|file| add_to_pool(file, &pool))?;
        write(&self.root.join(PUBLIC_KEY), signer.public_key()?.as_bytes())?;
        for arch in ARCHITECTURES {
            self.list(arch)?;
        }
        self.release(committed, signer)?;
        sums::write(&self.root, signer)
    }

    fn dists(&self) -> PathBuf {
        self.root.join("dists").join(SUITE)
    }

    /// Writes what there is for an architecture.
    fn list(&self, arch: Arch) -> Result<()> {
        let of_it = |name: &String| name.ends_with(&format!("_{arch}.deb"));
        let mut names = names(&self.root.join(POOL))?;
        names.retain(of_it);
        let folder = self.dists().join("main").join(format!("binary-{arch}"));
        create(&folder)?;
        let mut packages = String::new();
        for name in names {
            let mut entry = ftparchive(&self.root);
            entry.args(["--arch", arch.name(), "packages"]).arg(format!("{POOL}/{name}"));
            packages += &harness_core::run(entry)?;
        }
        write(&folder.join("Packages"), packages.as_bytes())?;
        for (packer, arguments, ending) in [("gzip", "-9nc", "gz"), ("xz", "-9cT1", "xz")] {
            let mut pack = Command::new(packer);
            pack.arg(arguments);
            let packed = harness_core::run_with_input(pack, packages.as_bytes())?;
            write(&folder.join(format!("Packages.{ending}")), &packed)?;
        }
        Ok(())
    }

    /// Writes the sums of the lists, the lists once more under their sums, and the signatures. It
    /// does not expire: who serves it would have to sign it again and again.
    fn release(&self, committed: u64, signer: &Signer) -> Result<()> {
        let dists = self.dists();
        let [release, inside, beside] = ["Release", "InRelease", "Release.gpg"].map(|name| dists.join(name));
        let date = committed.max(date_of(&release)?);
        // They would be listed among the files.
        for old in [&release, &inside, &beside] {
            remove(old)?;
        }
        let mut make = ftparchive(&self.root);
        let architectures = ARCHITECTURES.map(Arch::name).join(" ");
        let date = said_by_date(&["+%a, %d %b %Y %H:%M:%S UTC", "-d", &format!("@{date}")])?;
        let fields = [
            ("Origin", "hookgate"),
            ("Label", "hookgate"),
            ("Suite", SUITE),
            ("Codename", SUITE),
            ("Components", "main"),
            ("Architectures", &architectures),
            ("Date", &date),
        ];
        for (name, value) in fields {
            make.arg(format!("-oAPT::FTPArchive::Release::{name}={value}"));
        }
        make.arg("-oAPT::FTPArchive::DoByHash=true").args(["release", &format!("dists/{SUITE}")]);
        write(&release, harness_core::run(make)?.as_bytes())?;
        signer.sign_around(&release, &inside)?;
        signer.sign_beside(&release, &beside)
    }
}

/// apt takes what it has of a version for the same version's file: bytes must not change.
fn add_to_pool(file: &Path, pool: &Path) -> Result<()> {
    let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
    let new = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let path = pool.join(name);
    if path.exists() {
        let old = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            old == new,
            "{} is another file than {}: what has been published must stay as it is; give this one a \
             higher --revision, or remove that one if it never was",
            path.display(),
            file.display()
        );
        return Ok(());
    }
    write(&path, &new)
}

/// The date of the `Release` at `path`, in seconds since 1970; 0 if there is none. apt ignores a
/// `Release` that is older than the one it has.
fn date_of(path: &Path) -> Result<u64> {
    if !path.exists() {
        return Ok(0);
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let date = text.lines().find_map(|line| line.strip_prefix("Date: "));
    let date = date.with_context(|| format!("{} has no date", path.display()))?;
    said_by_date(&["+%s", "-d", date])?.parse().with_context(|| format!("the date in {}", path.display()))
}

fn said_by_date(arguments: &[&str]) -> Result<String> {
    let mut date = Command::new("date");
    date.arg("-u").args(arguments).env("LC_ALL", "C");
    Ok(harness_core::run(date)?.trim().to_owned())
}

fn ftparchive(root: &Path) -> Command {
    let mut ftparchive = Command::new("apt-ftparchive");
    for weak_or_needless in ["MD5", "SHA1", "SHA512"] {
        ftparchive.arg(format!("-oAPT::FTPArchive::{weak_or_needless}=false"));
    }
    ftparchive.current_dir(root).env("LC_ALL", "C");
    ftparchive
}

/// Of the files in a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = entries.map(name).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("writing {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
