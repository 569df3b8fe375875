//! The proxies that are compared, each before the same origin, and what each made of an odd
//! request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Client, End, Origin, Proxy, Server, free_port, wait_until_still};

use crate::corpus::Odd;

/// Waits that every peer may have, as long as they are short and the same.
const TIMEOUT: &str = "300ms";
const KEEPALIVE: &str = "60ms";
/// As many connections at a time: most of the time goes into waiting.
const LANES: usize = 12;

/// A proxy before an origin that records what it is sent.
pub struct Peer {
    address: SocketAddr,
    origin: Origin,
    _proxy: Process,
}

#[expect(dead_code, reason = "both are only kept alive")]
enum Process {
    Hookgate(Proxy),
    Other(Server),
}

/// The outcome of one connection's bytes.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The statuses that the client was told, in order; 0 for what is no status line.
    pub answers: Vec<u16>,
    /// What was sent upstream, a connection each.
    pub streams: Vec<Vec<u8>>,
}

/// Each case has an upstream of its own, by which what arrives at the origin is told apart. All
/// names are of the same length as what stands for them in the data, so that lengths stay what they
/// are.
fn upstream(index: usize) -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let [first, second] = [index / 36, index % 36].map(|digit| char::from(DIGITS[digit]));
    assert!(first.is_ascii_lowercase(), "more cases than names");
    format!("{first}{second}")
}

impl Peer {
    pub fn hookgate(cases: usize) -> Result<Self> {
        let (origin, address) = (origin()?, SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let upstreams: String = (0..cases)
            .map(|index| {
                format!("\"{}\" = {{ address = \"{}\", tls = false }}\n", upstream(index), origin.address())
            })
            .collect();
        let proxy = Proxy::start(&format!(
            "[listen]\nplain = [\"{address}\"]\n[timeouts]\nrequest_head = \"{TIMEOUT}\"\n\
             body_idle = \"{TIMEOUT}\"\nkeepalive = \"{KEEPALIVE}\"\n[upstreams]\n{upstreams}"
        ))?;
        Ok(Self { address, origin, _proxy: Process::Hookgate(proxy) })
    }

    /// With the configuration that people use today, without TLS.
    pub fn nginx() -> Result<Self> {
        let origin = origin()?;
        let server = Server::nginx(&format!(
            "map $upstream_host $upstream_allowed {{ default 0; ~^[a-z][a-z0-9]$ 1; }}\n\
             server {{\n\
                 listen @LISTEN@;\n\
                 client_header_timeout {TIMEOUT}; client_body_timeout {TIMEOUT}; keepalive_timeout {KEEPALIVE};\n\
                 location ~ ^/([^/]+)(/.*)$ {{\n\
                     set $upstream_host $1;\n\
                     set $upstream_path $2;\n\
                     if ($upstream_allowed = 0) {{ return 403; }}\n\
                     proxy_pass http://{}$upstream_path$is_args$args;\n\
                     proxy_set_header Host $upstream_host;\n\
                     proxy_set_header X-Forwarded-For $remote_addr;\n\
                     proxy_set_header X-Real-IP $remote_addr;\n\
                 }}\n\
                 location / {{ return 404; }}\n\
             }}",
            origin.address()
        ))?;
        Ok(Self { address: server.address(), origin, _proxy: Process::Other(server) })
    }

    /// The same for HAProxy.
    pub fn haproxy() -> Result<Self> {
        let origin = origin()?;
        let server = Server::haproxy(&format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client {TIMEOUT}\n timeout server 5s\n \
             timeout http-request {TIMEOUT}\n timeout http-keep-alive {KEEPALIVE}\n\
             frontend webhooks\n bind @LISTEN@\n \
             http-request return status 404 unless {{ path_reg ^/[^/]+/ }}\n \
             http-request set-var(txn.upstream) path,field(2,/),lower\n \
             http-request deny deny_status 403 unless {{ var(txn.upstream) -m reg ^[a-z][a-z0-9]$ }}\n \
             http-request replace-path /[^/]+(/.*) \\1\n \
             http-request set-header Host %[var(txn.upstream)]\n \
             http-request set-header X-Forwarded-For %[src]\n \
             http-request set-header X-Real-IP %[src]\n default_backend origin\n\
             backend origin\n server one {}\n",
            origin.address()
        ))?;
        Ok(Self { address: server.address(), origin, _proxy: Process::Other(server) })
    }

    /// Sends every case on a connection of its own, and returns the outcome of each.
    pub fn run(&self, odd: &[Odd]) -> Result<Vec<Outcome>> {
        let next = AtomicUsize::new(0);
        let mut answers = thread::scope(|scope| {
            let lane = || -> Result<Vec<(usize, Vec<u16>)>> {
                let mut told = Vec::new();
                while let index @ ..5000 = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(case) = odd.get(index)
                {
                    let answers = self.send(&case.to(&upstream(index)));
                    told.push((index, answers.with_context(|| case.name.clone())?));
                }
                Ok(told)
            };
            let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
            let told = lanes.into_iter().map(|lane| lane.join().expect("a lane"));
            told.collect::<Result<Vec<_>>>()
        })?;
        let mut outcomes = vec![Outcome::default(); odd.len()];
        for (index, answers) in answers.iter_mut().flatten() {
            outcomes[*index].answers = std::mem::take(answers);
        }
        // What is still on its way through the kernel.
        let heard = || Ok(self.origin.heard().iter().map(Vec::len).collect::<Vec<_>>());
        wait_until_still("the origin", Duration::from_millis(200), Duration::from_secs(10), heard)?;
        let by_upstream: BTreeMap<String, usize> =
            (0..odd.len()).map(|index| (upstream(index), index)).collect();
        // A proxy may connect and then find that there is nothing to send.
        for stream in self.origin.heard().into_iter().filter(|stream| !stream.is_empty()) {
            let index = host(&stream).and_then(|host| by_upstream.get(&host).copied());
            let index = index.with_context(|| format!("whose is {}?", stream.escape_ascii()))?;
            outcomes[index].streams.push(stream);
        }
        Ok(outcomes)
    }

    /// Sends `bytes` and reads to the end; the statuses of what came back.
    fn send(&self, bytes: &[u8]) -> Result<Vec<u16>> {
        let mut client = Client::plain(self.address)?;
        // A proxy that has refused already may take no more.
        let _ = client.wire().send(bytes);
        let mut answers = Vec::new();
        while let Ok(answer) = client.response() {
            answers.push(answer.status());
        }
        Ok(answers)
    }
}

/// Answers one request a connection, and records all that comes.
fn origin() -> Result<Origin> {
    Origin::plain(|connection| {
        if connection.request()?.is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?;
        }
        Ok(End::Close)
    })
}

/// The first Host in a stream.
fn host(stream: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stream).to_ascii_lowercase();
    let line = text.split("\r\n").find_map(|line| line.strip_prefix("host:"))?;
    Some(line.trim().to_owned())
}
