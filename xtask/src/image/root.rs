//! The image's file system, laid out in a folder, and as the bytes of its one layer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness_core::Workspace;

use super::authorities;
use super::libraries::System;
use crate::arch::Arch;
use crate::{folder, sbom};

const FILE: u32 = 0o644;
const PROGRAM: u32 = 0o755;
/// From packaging/, and where it goes.
const FILES: [(&str, &str); 3] = [
    ("container/hookgate.toml", "etc/hookgate/hookgate.toml"),
    ("hookgate.toml", "usr/share/doc/hookgate/examples/hookgate.toml"),
    ("debian/copyright", "usr/share/doc/hookgate/copyright"),
];
/// hookgate's own, and what the kernel and runtimes mount.
const FOLDERS: [(&str, u32); 8] = [
    ("etc/hookgate/upstreams.d", 0o755),
    ("var/lib/hookgate", 0o700),
    ("run/hookgate", 0o750),
    ("tmp", 0o1777),
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("root", 0o700),
];
/// The worker becomes `hookgate-worker`.
const USERS: &str = "root:x:0:0:root:/root:/sbin/nologin\n\
    hookgate-worker:x:65534:65534:hookgate's worker:/nonexistent:/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nhookgate-worker:x:65534:\n";
/// The C library's own defaults, except that `hosts` asks the file first.
const NAME_SERVICES: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

pub struct Root {
    path: PathBuf,
}

impl Root {
    /// Puts the files into `path`, which is emptied before.
    ///
    /// # Errors
    /// One can't be made, or is not on this system.
    pub fn lay_out(workspace: &Workspace, path: &Path, binary: &Path, arch: Arch) -> Result<Self> {
        folder::empty(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        let root = Self { path: path.to_owned() };
        for (folder, mode) in FOLDERS {
            root.folder(folder, mode)?;
        }
        for (from, to) in FILES {
            root.write(to, &read(&workspace.root.join("packaging").join(from))?, FILE)?;
        }
        root.write("etc/passwd", USERS.as_bytes(), FILE)?;
        root.write("etc/group", GROUPS.as_bytes(), FILE)?;
        root.write("etc/nsswitch.conf", NAME_SERVICES.as_bytes(), FILE)?;
        root.write("etc/ssl/certs/ca-certificates.crt", authorities::pem().as_bytes(), FILE)?;
        root.write("usr/bin/hookgate", &read(binary)?, PROGRAM)?;
        let [components, licences] = [sbom::spdx(workspace, arch, binary)?, sbom::licences(workspace, arch)?];
        root.write(&format!("usr/share/doc/hookgate/{}", sbom::FILE), components.as_bytes(), FILE)?;
        root.write(&format!("usr/share/doc/hookgate/{}", sbom::LICENCES_FILE), licences.as_bytes(), FILE)?;
        root.add_libraries(binary, arch)?;
        Ok(root)
    }

    fn add_libraries(&self, binary: &Path, arch: Arch) -> Result<()> {
        let (system, loader) = (System::of(arch)?, loader(arch));
        for library in system.libraries(binary)? {
            let to = match loader.ends_with(&library.name) {
                true => loader.to_owned(),
                false => format!("lib/{}/{}", arch.gnu(), library.name),
            };
            self.write(&to, &read(&library.path)?, PROGRAM)?;
            let package = library.package;
            let copyright = system.copyright(package)?;
            self.write(&format!("usr/share/doc/{package}/copyright"), &copyright, FILE)?;
            let status = system.status(package)?;
            self.write(&format!("var/lib/dpkg/status.d/{package}"), status.as_bytes(), FILE)?;
        }
        Ok(())
    }

    /// The layer: of root's, each file of the same date, sorted. `committed` in seconds since 1970.
    ///
    /// # Errors
    /// tar fails.
    pub fn layer(&self, committed: u64) -> Result<Vec<u8>> {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--format=ustar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
        tar.arg(format!("--mtime=@{committed}")).arg("--directory").arg(&self.path).arg(".");
        tar.env("LC_ALL", "C");
        harness_core::run_with_input(tar, &[])
    }

    fn folder(&self, name: &str, mode: u32) -> Result<()> {
        let path = self.path.join(name);
        self.make_folders(&path)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    }

    fn write(&self, to: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.path.join(to);
        self.make_folders(path.parent().unwrap_or(&path))?;
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    }

    /// Whatever this process's umask is.
    fn make_folders(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.make_folders(path.parent().context("a folder without a parent")?)?;
        fs::create_dir(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    }
}

/// Where its programs expect the dynamic loader.
fn loader(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "lib64/ld-linux-x86-64.so.2",
        Arch::Arm64 => "lib/ld-linux-aarch64.so.1",
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use harness_core::TempDir;

    use super::*;

    #[test]
    fn a_layer_depends_on_names_contents_and_modes_alone() {
        let dir = TempDir::new("layer").unwrap();
        let layer = |name: &str, order: [&str; 2]| {
            let root = Root { path: dir.path().join(name) };
            fs::create_dir(&root.path).unwrap();
            order.iter().for_each(|file| root.write(file, file.as_bytes(), FILE).unwrap());
            root.folder("tmp", 0o1777).unwrap();
            root.layer(1_700_000_000).unwrap()
        };
        let archive = layer("one", ["etc/b", "etc/a"]);
        assert!(archive == layer("two", ["etc/a", "etc/b"]), "in another order, at another time");
        let mut tar = Command::new("tar");
        tar.args(["--list", "--verbose", "--numeric-owner", "--utc"]).env("LC_ALL", "C");
        let listed = String::from_utf8(harness_core::run_with_input(tar, &archive).unwrap()).unwrap();
        let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        let names: Vec<&str> = lines.iter().filter_map(|words| words.last().copied()).collect();
        assert_eq!(names, ["./", "./etc/", "./etc/a", "./etc/b", "./tmp/"]);
        assert!(lines.iter().all(|words| words[1] == "0/0" && words[3] == "2023-11-14"), "{listed}");
        assert!(lines[4][0] == "drwxrwxrwt" && lines[2][0] == "-rw-r--r--", "{listed}");
    }
}
