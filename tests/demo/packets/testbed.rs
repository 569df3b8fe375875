//! Three machines: Meta, the edge where hookgate runs, and the one with the receiver.
//!
//! ```text
//!   meta ──wan0──wan0── edge ──lan0──lan0── inland
//!   curl, tap           hookgate, guard     nginx, dnsmasq
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Certs, Counts, DnsServer, NetNs, Nginx, Proxy, Sample, Tap};
use harness_core::{TempDir, equal, run, wait_until, wait_until_still};
use serde_json::Value;

/// The folder that holds the demo's temporary files, on a file system of its own.
pub const TEMP: &str = "/run";

/// Senders of Meta's, each with the announced prefix that it must be counted under: its longest
/// match.
pub const SENDERS: [(&str, &str); 10] = [
    ("31.13.115.5", "31.13.96.0/19"),
    ("66.220.149.33", "66.220.144.0/21"),
    ("69.171.250.20", "69.171.250.0/24"),
    ("157.240.12.7", "157.240.12.0/24"), // inside the next
    ("157.240.100.9", "157.240.0.0/17"), // inside the next
    ("157.240.130.1", "157.240.0.0/16"),
    ("173.252.95.10", "173.252.88.0/21"),
    ("2a03:2880:2ff:52::6", "2a03:2880::/36"), // inside the last
    ("2a03:2880:f0fc::5", "2a03:2880:f0fc::/47"),
    ("2a03:2880:9000::1", "2a03:2880::/32"),
];
/// Sends a SYN, and never hears the answer.
pub const SILENT: (&str, &str) = ("102.132.99.8", "102.132.99.0/24");
/// Not Meta.
pub const STRANGER: &str = "198.51.100.77";

const EDGE: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];
const INLAND: &str = "10.0.0.2";
const NAME: &str = "proxy.example.com";
const UPSTREAM: &str = "chatwoot.example.com";
const PORT: u16 = 443;

/// Both ends' counts of the same packets.
pub struct Counted {
    /// By source address, on Meta's end of the wire.
    pub sent: BTreeMap<IpAddr, Counts>,
    /// `hookgate stats` and `hookgate stats --json`, on the edge.
    pub stats: String,
    pub stats_json: String,
}

pub fn play(binary: &Path) -> Result<Counted> {
    let (meta, edge, inland) = (NetNs::new()?, NetNs::new()?, NetNs::new()?);
    wire(&meta, &edge, &inland)?;
    let files = TempDir::new("demo")?;
    let theirs = Certs::new(&[UPSTREAM])?;
    let [upstream_ca, ..] = theirs.write(&files, "upstream")?;
    let own = Certs::new(&[NAME])?;
    let [ca, cert, key] = own.write(&files, "own")?;
    let nginx = Nginx::start(&inland, format!("{INLAND}:443").parse()?, &theirs)?;
    let dns = DnsServer::start(&inland, format!("{INLAND}:53").parse()?, &[(UPSTREAM, INLAND.parse()?)])?;
    let config = format!(
        r#"
[listen]
https = ["0.0.0.0:{PORT}", "[::]:{PORT}"]

[tls]
cert = {cert:?}
key = {key:?}

[dns]
servers = ["{INLAND}"]

[upstreams]
"{UPSTREAM}" = {{ ca = {upstream_ca:?}, allow_private = true }}

[guard]
interfaces = ["wan0"]
ports = [{PORT}]
xdp = "native"
refresh = "off"
"#
    );
    let mut proxy = Proxy::start_binary(&edge, binary, &config)?;
    let attached = wait_until("the guard is attached", Duration::from_secs(10), || {
        let stats = serde_json::from_str::<Value>(&proxy.command(&edge, &["stats", "--json"])?)?;
        Ok(stats.pointer("/guard/state").is_some_and(|state| state == "attached"))
    });
    attached.with_context(|| proxy.stderr())?;
    println!("hookgate runs on {} and {}; its guard is on wan0, in native mode", EDGE[0], EDGE[1]);

    let tap = Tap::start(&meta, "wan0", PORT)?;
    deliver_everything(&meta, &ca, &nginx)?;
    ensure!(dns.log().contains(&format!("query[A] {UPSTREAM}")), "hookgate did not ask the DNS server");
    hang_up(&meta, &ca)?;
    let sent = quiet(&tap)?;
    let (stats, stats_json) =
        (proxy.command(&edge, &["stats"])?, proxy.command(&edge, &["stats", "--json"])?);
    ensure!(tap.finish()? == sent, "packets after the last answer: the two counts can't be compared");
    proxy.stop()?;
    Ok(Counted { sent, stats, stats_json })
}

fn wire(meta: &NetNs, edge: &NetNs, inland: &NetNs) -> Result<()> {
    NetNs::link((meta, "wan0"), (edge, "wan0"))?;
    NetNs::link((edge, "lan0"), (inland, "lan0"))?;
    for address in SENDERS.iter().map(|(address, _)| *address).chain([SILENT.0, STRANGER]) {
        meta.address("wan0", &host_route(address))?;
    }
    for address in EDGE {
        edge.address("wan0", &host_route(address))?;
        meta.run(&format!("ip route add {} dev wan0", host_route(address)))?;
    }
    edge.run("ip -4 route add default dev wan0")?;
    edge.run("ip -6 route add default dev wan0")?;
    edge.address("lan0", "10.0.0.1/24")?;
    inland.address("lan0", &format!("{INLAND}/24"))?;
    // What the edge answers to the silent one goes to a machine that is not there.
    edge.run(&format!("ip neighbour add {} lladdr 02:00:00:00:00:99 dev wan0 nud permanent", SILENT.0))?;
    Ok(())
}

/// Every sample request once, each from the next sender on a connection of its own; then one from
/// the stranger.
fn deliver_everything(meta: &NetNs, ca: &Path, nginx: &Nginx) -> Result<()> {
    let samples = Sample::all()?;
    let senders = SENDERS.iter().map(|(address, _)| *address).cycle();
    let last = samples.last().context("no samples")?;
    let plan = samples.iter().zip(senders).chain([(last, STRANGER)]).collect::<Vec<_>>();
    for (sample, sender) in &plan {
        let answer = deliver(meta, ca, sample, sender)?;
        ensure!(answer == "received by nginx\n 200", "{} from {sender} was answered: {answer}", sample.name);
    }
    println!("{} webhooks from {} addresses of Meta's, one from a stranger", plan.len() - 1, SENDERS.len());
    let expected =
        plan.iter().map(|(sample, sender)| as_nginx_logs_it(sample, sender)).collect::<Result<Vec<_>>>()?;
    let condition = "nginx receives what was sent";
    wait_until(condition, Duration::from_secs(5), || Ok(equal(nginx.log()?, &*expected)))?;
    println!("nginx received each of them, with its sender's address and signature");
    Ok(())
}

fn deliver(meta: &NetNs, ca: &Path, sample: &Sample, sender: &str) -> Result<String> {
    let mut curl = curl(meta, ca, sender);
    curl.args(["--max-time", "20", "-w", " %{http_code}"]).args(sample.curl_args());
    curl.arg(format!("https://{NAME}{}", sample.target));
    run(curl).with_context(|| format!("{} from {sender}", sample.name))
}

/// One SYN from an address that the answer never reaches; given up before the kernel would send
/// another.
fn hang_up(meta: &NetNs, ca: &Path) -> Result<()> {
    const TIMED_OUT: i32 = 28;
    let mut curl = curl(meta, ca, SILENT.0);
    curl.args(["--connect-timeout", "0.5", &format!("https://{NAME}/")]);
    let output = curl.output().context("starting curl")?;
    ensure!(output.status.code() == Some(TIMED_OUT), "the handshake that nobody completes ended: {output:?}");
    println!("one handshake from {} that is never completed", SILENT.0);
    Ok(())
}

fn curl(meta: &NetNs, ca: &Path, sender: &str) -> std::process::Command {
    let edge = if sender.contains(':') { format!("[{}]", EDGE[1]) } else { EDGE[0].to_owned() };
    let mut curl = meta.command("curl");
    curl.args(["-sS", "--http1.1", "--path-as-is", "--noproxy", "*", "--interface", sender, "--cacert"])
        .arg(ca);
    curl.args(["--resolve", &format!("{NAME}:{PORT}:{edge}")]);
    curl
}

fn as_nginx_logs_it(sample: &Sample, sender: &str) -> Result<String> {
    let (_, rest) =
        sample.target.trim_start_matches('/').split_once('/').context("a target without a host")?;
    let bytes = match &sample.payload {
        Some(payload) => std::fs::metadata(payload)?.len().to_string(),
        None => "-".to_owned(),
    };
    let signature =
        sample.fields.iter().find_map(|field| field.strip_prefix("X-Hub-Signature-256: ")).unwrap_or("-");
    Ok(format!("{UPSTREAM} {sender} \"{} /{rest} HTTP/1.1\" {bytes} {signature}", sample.method))
}

/// The tap's counts, once nothing has come for half a second: the last acknowledgements are still
/// on their way when curl has ended.
fn quiet(tap: &Tap) -> Result<BTreeMap<IpAddr, Counts>> {
    wait_until_still("the wire", Duration::from_millis(500), Duration::from_secs(10), || tap.counts())
}

fn host_route(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
}
