//! The relay, driven from outside: the real binary, real sockets, peers that misbehave on cue.

mod answers;
mod bodies;
mod clients;
mod delivery;
mod forwarding;
mod life;
mod names;
mod upstream_tls;

use std::net::SocketAddr;

use anyhow::Result;
use harness::{Client, Origin, Proxy, free_port};

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
}

impl Relay {
    /// `config` is what comes after `[listen]` and `[timeouts]`.
    fn start(config: &str) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let proxy = Proxy::start(&format!("[listen]\nplain = [\"{address}\"]\n{TIMEOUTS}\n{config}"))?;
        Ok(Self { proxy, address })
    }

    /// In front of one origin, which is called `up.example`.
    fn before(origin: &Origin) -> Result<Self> {
        Self::start(&upstream(origin.address(), ""))
    }

    fn client(&self) -> Result<Client> {
        Client::plain(self.address)
    }
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
