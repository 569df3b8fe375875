use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::url::Url;
use crate::access::Disk;
use crate::net::http_client::{self, Response};
use crate::net::{Buffers, Limits, Session, Stream};
use crate::tls;
use crate::upstream::{Manner, client_config_of, connect_to_any};

/// How long TCP and TLS may take together.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const KEEP: Duration = Duration::from_secs(60);
const MEMORY: Limits = Limits { free: 4, large: 0, pipes: 0 };

/// The receiver of the requests, over connections that are kept.
pub struct Receiver {
    addresses: Vec<SocketAddr>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    idle: RefCell<Vec<(Stream, Instant)>>,
    buffers: Rc<Buffers>,
    patience: Duration,
}

/// The outcome of a request.
pub struct Outcome {
    pub answer: Result<Response, String>,
    /// Connecting included.
    pub took: Duration,
}

impl Receiver {
    /// `instead`: where to connect, whatever the name resolves to. `patience`: how long a request
    /// may take.
    ///
    /// Errors: the name does not resolve (the machine's own resolver is asked), or `trust` cannot
    /// be used.
    pub async fn new(
        url: &Url,
        instead: Option<SocketAddr>,
        manner: &Manner,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let addresses = match (instead, url.host.parse::<IpAddr>()) {
            (Some(address), _) => vec![address],
            (None, Ok(ip)) => vec![SocketAddr::new(ip, url.port)],
            (None, Err(_)) => resolve(url).await?,
        };
        let tls = match url.is_https {
            true => {
                let config = client_config_of(manner, &Disk)?;
                Some((config, ServerName::try_from(url.host.clone())?))
            }
            false => None,
        };
        let buffers = Buffers::new(MEMORY);
        Ok(Self { addresses, tls, idle: RefCell::default(), buffers, patience })
    }

    /// Sends `request` and waits for the answer.
    pub async fn ask(&self, request: &[u8]) -> Outcome {
        let begun = Instant::now();
        let answer = match timeout(self.patience, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", self.patience.as_secs_f64())),
        };
        Outcome { answer, took: begun.elapsed() }
    }

    async fn exchange(&self, request: &[u8]) -> Result<Response, String> {
        let mut stream = match self.take_idle() {
            Some(stream) => stream,
            None => {
                let connected = timeout(CONNECT.min(self.patience), self.connect()).await;
                connected.unwrap_or_else(|_| Err(self.unreachable()))?
            }
        };
        let answer = http_client::request(&mut stream, request).await.map_err(|error| error.to_string())?;
        if answer.persists && stream.holds_nothing() {
            self.idle.borrow_mut().push((stream, Instant::now()));
        }
        Ok(answer)
    }

    /// Where requests go.
    fn addresses(&self) -> String {
        self.addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
    }

    fn unreachable(&self) -> String {
        let (seconds, to) = (CONNECT.min(self.patience).as_secs(), self.addresses());
        format!(
            "cannot connect: no answer from {to} within {seconds} s: does a firewall on the way drop packets?"
        )
    }

    /// The connection that became idle last, if it can still be used.
    fn take_idle(&self) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        while let Some((mut stream, since)) = idle.pop() {
            if since.elapsed() < KEEP && stream.is_quiet() {
                return Some(stream);
            }
        }
        None
    }

    async fn connect(&self) -> Result<Stream, String> {
        let to = self.addresses();
        let tcp = connect_to_any(&self.addresses).await;
        let tcp = tcp.map_err(|error| format!("cannot connect: {error}: does anything listen at {to}?"))?;
        let Some((config, name)) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        let session = Session::connect(tcp, Arc::clone(config), name.clone(), None, &self.buffers).await;
        let session = session.map_err(|error| format!("TLS: {}", tls::fault(&error)))?;
        Ok(Stream::Tls(Box::new(session)))
    }
}

async fn resolve(url: &Url) -> anyhow::Result<Vec<SocketAddr>> {
    let host = &url.host;
    let found = lookup_host((host.as_str(), url.port)).await;
    let found =
        found.with_context(|| format!("cannot find {host}; --connect ADDRESS tries it without the DNS"))?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        bail!("{host} has no address; --connect ADDRESS tries it without the DNS");
    }
    Ok(addresses)
}
