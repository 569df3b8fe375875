//! The C library, which the binary is linked to: from the system that builds it, as in the package;
//! for another processor, from Debian 12's packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;
use crate::archive::{Archive, Origin, unpack};
use crate::cache;

pub struct Library {
    pub name: String,
    pub path: PathBuf,
    /// Debian's package that it is from.
    pub package: &'static str,
}

/// A Debian whose libraries go into the image.
pub struct System {
    root: PathBuf,
    arch: Arch,
}

/// What the libraries for another processor are taken from, as its binary was linked to them.
const SUITE: &str = "bookworm";
/// The last has the licence of the one before.
const PACKAGES: [&str; 3] = ["libc6", "libgcc-s1", "gcc-12-base"];
/// In the root of fetched packages: what there is of each in place of dpkg's own list.
const STATUS: &str = "status.d";
const FORMAT: &str = "Package: ${Package}\\nSource: ${source:Package} (${source:Version})\\n\
    Status: install ok installed\\nArchitecture: ${Architecture}\\nVersion: ${Version}\\n\
    Maintainer: ${Maintainer}\\nDescription: ${binary:Summary}\\n";

impl System {
    /// This machine, or what is fetched once for another processor.
    ///
    /// # Errors
    /// It can't be fetched.
    pub fn of(arch: Arch) -> Result<Self> {
        if arch == Arch::host()? {
            return Ok(Self { root: "/".into(), arch });
        }
        let works = |root: &Path| PACKAGES.iter().all(|package| root.join(STATUS).join(package).exists());
        let root = cache::find_or_make(&format!("libc-{arch}-{SUITE}"), works, |aside, home| {
            eprintln!("xtask: fetching the C library for {arch} once, into {} (3 MB)", home.display());
            let (scratch, status) = (aside.join("archives"), aside.join(STATUS));
            std::fs::create_dir_all(&status)?;
            let archive = Archive::read(&Origin::debian().for_arch(arch), SUITE, &scratch)?;
            for package in PACKAGES {
                archive.download(package, &scratch)?;
                let file = downloaded(&scratch, package)?;
                let mut show = Command::new("dpkg-deb");
                show.args(["--show", &format!("--showformat={FORMAT}")]).arg(file);
                std::fs::write(status.join(package), harness_core::run(show)?)?;
            }
            unpack(&scratch, aside)
        })?;
        Ok(Self { root, arch })
    }

    /// What `binary` needs, and what that needs in turn.
    ///
    /// # Errors
    /// A library is not there.
    pub fn libraries(&self, binary: &Path) -> Result<Vec<Library>> {
        let mut libraries: Vec<Library> = Vec::new();
        let mut to_read = vec![binary.to_owned()];
        while let Some(file) = to_read.pop() {
            let mut objdump = Command::new(self.arch.gnu_tool("objdump")?);
            objdump.arg("--private-headers").arg(&file);
            for name in needed(&harness_core::run(objdump)?) {
                if libraries.iter().all(|known| known.name != name) {
                    let path = self.root.join("lib").join(self.arch.gnu()).join(name);
                    ensure!(path.is_file(), "there is no {}: images are made on Debian", path.display());
                    to_read.push(path.clone());
                    libraries.push(Library { name: name.to_owned(), package: package(name), path });
                }
            }
        }
        libraries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(libraries)
    }

    /// A package's licence.
    ///
    /// # Errors
    /// The package has none.
    pub fn copyright(&self, package: &str) -> Result<Vec<u8>> {
        let path = self.root.join("usr/share/doc").join(package).join("copyright");
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// What scanners for vulnerabilities look for, as `/var/lib/dpkg/status.d` in images without
    /// dpkg.
    ///
    /// # Errors
    /// dpkg does not know the package.
    pub fn status(&self, package: &str) -> Result<String> {
        if self.root != Path::new("/") {
            let path = self.root.join(STATUS).join(package);
            return std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()));
        }
        let mut query = Command::new("dpkg-query");
        query.args(["--show", &format!("--showformat={FORMAT}")]);
        query.arg(format!("{package}:{}", self.arch.name()));
        harness_core::run(query)
    }
}

/// The file of a package that was downloaded into `folder`.
fn downloaded(folder: &Path, package: &str) -> Result<PathBuf> {
    let begins = format!("{package}_");
    let mut files = std::fs::read_dir(folder)?.filter_map(Result::ok);
    let file = files.find(|file| file.file_name().to_string_lossy().starts_with(&begins));
    Ok(file.with_context(|| format!("apt-get downloaded no {package}"))?.path())
}

fn needed(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim).collect()
}

/// The binary is linked to two packages' libraries.
fn package(library: &str) -> &'static str {
    if library.starts_with("libgcc_s") { "libgcc-s1" } else { "libc6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_read_from_what_objdump_says() {
        let said = "Dynamic Section:\n  NEEDED               libgcc_s.so.1\n  NEEDED               libc.so.6\n  INIT 0x0\n";
        assert_eq!(needed(said), ["libgcc_s.so.1", "libc.so.6"]);
    }
}
