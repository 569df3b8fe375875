//! The package's files, as they will lie on the system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use harness_core::{Workspace, run_with_input};

use crate::arch::Arch;
use crate::folder;
use crate::release::{self, Needs};

const MAINTAINER: &str = "The hookgate authors <hookgate@example.invalid>";
const FILE: u32 = 0o644;
const PROGRAM: u32 = 0o755;
/// From packaging/, and where it goes.
const FILES: [(&str, &str, u32); 8] = [
    ("debian/hookgate.toml", "etc/hookgate/hookgate.toml", FILE),
    ("hookgate.toml", "usr/share/doc/hookgate/examples/hookgate.toml", FILE),
    ("debian/hookgate.service", "lib/systemd/system/hookgate.service", FILE),
    ("debian/hookgate.socket", "lib/systemd/system/hookgate.socket", FILE),
    ("debian/hookgate.tmpfiles", "usr/lib/tmpfiles.d/hookgate.conf", FILE),
    ("debian/grant-keys", "usr/lib/hookgate/grant-keys", PROGRAM),
    ("debian/certbot-hook", "etc/letsencrypt/renewal-hooks/deploy/hookgate", PROGRAM),
    ("debian/copyright", "usr/share/doc/hookgate/copyright", FILE),
];
pub const DOCUMENTS: &str = "usr/share/doc/hookgate";
/// Each shell's place for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/hookgate"),
    ("zsh", "usr/share/zsh/vendor-completions/_hookgate"),
    ("fish", "usr/share/fish/vendor_completions.d/hookgate.fish"),
];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// A folder of files to be packed, all of one date.
pub struct Tree {
    path: PathBuf,
    packaging: PathBuf,
    date: SystemTime,
}

impl Tree {
    /// Puts the files into `path`, which is emptied before; `committed` in seconds since 1970.
    ///
    /// # Errors
    /// One can't be made or written.
    pub fn lay_out(
        workspace: &Workspace,
        path: &Path,
        binary: &Path,
        version: &str,
        committed: u64,
    ) -> Result<Self> {
        folder::empty(path)?;
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(committed);
        let tree = Self { path: path.to_owned(), packaging: workspace.root.join("packaging"), date };
        for (from, to, mode) in FILES {
            tree.write(to, &read(&tree.packaging.join(from))?, mode)?;
        }
        fs::create_dir_all(path.join("etc/hookgate/upstreams.d"))?;

        tree.write("usr/bin/hookgate", &read(binary)?, PROGRAM)?;

        let log = read(&workspace.root.join("CHANGELOG.md"))?;
        tree.write("usr/share/doc/hookgate/changelog.gz", &gzip(&log)?, FILE)?;
        let date = said("date", &["-u", "-R", "-d", &format!("@{committed}")])?;
        let log = format!(
            "hookgate ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {MAINTAINER}  {date}\n"
        );
        tree.write("usr/share/doc/hookgate/changelog.Debian.gz", &gzip(log.as_bytes())?, FILE)?;
        Ok(tree)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What dpkg reads about the files. To be called last.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn write_control(&self, version: &str, arch: Arch, needs: &Needs) -> Result<()> {
        let files = self.files()?;
        let bytes: u64 =
            files.iter().map(|file| Ok(self.path.join(file).metadata()?.len())).sum::<Result<u64>>()?;
        let control = format!(
            "Package: hookgate\nVersion: {version}\nArchitecture: {arch}\nMaintainer: {MAINTAINER}\n\
             Section: net\nPriority: optional\nInstalled-Size: {}\nDepends: adduser, {}\n\
             Recommends: ca-certificates\nDescription: relay for Meta's webhooks that says where a message was lost\n \
             A reverse proxy for the webhooks of WhatsApp, Messenger and Instagram: it\n \
             takes them at a machine with clean connectivity and forwards them to\n \
             Chatwoot, or any other receiver, elsewhere. An XDP program counts every\n \
             connection of Meta's before anything can lose it.\n",
            bytes.div_ceil(1024),
            needs.depends()
        );
        let sums = files.iter().map(|file| self.sum(file)).collect::<Result<String>>()?;
        let conffiles: String =
            files.iter().filter(|file| file.starts_with("etc/")).map(|file| format!("/{file}\n")).collect();
        self.write("DEBIAN/control", control.as_bytes(), FILE)?;
        self.write("DEBIAN/md5sums", sums.as_bytes(), FILE)?;
        self.write("DEBIAN/conffiles", conffiles.as_bytes(), FILE)?;
        for script in SCRIPTS {
            let text = read(&self.packaging.join("debian").join(script))?;
            self.write(&format!("DEBIAN/{script}"), &text, PROGRAM)?;
        }
        self.for_each(&self.path, &mut |path| {
            let folder = path.is_dir();
            if folder {
                fs::set_permissions(path, fs::Permissions::from_mode(PROGRAM))?;
            }
            Ok(fs::File::open(path)?.set_modified(self.date)?)
        })
    }

    /// A file beside the copyright.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_document(&self, name: &str, text: &str) -> Result<()> {
        self.write(&format!("{DOCUMENTS}/{name}"), text.as_bytes(), FILE)
    }

    /// Manual pages and completions.
    ///
    /// # Errors
    /// The binary does not run here, or a file can't be written.
    pub fn write_what_the_binary_says(&self, arch: Arch, binary: &Path) -> Result<()> {
        let pages = harness_core::TempDir::new("man")?;
        let mut man = release::command(arch, binary)?;
        man.arg("man").arg(pages.path());
        harness_core::run(man)?;
        for page in fs::read_dir(pages.path())?.collect::<Result<Vec<_>, _>>()? {
            let name = format!("usr/share/man/man1/{}.gz", page.file_name().to_string_lossy());
            self.write(&name, &gzip(&read(&page.path())?)?, FILE)?;
        }
        for (shell, to) in COMPLETIONS {
            let mut completions = release::command(arch, binary)?;
            completions.args(["completions", shell]);
            self.write(to, harness_core::run(completions)?.as_bytes(), FILE)?;
        }
        Ok(())
    }

    /// The files without dpkg's own, from the tree's root, in order.
    fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        self.for_each(&self.path, &mut |path| {
            if path.is_file() {
                files.push(path.strip_prefix(&self.path)?.to_string_lossy().into_owned());
            }
            Ok(())
        })?;
        files.retain(|file| !file.starts_with("DEBIAN/"));
        files.sort();
        Ok(files)
    }

    fn for_each(&self, folder: &Path, act: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        for entry in fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()? {
            if entry.file_type()?.is_dir() {
                self.for_each(&entry.path(), act)?;
            } else {
                act(&entry.path())?;
            }
        }
        act(folder)
    }

    fn sum(&self, file: &str) -> Result<String> {
        let mut md5sum = Command::new("md5sum");
        md5sum.arg(file).current_dir(&self.path);
        harness_core::run(md5sum)
    }

    fn write(&self, to: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.path.join(to);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Without a name and a date inside.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip");
    gzip.arg("-9n");
    run_with_input(gzip, content)
}

/// What a program says, without the end of its line.
///
/// # Errors
/// It can't be started, or fails.
pub fn said(program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    Ok(harness_core::run(command)?.trim().to_owned())
}
