//! Embeds the XDP program that `cargo xtask build` left in cargo's target directory, when there is
//! one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rustc-check-cfg=cfg(embedded_guard)");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let triple = env::var_os("TARGET").unwrap_or_default();
    let folder = target_dir(&out, &triple).ok_or(io::ErrorKind::NotFound)?.join("bpf");
    // The folder is watched, not the file: cargo takes a missing file for one that has just
    // changed, every time.
    fs::create_dir_all(&folder)?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let object = folder.join("hookgate-guard.o");
    if object.exists() {
        fs::copy(&object, out.join("hookgate-guard.o"))?;
        println!("cargo::rustc-cfg=embedded_guard");
    }
    Ok(())
}

/// From `<target>/[<triple>/]<profile>/build/<package>/out`.
fn target_dir<'a>(out: &'a Path, triple: &OsStr) -> Option<&'a Path> {
    let above_profile = out.ancestors().nth(4)?;
    if above_profile.file_name() == Some(triple) { above_profile.parent() } else { Some(above_profile) }
}
