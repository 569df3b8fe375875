//! What the kernel says about a process and its descendants.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time on a processor since each started. From `schedstat`, in nanoseconds: the ticks of `stat`
/// are too coarse for a second with 300 requests.
pub fn cpu(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in tree(pid)? {
        for task in tasks(pid)? {
            let path = format!("/proc/{pid}/task/{task}/schedstat");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            let ran = text.split(' ').next().and_then(|ran| ran.parse().ok());
            total += Duration::from_nanos(ran.with_context(|| format!("{path} holds {text:?}"))?);
        }
    }
    Ok(total)
}

pub fn pss_kib(pid: u32) -> Result<u64> {
    sum_kib(pid, "smaps_rollup", "Pss:")
}

pub fn rss_kib(pid: u32) -> Result<u64> {
    sum_kib(pid, "status", "VmRSS:")
}

fn sum_kib(pid: u32, file: &str, name: &str) -> Result<u64> {
    let mut total = 0;
    for pid in tree(pid)? {
        let path = format!("/proc/{pid}/{file}");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"));
        let value = value.and_then(|value| value.trim().parse::<u64>().ok());
        total += value.with_context(|| format!("{path} without {name}"))?;
    }
    Ok(total)
}

/// The process and all below it.
pub fn tree(pid: u32) -> Result<Vec<u32>> {
    let mut found = vec![pid];
    let mut looked_at = 0;
    while let Some(pid) = found.get(looked_at).copied() {
        looked_at += 1;
        for task in tasks(pid)? {
            let path = format!("/proc/{pid}/task/{task}/children");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            found.extend(text.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    Ok(found)
}

fn tasks(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| format!("reading {path}: the process is gone"))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?));
    names.collect()
}
