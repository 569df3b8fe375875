//! The C library, which the binary is linked to: from the system that builds it, as in the package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::architecture::Architecture;
use crate::package::said;

pub struct Library {
    pub name: String,
    pub path: PathBuf,
    /// Debian's package that it is from.
    pub package: String,
}

/// What `binary` needs, and what that needs in turn.
///
/// # Errors
/// A library is not there, or of no package.
pub fn of(binary: &Path, architecture: Architecture) -> Result<Vec<Library>> {
    let mut libraries: Vec<Library> = Vec::new();
    let mut to_read = vec![binary.to_owned()];
    while let Some(file) = to_read.pop() {
        let mut objdump = architecture.tool("objdump");
        objdump.arg("--private-headers").arg(&file);
        for name in needed(&harness_core::run(objdump)?) {
            if libraries.iter().all(|known| known.name != name) {
                let path = architecture.library(name)?;
                to_read.push(path.clone());
                libraries.push(Library { name: name.to_owned(), package: package(&path)?, path });
            }
        }
    }
    libraries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(libraries)
}

fn needed(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim).collect()
}

/// dpkg knows a file by the path that the package has for it: `/lib` may have become `/usr/lib`.
fn package(path: &Path) -> Result<String> {
    let path = path.to_string_lossy();
    let names = [path.strip_prefix("/usr").unwrap_or(&path), &path];
    let owners = names.iter().find_map(|name| said("dpkg", &["--search", name]).ok());
    let owners = owners.with_context(|| format!("{path} belongs to no Debian package"))?;
    let owner = owners.split(": ").next().unwrap_or_default();
    Ok(owner.split(':').next().unwrap_or_default().to_owned())
}

/// Its licence.
///
/// # Errors
/// The package has none.
pub fn copyright(package: &str) -> Result<Vec<u8>> {
    let path = format!("/usr/share/doc/{package}/copyright");
    std::fs::read(&path).with_context(|| format!("reading {path}"))
}

/// What scanners for vulnerabilities look for, as `/var/lib/dpkg/status.d` in images without dpkg.
///
/// # Errors
/// dpkg does not know the package.
pub fn status(package: &str, architecture: Architecture) -> Result<String> {
    let of = |name: &str| {
        let mut query = Command::new("dpkg-query");
        let format = "Package: ${source:Package}\\nStatus: install ok installed\\nArchitecture: ${Architecture}\\n\
                      Version: ${source:Version}\\nMaintainer: ${Maintainer}\\nDescription: ${binary:Summary}\\n";
        query.args(["--show", &format!("--showformat={format}"), name]);
        harness_core::run(query)
    };
    of(&format!("{package}:{}", architecture.name())).or_else(|_| of(package))
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
