//! What compiles and links for an architecture: this machine's own compiler, or one that has a
//! standard library for the other processor.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::archive::{Archive, Origin, unpack};
use crate::{cache, ebpf, install};

/// Debian's compiler, and its standard library.
const RUSTC: &str = "rustc-web";
const STD: &str = "libstd-rust-web-dev";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

pub struct Toolchain {
    /// Another than cargo takes by itself.
    rustc: Option<PathBuf>,
    /// Where rustc has its own sources.
    sysroot: PathBuf,
    /// The folder with the standard library, where that is not with rustc's own.
    std: Option<PathBuf>,
    /// The C compiler, which links too.
    cross: Option<Cross>,
}

struct Cross {
    arch: Arch,
    gcc: String,
}

impl Toolchain {
    /// # Errors
    /// There is no standard library for `arch`, or no C compiler, and none can be fetched: with the
    /// command that helps.
    pub fn find_or_fetch(arch: Arch) -> Result<Self> {
        let sysroot = ebpf::sysroot(Path::new("rustc"))?;
        if arch == Arch::host()? {
            return Ok(Self { rustc: None, sysroot, std: None, cross: None });
        }
        let cross = Some(Cross { arch, gcc: find_or_install_gcc(arch)? });
        if has_std(&sysroot, arch) {
            return Ok(Self { rustc: None, sysroot, std: None, cross });
        }
        let std = fetch_std(arch).with_context(|| {
            format!("rustc has no standard library for {arch}; run: rustup target add {}", arch.triple())
        })?;

        let sysroot = ebpf::sysroot(Path::new(DEBIAN_RUSTC))?;
        Ok(Self { rustc: Some(DEBIAN_RUSTC.into()), sysroot, std: Some(std), cross })
    }

    pub fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// rustc's, such as `1.96.0`.
    ///
    /// # Errors
    /// It does not run, or does not say it.
    pub fn version(&self) -> Result<String> {
        self.said("release")
    }

    /// The `22` of its LLVM.
    ///
    /// # Errors
    /// It does not run, or does not say it.
    pub fn llvm_major(&self) -> Result<String> {
        let version = self.said("LLVM version")?;
        Ok(version.split('.').next().unwrap_or_default().to_owned())
    }

    /// A line of `rustc -vV`.
    fn said(&self, name: &str) -> Result<String> {
        let mut rustc = Command::new(self.rustc.as_deref().unwrap_or(Path::new("rustc")));
        rustc.arg("-vV");
        let said = harness_core::run(rustc)?;
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(value.with_context(|| format!("rustc does not say its {name}"))?.to_owned())
    }

    /// For rustc.
    pub fn flags(&self) -> Vec<String> {
        // With `--target`, what runs at compile time is compiled without these flags, and finds
        // this machine's library where rustc has it.
        self.std.iter().map(|std| format!("--sysroot={}", std.display())).collect()
    }

    /// Sets what cargo reads.
    pub fn choose_for(&self, cargo: &mut Command) {
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        if let Some(Cross { arch, gcc }) = &self.cross {
            let triple = arch.triple().replace('-', "_");
            cargo.env(format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase()), gcc);
            cargo.env(format!("CC_{triple}"), gcc);
        }
    }
}

/// `gcc-aarch64-linux-gnu`: `kind` for another processor than this machine's.
pub fn cross_package(kind: &str, arch: Arch) -> String {
    format!("{kind}-{}", arch.gnu().replace('_', "-"))
}

fn has_std(sysroot: &Path, arch: Arch) -> bool {
    let libraries = sysroot.join("lib/rustlib").join(arch.triple()).join("lib");
    let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
    let files = std::fs::read_dir(libraries).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.file_name().to_str().is_some_and(is_std))
}

fn find_or_install_gcc(arch: Arch) -> Result<String> {
    let gcc = format!("{}-gcc", arch.gnu());
    // The start of every program: without it there is a compiler and no C library.
    let library = Path::new("/usr").join(arch.gnu()).join("lib/crt1.o");
    if !harness_core::in_path(&gcc) || !library.exists() {
        let packages = [cross_package("gcc", arch), format!("libc6-dev-{arch}-cross")];
        install::packages(&format!("to link for {arch}"), &packages.each_ref().map(String::as_str))?;
    }
    Ok(gcc)
}

/// The standard library of Debian's rustc for another processor, in the cache: its package could be
/// installed only where dpkg knows that architecture.
fn fetch_std(arch: Arch) -> Result<PathBuf> {
    if !harness_core::in_path("apt-get") {
        bail!("and there is no apt-get here to fetch one");
    }
    let fits = |version: &String| ebpf::ensure_new_enough(version).is_ok();
    let version = match install::installed(RUSTC).filter(fits) {
        Some(version) => version,
        None => {
            install::packages(&format!("to compile for {arch}"), &[RUSTC])?;
            let version = install::installed(RUSTC).with_context(|| format!("{RUSTC} is not installed"))?;
            ebpf::ensure_new_enough(&version)
                .with_context(|| format!("{RUSTC} is what the archive has; add its security updates"))?;
            version
        }
    };
    let works = |root: &Path| has_std(&root.join("usr"), arch);
    let root = cache::find_or_make(&format!("rust-std-{arch}-{version}"), works, |aside, home| {
        eprintln!("xtask: fetching Rust's library for {arch} once, into {} (34 MB)", home.display());
        let scratch = aside.join("archives");
        let archive =
            Archive::read(&Origin::debian_security().for_arch(arch), "bookworm-security", &scratch)?;
        archive.download(&format!("{STD}={version}"), &scratch).with_context(|| {
            format!(
                "{RUSTC} {version} is installed, and the archive has no {STD} of that version for {arch}; \
                 run: apt-get update && apt-get install {RUSTC}"
            )
        })?;
        unpack(&scratch, aside)
    })?;
    Ok(root.join("usr"))
}
