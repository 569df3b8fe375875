//! The C library, which the binary is linked to: from the system that builds it, as in the package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::architecture::Architecture;

pub struct Library {
    pub name: String,
    pub path: PathBuf,
    /// Debian's package that it is from.
    pub package: &'static str,
}

/// A Debian whose libraries go into the image.
pub struct System {
    root: PathBuf,
    architecture: Architecture,
}

impl System {
    /// # Errors
    /// This machine's is of another architecture.
    pub fn of(architecture: Architecture) -> Result<Self> {
        ensure!(
            std::env::consts::ARCH == architecture.machine(),
            "this machine has no C library for {}: choose --arch",
            architecture.name()
        );
        Ok(Self { root: "/".into(), architecture })
    }

    /// What `binary` needs, and what that needs in turn.
    ///
    /// # Errors
    /// A library is not there.
    pub fn libraries(&self, binary: &Path) -> Result<Vec<Library>> {
        let mut libraries: Vec<Library> = Vec::new();
        let mut to_read = vec![binary.to_owned()];
        while let Some(file) = to_read.pop() {
            let mut objdump = self.architecture.tool("objdump");
            objdump.arg("--private-headers").arg(&file);
            for name in needed(&harness_core::run(objdump)?) {
                if libraries.iter().all(|known| known.name != name) {
                    let path = self.root.join("lib").join(self.architecture.triplet()).join(name);
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
        const FORMAT: &str = "Package: ${Package}\\nSource: ${source:Package} (${source:Version})\\n\
            Status: install ok installed\\nArchitecture: ${Architecture}\\nVersion: ${Version}\\n\
            Maintainer: ${Maintainer}\\nDescription: ${binary:Summary}\\n";
        let mut query = Command::new("dpkg-query");
        query.arg("--admindir").arg(self.root.join("var/lib/dpkg"));
        query.args(["--show", &format!("--showformat={FORMAT}")]);
        query.arg(format!("{package}:{}", self.architecture.name()));
        harness_core::run(query)
    }
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
