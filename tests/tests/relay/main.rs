//! The relay, driven from outside: the real binary, real sockets, peers that misbehave on cue.

mod admin;
mod admission;
mod allocations;
mod answers;
mod bodies;
mod client_tls;
mod clients;
mod cuts;
mod deliveries;
mod delivery;
mod dns;
mod early_closes;
mod evidence;
mod figures;
mod forwarding;
mod funnel;
mod handshakes;
mod history;
mod http_listener;
mod in_flight;
mod killed;
mod least_rate;
mod life;
mod limits;
mod log;
mod lost;
mod names;
mod origins;
mod paths;
mod pieces;
mod pooled;
mod privileges;
mod proxy_protocol;
mod receiver_certificates;
mod reload;
mod reload_files;
mod responses;
mod service;
mod sessions;
mod small_buffers;
mod soak;
mod splice;
mod timeouts;
mod upstream_tls;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use harness::{Certs, Client, Metrics, Origin, Proxy, TempDir, equal, free_port, over_tls, wait_until};

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

/// A proxy with a listener without TLS, and what a test needs of it; where everything is to run
/// [over TLS](over_tls), with another for its clients.
struct Relay {
    proxy: Proxy,
    address: SocketAddr,
    admin: SocketAddr,
    tls: Option<TlsDoor>,
}

/// A listener with TLS, and where its certificate lies.
struct TlsDoor {
    address: SocketAddr,
    certs: Certs,
    _dir: TempDir,
}

impl Relay {
    /// `config` is what comes after `[listen]`, `[admin]` and `[timeouts]`.
    fn start(config: &str) -> Result<Self> {
        Self::listening("", &format!("{TIMEOUTS}\n{config}"))
    }

    /// `listen` is what else stands in `[listen]`, `config` what comes after `[admin]`.
    fn listening(listen: &str, config: &str) -> Result<Self> {
        let [address, admin] = [local(free_port()?), local(free_port()?)];
        let has_its_own = listen.contains("https") || config.contains("[tls]");
        let (tls, https, section) = match over_tls() && !has_its_own {
            true => TlsDoor::new().map(|(door, https, section)| (Some(door), https, section))?,
            false => Default::default(),
        };
        let proxy = Proxy::start(&format!(
            "[listen]\nplain = [\"{address}\"]\n{https}\n{listen}\n[admin]\nlisten = \"{admin}\"\n{section}\n{config}"
        ))?;
        Ok(Self { proxy, address, admin, tls })
    }

    /// In front of one origin, which is called `up.example`.
    fn before(origin: &Origin) -> Result<Self> {
        Self::start(&upstream(origin.address(), ""))
    }

    fn client(&self) -> Result<Client> {
        match &self.tls {
            Some(TlsDoor { address, certs, .. }) => Client::tls(*address, certs, "proxy.example.com"),
            None => Client::plain(self.address),
        }
    }

    fn metrics(&self) -> Result<Metrics> {
        Metrics::read(self.admin)
    }

    /// Waits until a metric has a value.
    fn wait_for(&self, series: &str, value: f64) -> Result<()> {
        let condition = format!("{series} is {value}");
        let look = || Ok(equal(self.metrics()?.value(series), value));
        wait_until(condition, Duration::from_secs(5), look).map(drop)
    }
}

impl TlsDoor {
    /// With what stands in `[listen]`, and `[tls]`.
    fn new() -> Result<(Self, String, String)> {
        let (address, dir) = (local(free_port()?), TempDir::new("door")?);
        let certs = Certs::new(&["proxy.example.com"])?;
        let [_, cert, key] = certs.write(&dir, "door")?;
        let door = Self { address, certs, _dir: dir };
        Ok((door, format!("https = [\"{address}\"]"), format!("[tls]\ncert = {cert:?}\nkey = {key:?}")))
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The header of a load balancer's for a client at `address`, as version 1 of the PROXY protocol
/// has it.
fn proxy_line(address: &str) -> String {
    let (family, own) = if address.contains(':') { ("TCP6", "2001:db8::443") } else { ("TCP4", "192.0.2.1") };
    format!("PROXY {family} {address} {own} 40000 443\r\n")
}

/// `[upstreams]` with `up.example` at `address`, an [`Origin::plain`]'s.
fn upstream(address: SocketAddr, more: &str) -> String {
    let tls = if over_tls() { "verify = false" } else { "tls = false" };
    format!("[upstreams]\n\"up.example\" = {{ address = \"{address}\", {tls}{more} }}\n")
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
