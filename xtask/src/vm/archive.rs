//! Another archive of packages than this system's, as apt reads and verifies it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::install;

/// Where an archive is, and by whose keys it is verified.
pub struct Origin {
    pub url: String,
    pub keys: PathBuf,
}

impl Origin {
    pub fn debian() -> Self {
        Self { url: install::mirror(), keys: "/usr/share/keyrings/debian-archive-keyring.gpg".into() }
    }

    /// Debian has Ubuntu's keys in a package, which is unpacked in `folder`.
    ///
    /// # Errors
    /// apt-get's own first error.
    pub fn ubuntu(folder: &Path) -> Result<Self> {
        const KEYRING: &str = "ubuntu-archive-keyring";
        let packages = folder.join("keys");
        install::download(&[KEYRING], &packages)?;
        super::debian::unpack(&packages, folder)?;
        let keys = folder.join("usr/share/keyrings").join(KEYRING).with_extension("gpg");
        Ok(Self { url: "http://archive.ubuntu.com/ubuntu".to_owned(), keys })
    }
}

/// An archive whose lists lie in a folder of their own.
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
        let options = options.iter().map(|(name, value)| format!("-o{name}={}", value.display())).collect();
        let archive = Self { options };
        install::finish(archive.command("apt-get", &["update", "-qq"]))?;
        Ok(archive)
    }

    /// What it says of the newest version of a package.
    ///
    /// # Errors
    /// It has no such package.
    pub fn show(&self, package: &str) -> Result<String> {
        harness::run(self.command("apt-cache", &["show", "--no-all-versions", package]))
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
