//! The way from the binary to the layout.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use harness_core::Workspace;

use super::layout::{Image, Layout, Release};
use super::root::Root;
use crate::arch::Arch;
use crate::package::said;
use crate::{commit, install, release};

/// What is promised to those who download it.
const MAX_COMPRESSED_BYTES: usize = 16_000_000;
/// Which of Debian's packages have the programs that are used.
const TOOLS: [&str; 2] = ["binutils", "tar"];

/// The layout's folder; the same to the byte for the same commit, compiler and C library.
///
/// # Errors
/// The binary or a library can't be had, or the image is too large.
pub fn layout(workspace: &Workspace, architectures: &[Arch]) -> Result<PathBuf> {
    if !["objdump", "tar"].iter().all(|tool| harness_core::in_path(tool)) {
        install::packages("to make the image", &TOOLS)?;
    }
    let committed = commit::date(workspace)?;
    let created = said("date", &["-u", "-d", &format!("@{committed}"), "+%Y-%m-%dT%H:%M:%SZ"])?;
    let version = Release { version: env!("CARGO_PKG_VERSION"), created: &created };
    let folder = workspace.target.join("image");
    let layout = Layout::new(&folder)?;
    let images: Vec<Image> = architectures
        .iter()
        .map(|arch| {
            let name = arch.name();
            let tree = workspace.target.join("image-root").join(name);
            let binary = release::binary(workspace, *arch)?;
            let root = Root::lay_out(workspace, &tree, &binary, *arch)?;
            let image = layout.add(*arch, &root.layer(committed)?, &version)?;
            let bytes = image.compressed_bytes;
            eprintln!("xtask: image for {name}: {:.1} MB to download", bytes as f64 / 1e6);
            ensure!(
                bytes <= MAX_COMPRESSED_BYTES,
                "the image for {name} has {bytes} bytes, more than {MAX_COMPRESSED_BYTES}"
            );
            Ok(image)
        })
        .collect::<Result<_>>()?;
    layout.finish(&images, &version)?;
    Ok(folder)
}
