//! The relay, driven from outside: the real binary, real sockets, peers that misbehave on cue.

mod admin;
mod admission;
mod allocations;
mod answers;
mod bodies;
mod client_tls;
mod clients;
mod deliveries;
mod delivery;
mod dns;
mod figures;
mod forwarding;
mod funnel;
mod http_listener;
mod in_flight;
mod life;
mod limits;
mod names;
mod origins;
mod pieces;
mod privileges;
mod proxy_protocol;
mod reload;
mod soak;
mod splice;
mod timeouts;
mod upstream_tls;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Client, Metrics, Origin, Proxy, free_port, wait_until};

/// Every wait that a test may have to sit out.
const TIMEOUTS: &str = r#"
[timeouts]
request_head = "1s"
body_idle = "1s"
connect = "1s"
response = "1s"
keepalive = "1500ms"
upstream_idle = "1s"
drain = "3s"
"#;

/// A proxy with a listener without TLS, and what a test needs of it.
struct Relay {
    proxy: Proxy,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Relay {
    /// `config` is what comes after `[listen]`, `[admin]` and `[timeouts]`.
    fn start(config: &str) -> Result<Self> {
        Self::listening("", &format!("{TIMEOUTS}\n{config}"))
    }

    /// `listen` is what else stands in `[listen]`, `config` what comes after `[admin]`.
    fn listening(listen: &str, config: &str) -> Result<Self> {
        let [address, admin] = [local(free_port()?), local(free_port()?)];
        let proxy = Proxy::start(&format!(
            "[listen]\nplain = [\"{address}\"]\n{listen}\n[admin]\nlisten = \"{admin}\"\n{config}"
        ))?;
        Ok(Self { proxy, address, admin })
    }

    /// In front of one origin, which is called `up.example`.
    fn before(origin: &Origin) -> Result<Self> {
        Self::start(&upstream(origin.address(), ""))
    }

    fn client(&self) -> Result<Client> {
        Client::plain(self.address)
    }

    fn metrics(&self) -> Result<Metrics> {
        Metrics::read(self.admin)
    }

    /// Waits until a metric has a value.
    fn wait_for(&self, series: &str, value: f64) -> Result<()> {
        let mut last = f64::NAN;
        let reached = wait_until(Duration::from_secs(5), || {
            last = self.metrics()?.value(series);
            Ok(last == value)
        })?;
        ensure!(reached, "{series} is {last}, not {value}");
        Ok(())
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The header of a load balancer's for a client at `address`, as version 1 of the PROXY protocol has it.
fn proxy_line(address: &str) -> String {
    let (family, own) = if address.contains(':') { ("TCP6", "2001:db8::443") } else { ("TCP4", "192.0.2.1") };
    format!("PROXY {family} {address} {own} 40000 443\r\n")
}

/// `[upstreams]` with `up.example` at `address`, without TLS.
fn upstream(address: SocketAddr, more: &str) -> String {
    format!("[upstreams]\n\"up.example\" = {{ address = \"{address}\", tls = false{more} }}\n")
}

/// A whole request; `fields` are lines without their CR LF.
fn request(start: &str, fields: &[&str], body: &str) -> String {
    let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{start} HTTP/1.1\r\nHost: proxy.example.com\r\n{lines}\r\n{body}")
}

fn get(target: &str) -> String {
    request(&format!("GET {target}"), &[], "")
}

fn post(target: &str, body: &str) -> String {
    request(&format!("POST {target}"), &[&format!("Content-Length: {}", body.len())], body)
}

/// A plain answer of an origin's.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
