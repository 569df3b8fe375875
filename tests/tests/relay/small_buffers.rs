//! A network in which the kernel keeps little for sockets: a peer that does not read is noticed at
//! once.

use anyhow::{Result, ensure};
use harness::{Need, NetNs};

pub(crate) const NEEDS: [Need; 2] = [Need::Root, Need::Program("ip")];

pub(crate) fn with_small_buffers() -> Result<NetNs> {
    let ns = NetNs::new()?;
    let mut shell = ns.command("sh");
    shell.args(["-c", "cd /proc/sys/net/ipv4 && echo 4096 4096 4096 | tee tcp_wmem >tcp_rmem"]);
    ensure!(shell.status()?.success(), "the buffers cannot be made small");
    Ok(ns)
}
