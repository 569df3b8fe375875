use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::{NetNs, Running, wait_until};

/// A real DNS server (dnsmasq) that knows the names it is given, and no others.
pub struct DnsServer {
    running: Running,
    address: SocketAddr,
}

impl DnsServer {
    /// Serves `records` (name, address) on `address`, inside `ns`.
    ///
    /// # Errors
    /// No dnsmasq, or the port is taken.
    pub fn start(ns: &NetNs, address: SocketAddr, records: &[(&str, IpAddr)]) -> Result<Self> {
        Self::start_with(ns, address, records, &[])
    }

    /// The same with further options of dnsmasq's.
    ///
    /// # Errors
    /// As [`DnsServer::start`].
    pub fn start_with(
        ns: &NetNs,
        address: SocketAddr,
        records: &[(&str, IpAddr)],
        options: &[&str],
    ) -> Result<Self> {
        let mut command = ns.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="]);
        // A process that changes user or group loses PR_SET_PDEATHSIG.
        command.args(["--user=root", "--group=root"]);
        command.args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--log-queries", "--log-facility=-"]);
        command.args([format!("--listen-address={}", address.ip()), format!("--port={}", address.port())]);
        command.args(records.iter().map(|(name, ip)| format!("--host-record={name},{ip}")));
        // What is not in the records does not exist, rather than being refused.
        command.arg("--local=/#/").args(options);
        let mut running = Running::start(command)?;
        running.wait_for_stderr("started", Duration::from_secs(10))?;
        Ok(Self { running, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it read its files again (`--addn-hosts`), and returns when it has.
    ///
    /// # Errors
    /// It is gone, or does not say so in time.
    pub fn read_again(&self) -> Result<()> {
        const SAYS: &str = "read ";
        let before = self.log().matches(SAYS).count();
        self.running.signal(Signal::HUP)?;
        wait_until("dnsmasq reads its files again", Duration::from_secs(10), || {
            Ok(self.log().matches(SAYS).count() > before)
        })
        .with_context(|| format!("dnsmasq does not read its files again:\n{}", self.log()))?;
        Ok(())
    }

    /// Its log: a line per question and answer.
    pub fn log(&self) -> String {
        self.running.stderr()
    }
}
