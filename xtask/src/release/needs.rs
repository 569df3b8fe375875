//! What a binary wants of the system that it runs on.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;

/// The oldest that is out there: Ubuntu 22.04's.
const NEWEST_GLIBC: (u32, u32) = (2, 35);
/// The libraries that it may be linked to: libc6 and libgcc-s1 bring them.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux"];

pub struct Needs {
    /// The C library's version, as its symbols have it.
    glibc: (u32, u32),
    gcc: bool,
}

impl Needs {
    /// # Errors
    /// It does not run on [`NEWEST_GLIBC`], or needs a library that the package does not depend on.
    pub fn of(binary: &Path, arch: Arch) -> Result<Self> {
        let mut objdump = Command::new(super::tool(arch, "objdump")?);
        objdump.args(["--private-headers", "--dynamic-syms"]).arg(binary);
        let said = harness_core::run(objdump)?;
        let libraries: Vec<&str> =
            said.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim).collect();
        for library in &libraries {
            let known = LIBRARIES.iter().any(|name| library.starts_with(name));
            ensure!(known, "the binary is linked to {library}, which the package does not depend on");
        }
        let (glibc, symbol) = newest_symbol(&said).context("objdump names no symbol of the C library")?;
        ensure!(
            glibc <= NEWEST_GLIBC,
            "the binary needs {symbol} of glibc {}.{}, and is to run with {}.{}",
            glibc.0,
            glibc.1,
            NEWEST_GLIBC.0,
            NEWEST_GLIBC.1
        );
        Ok(Self { glibc, gcc: libraries.iter().any(|library| library.starts_with("libgcc")) })
    }

    /// For the control file's Depends.
    pub fn depends(&self) -> String {
        let (major, minor) = self.glibc;
        format!("libc6 (>= {major}.{minor}){}", if self.gcc { ", libgcc-s1" } else { "" })
    }
}

/// `0000 DF *UND* 0000 (GLIBC_2.34) dlopen`
fn newest_symbol(said: &str) -> Option<((u32, u32), &str)> {
    let versioned = said.lines().filter_map(|line| {
        let (_, rest) = line.split_once("GLIBC_")?;
        let (version, symbol) = rest.split_once([')', ' '])?;
        let mut numbers = version.split('.').map(str::parse::<u32>);
        Some(((numbers.next()?.ok()?, numbers.next()?.ok()?), symbol.trim()))
    });
    versioned.max_by_key(|(version, _)| *version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        let said = "\
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.34) dlsym
0000000000000000  w   DF *UND*\t0000000000000000 (GLIBC_2.2.5) __cxa_finalize
0000000000000000      DF *UND*\t0000000000000000 (GCC_3.0) _Unwind_Resume";
        assert_eq!(newest_symbol(said), Some(((2, 34), "dlsym")));
    }
}
