//! Another archive of packages than this system's, or its packages for another processor, as apt
//! reads and verifies them. What apt and dpkg know of this system stays as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;
use crate::ebpf::sha256;
use crate::install;

const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where an archive is, and by whose keys it is verified.
pub struct Origin {
    pub url: String,
    pub keys: PathBuf,
    /// Of its packages; this machine's where there is none.
    arch: Option<Arch>,
}

impl Origin {
    pub fn debian() -> Self {
        Self { url: install::mirror(), keys: DEBIAN_KEYS.into(), arch: None }
    }

    /// Debian's security updates.
    pub fn debian_security() -> Self {
        Self { url: install::security_mirror(), keys: DEBIAN_KEYS.into(), arch: None }
    }

    /// The same for another processor.
    pub fn for_arch(self, arch: Arch) -> Self {
        Self { arch: Some(arch), ..self }
    }

    /// Debian 12 does not have Ubuntu's keys: their package is fetched and unpacked in `folder`, if
    /// it is the one known here.
    ///
    /// # Errors
    /// It can't be fetched, or is another one.
    pub fn ubuntu(folder: &Path) -> Result<Self> {
        const URL: &str = "http://archive.ubuntu.com/ubuntu";
        const KEYRING: &str = "pool/main/u/ubuntu-keyring/ubuntu-keyring_2021.03.26_all.deb";
        const SHA256: &str = "0d0e7ed6b112f5d03eabf3c7eb01ebdacf9c57714b279e90495cfc58c8c4520f";
        let packages = folder.join("keys");
        std::fs::create_dir_all(&packages)?;
        let package = packages.join("keys.deb");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--output"]).arg(&package);
        curl.arg(format!("{URL}/{KEYRING}"));
        harness_core::run(curl)?;
        let bytes = std::fs::read(&package).with_context(|| format!("reading {}", package.display()))?;
        ensure!(sha256(&bytes)? == SHA256, "{URL}/{KEYRING} is not the package that is known here");
        unpack(&packages, folder)?;
        let keys = folder.join("usr/share/keyrings/ubuntu-archive-keyring.gpg");
        Ok(Self { url: URL.to_owned(), keys, arch: None })
    }
}

/// An archive whose lists are in a folder of their own.
pub struct Archive {
    /// For apt, so that it knows no other.
    options: Vec<String>,
}

impl Archive {
    /// The packages of `suite`, whose lists are put into `folder`.
    ///
    /// # Errors
    /// apt-get's own first error.
    pub fn read(origin: &Origin, suite: &str, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder.join("lists/partial"))?;
        std::fs::create_dir_all(folder.join("cache/archives/partial"))?;
        let sources = folder.join("sources.list");
        let line = format!("deb [signed-by={}] {} {suite} main\n", origin.keys.display(), origin.url);
        std::fs::write(&sources, line).with_context(|| format!("writing {}", sources.display()))?;
        let options = [
            ("Dir::Etc::SourceList", sources),
            ("Dir::Etc::SourceParts", "/dev/null".into()),
            ("Dir::State::Lists", folder.join("lists")),
            ("Dir::Cache", folder.join("cache")),
        ];
        let mut options: Vec<String> =
            options.iter().map(|(name, value)| format!("-o{name}={}", value.display())).collect();
        let arch = origin.arch.map(Arch::name);
        options.extend(arch.map(|arch| format!("-oAPT::Architecture={arch}")));
        options.extend(arch.map(|arch| format!("-oAPT::Architectures={arch}")));
        let archive = Self { options };
        install::finish(archive.command("apt-get", &["update", "-qq"]))?;
        Ok(archive)
    }

    /// What it says of the newest version of a package.
    ///
    /// # Errors
    /// It has no such package.
    pub fn show(&self, package: &str) -> Result<String> {
        harness_core::run(self.command("apt-cache", &["show", "--no-all-versions", package]))
    }

    /// Downloads a package into `folder`.
    ///
    /// # Errors
    /// apt-get's own first error.
    pub fn download(&self, package: &str, folder: &Path) -> Result<()> {
        let mut download = self.command("apt-get", &["download", "-qq", package]);
        download.current_dir(folder);
        install::finish(download)
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = install::unattended(program);
        command.args(&self.options).args(args);
        command
    }
}

/// Unpacks the packages in `archives`, and removes them.
///
/// # Errors
/// They can't be read, or one is no package.
pub fn unpack(archives: &Path, root: &Path) -> Result<()> {
    for archive in std::fs::read_dir(archives)?.collect::<Result<Vec<_>, _>>()? {
        if archive.path().extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(archive.path()).arg(root);
            harness_core::run(unpack)?;
        }
    }
    Ok(std::fs::remove_dir_all(archives)?)
}
