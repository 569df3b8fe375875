//! HTTP towards the authority, over the connections that everything else here uses.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use http_body_util::{BodyExt as _, Collected};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::fmt::rfc2822;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::net::http_client::{self, RequestError};
use crate::net::{Buffers, Limits, Session, Stream};
use crate::observe::clock;
use crate::upstream::addresses::interleave;
use crate::upstream::{ConnectError, Dns, connect_to_any};

/// For connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// For a request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that an authority may keep us waiting.
const MAX_WAIT_SECONDS: i64 = 24 * 3600;
const AGENT: &str = concat!("hookgate/", env!("CARGO_PKG_VERSION"));

/// Why an authority does not answer.
#[derive(Debug, thiserror::Error)]
enum TransportError {
    #[error("`{0}` is no https URL")]
    Url(String),
    #[error("cannot reach {host}: {error}")]
    Unreachable { host: String, error: ConnectError },
    #[error("cannot make a TLS connection to {host}: {why}")]
    Tls { host: String, why: String },
    #[error("{host} does not answer: {error}")]
    Silent { host: String, error: RequestError },
    #[error("{host} did not answer within {} s", .limit.as_secs())]
    Slow { host: String, limit: Duration },
    #[error("what was to be sent, or came, is no HTTP: {0}")]
    Http(#[from] http::Error),
    #[error("the certificate was given up")]
    Ended,
}

/// Carries requests to the authority, one after the other.
pub(super) struct AcmeTransport {
    dns: Dns,
    tls: Mutex<Arc<ClientConfig>>,
    /// Before that the authority does not want to be asked, in Unix time.
    not_before: Mutex<Option<i64>>,
}

/// A request on its way, and where its answer goes.
type PendingRequest = (Request<BodyWrapper<Bytes>>, oneshot::Sender<Result<Response<Bytes>, TransportError>>);

/// What hands requests to a [`AcmeTransport`]; it may be on another thread, which connections may
/// not.
#[derive(Clone)]
pub(super) struct Client(mpsc::Sender<PendingRequest>);

impl Client {
    pub(super) fn boxed(&self) -> Box<dyn HttpClient> {
        Box::new(self.clone())
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let sender = self.0.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let ended = |_| Error::Other(Box::new(TransportError::Ended));
            sender.send((request, reply)).await.map_err(|_| Error::Other(Box::new(TransportError::Ended)))?;
            let answer = answer.await.map_err(ended)?.map_err(|why| Error::Other(Box::new(why)))?;
            let (parts, body) = answer.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

impl AcmeTransport {
    pub(super) fn new(dns: Dns, tls: Arc<ClientConfig>) -> Self {
        Self { dns, tls: Mutex::new(tls), not_before: Mutex::default() }
    }

    /// Verifies connections like this from now on.
    pub(super) fn trust(&self, tls: Arc<ClientConfig>) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// When the authority wants to be asked again, in Unix time, if it has said so since this was
    /// asked last.
    pub(super) fn take_not_before(&self) -> Option<i64> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Does `work` with a client whose requests are carried meanwhile.
    pub(super) async fn serve<T>(&self, work: impl AsyncFnOnce(Client) -> T) -> T {
        let (sender, mut requests) = mpsc::channel::<PendingRequest>(1);
        let send = async {
            while let Some((request, reply)) = requests.recv().await {
                // An error: the caller has given up.
                let _ = reply.send(self.send(request).await);
            }
            pending().await
        };
        tokio::select! {
            done = work(Client(sender)) => done,
            never = send => never,
        }
    }

    async fn send(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, TransportError> {
        let (parts, body) = request.into_parts();
        let not_https = || TransportError::Url(parts.uri.to_string());
        let authority = parts.uri.authority().filter(|_| parts.uri.scheme_str() == Some("https"));
        let authority = authority.ok_or_else(not_https)?;
        let Ok(body) = body.collect().await.map(Collected::to_bytes);
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\nConnection: close\r\n",
            parts.method,
            parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        );
        if let Some(kind) = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok()) {
            text += &format!("Content-Type: {kind}\r\n");
        }
        if parts.method == Method::POST {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let mut stream = self.connect(host, authority.port_u16().unwrap_or(443)).await?;
        let request = [text.as_bytes(), &body].concat();
        let slow = |_| TransportError::Slow { host: host.into(), limit: REQUEST_TIMEOUT };
        let answer =
            timeout(REQUEST_TIMEOUT, http_client::request(&mut stream, &request)).await.map_err(slow)?;
        let answer = answer.map_err(|error| TransportError::Silent { host: host.into(), error })?;
        self.note_wait(&answer);
        Ok(response(answer)?)
    }

    async fn connect(&self, host: &str, port: u16) -> Result<Stream, TransportError> {
        let unreachable = |error| TransportError::Unreachable { host: host.into(), error };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TransportError::Url(host.into()))?;
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => interleave(&self.dns.lookup(host).await.map_err(unreachable)?),
        };
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>();
        let connecting = timeout(CONNECT_TIMEOUT, async {
            let tcp = connect_to_any(&addresses).await.map_err(unreachable)?;
            // There is but one connection at a time, and it is used once.
            let buffers = Buffers::new(Limits { free: 0, large: 0, pipes: 0 });
            let tls = Arc::clone(&self.tls.lock().unwrap_or_else(PoisonError::into_inner));
            let session = Session::connect(tcp, tls, name, None, &buffers).await;
            let why =
                |error| TransportError::Tls { host: host.into(), why: crate::tls::fault(&error).to_string() };
            Ok(Stream::Tls(Box::new(session.map_err(why)?)))
        });
        connecting.await.unwrap_or(Err(unreachable(ConnectError::TimedOut)))
    }

    fn note_wait(&self, answer: &http_client::Response) {
        if let Some(until) = not_before(answer, clock::now().as_second()) {
            *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }
}

/// When an authority that refuses wants to be asked again, if it says so: at most a day after
/// `now`. Times are seconds of Unix time.
pub fn not_before(answer: &http_client::Response, now: i64) -> Option<i64> {
    let after = answer.field("retry-after").filter(|_| answer.status >= 400)?;
    let until = match after.parse::<i64>() {
        Ok(seconds) => now.saturating_add(seconds),
        Err(_) => rfc2822::parse(&after).map_or(now, |time| time.timestamp().as_second()),
    };
    Some(until.min(now + MAX_WAIT_SECONDS))
}

/// An answer with the fields that the protocol has a meaning for.
///
/// Errors: one of them can't stand in a head.
pub fn response(answer: http_client::Response) -> Result<Response<Bytes>, http::Error> {
    const FIELDS: [&str; 5] = ["content-type", "link", "location", "replay-nonce", "retry-after"];
    let mut response = Response::builder().status(answer.status);
    for name in FIELDS {
        if let Some(value) = answer.field(name) {
            response = response.header(HeaderName::from_static(name), value);
        }
    }
    response.body(answer.body.into())
}
