//! Two machines and a wire between them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Counts, Need, NetNs, TempDir, require, run, wait_until};
use serde_json::Value;

/// Addresses of Meta's, and the prefix of the built-in table each belongs to.
pub const META: [(&str, &str); 6] = [
    ("31.13.66.7", "31.13.66.0/24"),
    ("31.13.67.7", "31.13.64.0/18"),
    ("57.144.1.7", "57.144.0.0/14"),
    ("157.240.1.7", "157.240.0.0/17"),
    ("2a03:2880:f003::7", "2a03:2880:f000::/36"),
    ("2a03:2880:1::7", "2a03:2880::/36"),
];
pub const STRANGERS: [&str; 2] = ["203.0.113.7", "2001:db8:7::7"];
pub const EDGE_V4: &str = "198.51.100.2";
pub const EDGE_V6: &str = "2001:db8:1::2";
/// No machine has it: a place for the other end's hardware address.
const GATEWAY_V4: &str = "198.51.100.1";
const GATEWAY_V6: &str = "fe80::1";
/// Guarded, but not served.
pub const CLOSED: u16 = 8443;
/// Of no interest to the guard.
pub const UNGUARDED: u16 = 8444;

/// Two machines and a wire; hookgate's guard belongs on `wan0` of `edge`.
pub struct Testbed {
    pub meta: NetNs,
    pub edge: NetNs,
    pub dir: TempDir,
}

impl Testbed {
    pub fn new() -> Result<Self> {
        let testbed = Self { meta: NetNs::new()?, edge: NetNs::new()?, dir: TempDir::new("guard")? };
        testbed.connect()?;
        Ok(testbed)
    }

    pub fn connect(&self) -> Result<()> {
        NetNs::link((&self.meta, "wan0"), (&self.edge, "wan0"))?;
        // Each is the other's gateway, and known without asking: whatever is sent is on the wire at
        // once, to whomever.
        for (ns, own, other) in [
            (&self.meta, "02:00:00:00:00:01", "02:00:00:00:00:02"),
            (&self.edge, "02:00:00:00:00:02", "02:00:00:00:00:01"),
        ] {
            ns.run(&format!("ip link set wan0 address {own}"))?;
            for gateway in [GATEWAY_V4, GATEWAY_V6] {
                ns.run(&format!("ip neigh add {gateway} lladdr {other} dev wan0 nud permanent"))?;
            }
        }
        for address in META.iter().map(|(address, _)| *address).chain(STRANGERS) {
            let length = if address.contains(':') { 128 } else { 32 };
            self.meta.address("wan0", &format!("{address}/{length}"))?;
        }
        self.edge.address("wan0", &format!("{EDGE_V4}/32"))?;
        self.edge.address("wan0", &format!("{EDGE_V6}/128"))?;
        for ns in [&self.meta, &self.edge] {
            ns.run(&format!("ip route add default via {GATEWAY_V4} dev wan0 onlink"))?;
            ns.run(&format!("ip -6 route add default via {GATEWAY_V6} dev wan0"))?;
        }
        Ok(())
    }

    /// hookgate on `edge`, with `guard` among the lines of `[guard]`.
    pub fn hookgate(&self, interface: &str, guard: &str, args: &str) -> Result<Command> {
        self.hookgate_with("--bounding-set=+all", interface, guard, args)
    }

    pub fn hookgate_with(
        &self,
        capabilities: &str,
        interface: &str,
        guard: &str,
        args: &str,
    ) -> Result<Command> {
        self.command(capabilities, interface, &format!("443, {CLOSED}"), guard, args)
    }

    fn command(
        &self,
        capabilities: &str,
        interface: &str,
        ports: &str,
        guard: &str,
        args: &str,
    ) -> Result<Command> {
        let text = format!(
            "[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n\"a.example\" = {{}}\n\
             [guard]\ninterfaces = [\"{interface}\"]\nports = [{ports}]\n{guard}\n"
        );
        let mut command = self.edge.command("setpriv");
        command.args([capabilities, "--"]).arg(harness::binary()?).args(args.split(' '));
        command.arg("--config").arg(self.dir.write("hookgate.toml", &text)?);
        Ok(command)
    }

    /// The same, with other ports guarded.
    pub fn run_with_ports(&self, ports: &str, guard: &str, args: &str) -> Result<String> {
        run(self.command("--bounding-set=+all", "wan0", ports, guard, args)?)
    }

    pub fn refusal_with_ports(&self, ports: &str, guard: &str, args: &str) -> Result<(Option<i32>, String)> {
        refusal(self.command("--bounding-set=+all", "wan0", ports, guard, args)?)
    }

    pub fn run(&self, guard: &str, args: &str) -> Result<String> {
        run(self.hookgate("wan0", guard, args)?)
    }

    /// The exit code and what it said of a command that fails.
    pub fn refusal(&self, guard: &str, args: &str) -> Result<(Option<i32>, String)> {
        refusal(self.hookgate("wan0", guard, args)?)
    }

    pub fn wait_for(
        &self,
        limit: Duration,
        mut expected: impl FnMut(&Value) -> Result<bool>,
    ) -> Result<Value> {
        let (_, stats) = wait_until("the counts are as expected", limit, || {
            let stats = self.stats()?;
            Ok((expected(&stats)?, stats))
        })?;
        Ok(stats)
    }

    pub fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.run("", "stats --json")?)?)
    }

    /// A webhook over TLS to 443; to another port, without a listener, one SYN that a RST answers.
    pub fn send(&self, from: &str, port: u16) -> Result<()> {
        let to = if from.contains(':') { format!("[{EDGE_V6}]") } else { EDGE_V4.into() };
        let mut curl = self.meta.command("curl");
        curl.args(["-sk", "--noproxy", "*", "--max-time", "10", "--interface", from, "-d", "{}"]);
        let output = curl.arg(format!("https://{to}:{port}/")).output()?;
        ensure!(output.status.success() == (port == 443), "curl from {from} to {port}: {output:?}");
        Ok(())
    }
}

pub fn refusal(mut command: Command) -> Result<(Option<i32>, String)> {
    let output = command.output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

pub fn counts(of: &Value) -> Counts {
    let field = |name: &str| of[name].as_u64().unwrap_or(u64::MAX);
    Counts { packets: field("packets"), bytes: field("bytes"), syns: field("syns") }
}

/// Every row that is not zero, by prefix, and `other`.
pub fn by_prefix(stats: &Value) -> BTreeMap<String, Counts> {
    let rows = stats["prefixes"].as_array().into_iter().flatten();
    let rows = rows.map(|row| (row["prefix"].as_str().unwrap_or("?").to_owned(), counts(row)));
    rows.chain([("other".to_owned(), counts(&stats["other"]))])
        .filter(|(_, counts)| *counts != Counts::default())
        .collect()
}

/// Of one row: packets that open, their outcomes, then packets that end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shakes {
    pub syns: u64,
    pub retransmitted: u64,
    pub handshakes: u64,
    pub failed: u64,
    pub untracked: u64,
    pub fins: u64,
    pub rsts: u64,
    pub dropped: u64,
}

impl Shakes {
    pub fn of(row: &Value) -> Self {
        let field = |name: &str| row[name].as_u64().unwrap_or(u64::MAX);
        Self {
            syns: field("syns"),
            retransmitted: field("syns_retransmitted"),
            handshakes: field("handshakes"),
            failed: field("handshakes_failed"),
            untracked: field("untracked"),
            fins: field("fins"),
            rsts: field("rsts"),
            dropped: field("dropped"),
        }
    }
}

/// The row of a prefix, of `other`, or of a network among those seen.
pub fn row<'s>(stats: &'s Value, name: &str) -> &'s Value {
    let named =
        |list: &str, key: &str| stats[list].as_array().into_iter().flatten().find(|row| row[key] == name);
    if name == "other" {
        return &stats["other"];
    }
    named("prefixes", "prefix").or_else(|| named("seen", "network")).unwrap_or(&Value::Null)
}

pub fn can_run(more: &[Need]) -> bool {
    let programs = ["ip", "ethtool", "tcpdump", "nsenter", "curl"].map(Need::Program);
    require(&[&[Need::Root, Need::Guard], &programs[..], more].concat())
}
