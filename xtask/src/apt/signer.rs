//! Signs with a key of gpg's: one of the user's own, or one in a file. What is secret stays with
//! gpg, and is never printed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use harness_core::{Cleanup, TempDir, quoted_path};

use crate::install;

/// gpg, and what it signs with.
const TOOLS: [&str; 3] = ["gpg", "gpg-agent", "gpgconf"];

pub struct Signer {
    /// Where the key of a file is; the user's own keys are where gpg expects them.
    home: Option<Home>,
    fingerprint: String,
}

impl Signer {
    /// `key`: a file with a secret key that has no passphrase, or what names one of the user's keys
    /// to gpg.
    ///
    /// # Errors
    /// There is no gpg, no such key, or more than one.
    pub fn find(key: &str) -> Result<Self> {
        if !TOOLS.iter().all(|tool| harness_core::in_path(tool)) {
            install::packages("to sign", &TOOLS)?;
        }
        let path = Path::new(key);
        let home = path.is_file().then(|| Home::with(path)).transpose()?;
        let mut list = gpg(home.as_ref());
        list.args(["--with-colons", "--list-secret-keys"]);
        if home.is_none() {
            list.arg("--").arg(key);
        }
        let said = harness_core::run(list).with_context(|| {
            format!("{key} is no file with a key, and `gpg --list-secret-keys` has no such key")
        })?;
        let fingerprint = only_fingerprint(&said).with_context(|| format!("the key {key}"))?;
        Ok(Self { home, fingerprint })
    }

    /// The public key, in letters.
    ///
    /// # Errors
    /// Those of gpg.
    pub fn public_key(&self) -> Result<String> {
        let mut export = gpg(self.home.as_ref());
        export.args(["--armor", "--export-options", "export-minimal", "--export", &self.fingerprint]);
        harness_core::run(export)
    }

    /// Writes `to`: the text at `path`, with a signature around it.
    ///
    /// # Errors
    /// Those of gpg.
    pub fn sign_around(&self, path: &Path, to: &Path) -> Result<()> {
        self.sign("--clearsign", path, to)
    }

    /// Writes the signature of `path` alone to `to`.
    ///
    /// # Errors
    /// Those of gpg.
    pub fn sign_beside(&self, path: &Path, to: &Path) -> Result<()> {
        self.sign("--detach-sign", path, to)
    }

    fn sign(&self, how: &str, path: &Path, to: &Path) -> Result<()> {
        let mut sign = gpg(self.home.as_ref());
        sign.args(["--yes", "--armor", "--digest-algo", "SHA512", "--local-user", &self.fingerprint]);
        sign.arg("--output").arg(to).arg(how).arg(path);
        harness_core::run(sign).context("signing; the key in a file must have no passphrase")?;
        Ok(())
    }
}

/// A keyring that goes with us in whatever way we end, and with it the agent that gpg starts.
struct Home {
    _cleanup: Cleanup,
    folder: TempDir,
}

impl Home {
    fn with(key: &Path) -> Result<Self> {
        let folder = TempDir::new("gpg")?;
        let (cleanup, path) = (Cleanup::new()?, quoted_path(folder.path()));
        cleanup.add(&format!("gpgconf --homedir {path} --kill all; rm -rf {path}"))?;
        let home = Self { _cleanup: cleanup, folder };
        let mut import = gpg(Some(&home));
        import.arg("--import").arg(key);
        harness_core::run(import).with_context(|| format!("{} is no key that gpg reads", key.display()))?;
        Ok(home)
    }
}

fn gpg(home: Option<&Home>) -> Command {
    let mut gpg = Command::new("gpg");
    gpg.args(["--batch", "--quiet", "--no-auto-check-trustdb"]).env("LC_ALL", "C");
    if let Some(home) = home {
        // There is no terminal to ask for a passphrase on.
        gpg.arg("--homedir").arg(home.folder.path()).args(["--pinentry-mode", "error"]);
    }
    gpg
}

/// Of the only secret key in gpg's list.
fn only_fingerprint(list: &str) -> Result<String> {
    let mut keys = list.lines().filter(|line| line.starts_with("sec:"));
    ensure!(keys.next().is_some(), "is not a secret one");
    ensure!(keys.next().is_none(), "is one of several: name one by its fingerprint");
    let fingerprint =
        list.lines().find_map(|line| line.strip_prefix("fpr:")?.trim_matches(':').split(':').next());
    match fingerprint {
        Some(fingerprint) => Ok(fingerprint.to_owned()),
        None => bail!("has no fingerprint in gpg's list"),
    }
}
