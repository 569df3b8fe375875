//! The BPF file system, where the guard's maps and links are pinned.

use std::process::Command;

use anyhow::{Context, Result};

pub const PATH: &str = "/sys/fs/bpf";

pub fn is_mounted() -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(mounts.lines().any(|line| {
        let (mount, source) = line.split_once(" - ").unwrap_or_default();
        mount.split(' ').nth(4) == Some(PATH) && source.starts_with("bpf ")
    }))
}

/// # Errors
/// Not root, or a kernel without it.
pub fn mount() -> Result<()> {
    let mut mount = Command::new("mount");
    mount.args(["-t", "bpf", "bpf", PATH]);
    harness::run(mount).map(|_| ())
}
