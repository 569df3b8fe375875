//! The way from the binary to the layout.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use harness_core::Workspace;

use super::architecture::{Architecture, Choice};
use super::layout::{Image, Layout, Release};
use super::root::Root;
use crate::install;
use crate::package::{committed, release, said};

/// What is promised to those who download it.
const MAX_COMPRESSED_BYTES: usize = 16_000_000;
/// Which of Debian's packages have the programs that are used.
const TOOLS: [&str; 2] = ["binutils", "tar"];

/// The layout's folder; the same to the byte for the same commit, compiler and C library.
///
/// # Errors
/// The binary or a library can't be had, or the image is too large.
pub fn layout(workspace: &Workspace, arch: Choice) -> Result<PathBuf> {
    if !["objdump", "strip", "tar"].iter().all(|tool| harness_core::in_path(tool)) {
        install::packages("to make the image", &TOOLS)?;
    }
    let committed = committed(workspace)?;
    let created = said("date", &["-u", "-d", &format!("@{committed}"), "+%Y-%m-%dT%H:%M:%SZ"])?;
    let release = Release { version: env!("CARGO_PKG_VERSION"), created: &created };
    let folder = workspace.target.join("image");
    let layout = Layout::new(&folder)?;
    let images: Vec<Image> = arch
        .architectures()
        .iter()
        .map(|architecture| {
            let tree = workspace.target.join("image-root").join(architecture.name());
            let binary = binary(workspace, *architecture)?;
            let root = Root::lay_out(workspace, &tree, &binary, *architecture)?;
            let image = layout.add(*architecture, &root.layer(committed)?, &release)?;
            let (name, bytes) = (architecture.name(), image.compressed_bytes);
            eprintln!("xtask: image for {name}: {:.1} MB to download", bytes as f64 / 1e6);
            ensure!(
                bytes <= MAX_COMPRESSED_BYTES,
                "the image for {name} has {bytes} bytes, more than {MAX_COMPRESSED_BYTES}"
            );
            Ok(image)
        })
        .collect::<Result<_>>()?;
    layout.finish(&images, &release)?;
    Ok(folder)
}

/// The binary that is shipped.
fn binary(workspace: &Workspace, architecture: Architecture) -> Result<PathBuf> {
    if std::env::consts::ARCH != architecture.machine() {
        bail!("no {} binary can be built on {}: choose --arch", architecture.name(), std::env::consts::ARCH);
    }
    release(workspace)
}
