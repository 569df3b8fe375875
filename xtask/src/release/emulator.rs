//! Binaries for another processor, run here for what takes neither packets nor a kernel of theirs:
//! QEMU translates their system calls.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::arch::Arch;
use crate::archive::unpack;
use crate::{cache, install};

const PACKAGE: &str = "qemu-user-static";

/// `binary` as a command, to which arguments can be added.
///
/// # Errors
/// It is for another processor, and the emulator can't be fetched.
pub fn command(arch: Arch, binary: &Path) -> Result<Command> {
    if arch == Arch::host()? {
        return Ok(Command::new(binary));
    }
    let mut qemu = Command::new(program(&emulator()?, arch));
    // Where the packages for cross compiling have the C library.
    qemu.arg("-L").arg(Path::new("/usr").join(arch.gnu())).arg(binary);
    Ok(qemu)
}

/// QEMU's user mode, unpacked into the cache: installed, it would have the kernel start such
/// binaries by themselves.
///
/// # Errors
/// It can't be fetched.
pub fn emulator() -> Result<PathBuf> {
    let works = |root: &Path| {
        [Arch::Amd64, Arch::Arm64].into_iter().all(|arch| {
            let mut version = Command::new(program(root, arch));
            version.arg("--version");
            harness_core::run(version).is_ok()
        })
    };
    cache::find_or_make(PACKAGE, works, |aside, home| {
        eprintln!("xtask: fetching {PACKAGE} once, into {} (30 MB to download)", home.display());
        let archives = aside.join("archives");
        // Old lists name files that the archive no longer has.
        install::download(&[PACKAGE], &archives).or_else(|_| {
            install::update()?;
            install::download(&[PACKAGE], &archives)
        })?;
        unpack(&archives, aside)
    })
}

fn program(root: &Path, arch: Arch) -> PathBuf {
    let processor = arch.triple().split('-').next().unwrap_or_default();
    root.join(format!("usr/bin/qemu-{processor}-static"))
}
