use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::hmac;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::updates::updates;
use crate::{Certs, Reading, Update};

/// The secret of the sample payloads' signatures, and the token of the sample verification
/// requests.
pub const APP_SECRET: &str = "hookgate-test-app-secret";
pub const VERIFY_TOKEN: &str = "e2c0f4b7a91d4c35";

/// A webhook receiver as Chatwoot is one, on a TLS port of its own: a verification GET gets its
/// `hub.challenge` back when the verify token is right, and 403 when not; a POST gets 200 and a
/// line that says what arrived.
pub struct Receiver {
    address: SocketAddr,
    reading: Reading,
    received: Arc<Mutex<Vec<Received>>>,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub target: String,
    /// Field lines in order, names as written.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A client that stays silent so long is left alone.
const MAX_WAIT: Duration = Duration::from_secs(60);
const MAX_HEAD_BYTES: u64 = 64 * 1024;
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

impl Receiver {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port, or `certs` is not a certificate with its key.
    pub fn start(certs: &Certs) -> Result<Self> {
        Self::start_with(certs, Reading::All, |_| ())
    }

    /// The same, reading all updates of a body or the first alone. `log` gets a line for each POST.
    ///
    /// # Errors
    /// As [`Receiver::start`].
    pub fn start_with(certs: &Certs, reading: Reading, log: fn(&str)) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for the receiver")?;
        let address = listener.local_addr()?;
        let chain = CertificateDer::pem_slice_iter(certs.cert.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(certs.key.as_bytes())?;
        let tls = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?);
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let record = received.clone();
        std::thread::spawn(move || {
            // The listener lives as long as the process: a receiver costs a thread, and only tests
            // and `run` have one.
            for socket in listener.incoming().map_while(Result::ok) {
                let (tls, record) = (tls.clone(), record.clone());
                std::thread::spawn(move || {
                    // A client that misbehaves or leaves ends its own connection, nothing else.
                    let _ = serve(socket, tls, (reading, log), &record);
                });
            }
        });
        Ok(Self { address, reading, received })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has arrived so far, in order of completion.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The updates that it has read so far, in order.
    pub fn updates(&self) -> Vec<Update> {
        self.received().iter().flat_map(|request| request.updates(self.reading)).collect()
    }
}

impl Received {
    /// The value of a field, if there is exactly one of that name (ASCII case ignored).
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// Whether `X-Hub-Signature-256` is this body's.
    pub fn is_signed(&self) -> bool {
        self.field("X-Hub-Signature-256") == Some(&signature(&self.body))
    }

    /// The updates of the body, as far as they are read.
    pub fn updates(&self, reading: Reading) -> Vec<Update> {
        updates(&self.body, reading)
    }

    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find_map(|(n, v)| (n == name).then_some(v))
    }

    fn answer(&self, reading: Reading) -> (&'static str, String) {
        match (self.method.as_str(), self.query("hub.challenge")) {
            ("GET", Some(challenge)) if self.query("hub.verify_token") == Some(VERIFY_TOKEN) => {
                ("200 OK", challenge.to_owned())
            }
            ("GET", Some(_)) => ("403 Forbidden", "wrong verify token\n".to_owned()),
            ("POST", _) => {
                let signed = if self.is_signed() { "valid" } else { "NOT valid" };
                let path = self.target.split('?').next().unwrap_or_default();
                let (bytes, updates) = (self.body.len(), summary(&self.updates(reading)));
                ("200 OK", format!("received POST {path}: {bytes} bytes{updates}, signature {signed}\n"))
            }
            _ => ("404 Not Found", "a webhook receiver: POST, or GET with hub.challenge\n".to_owned()),
        }
    }
}

/// `X-Hub-Signature-256` of a body under [`APP_SECRET`].
pub fn signature(body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, APP_SECRET.as_bytes());
    let hex = hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256={hex}")
}

/// `, 10 updates (5 messages, 5 statuses)`; nothing where there are none.
fn summary(updates: &[Update]) -> String {
    let mut kinds: Vec<&str> = updates.iter().map(|update| update.kind).collect();
    kinds.sort_unstable();
    let count = |kind: &[&str]| format!("{} {}", kind.len(), kind[0]);
    let counts: Vec<String> = kinds.chunk_by(|a, b| a == b).map(count).collect();
    match updates.len() {
        0 => String::new(),
        1 => ", 1 update".to_owned(),
        many => format!(", {many} updates ({})", counts.join(", ")),
    }
}

fn serve(
    socket: TcpStream,
    tls: Arc<ServerConfig>,
    (reading, log): (Reading, fn(&str)),
    record: &Mutex<Vec<Received>>,
) -> Result<()> {
    socket.set_read_timeout(Some(MAX_WAIT))?;
    socket.set_nodelay(true)?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls)?, socket));
    while let Some(request) = read_request(&mut stream)? {
        let (status, text) = request.answer(reading);
        if request.method == "POST" {
            log(text.trim_end());
        }
        let close = request.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        record.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let connection = if close { "Connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{connection}\r\n",
            text.len()
        );
        stream.get_mut().write_all(&[head.as_bytes(), text.as_bytes()].concat())?;
        if close {
            break;
        }
    }
    stream.get_mut().conn.send_close_notify();
    stream.get_mut().flush()?;
    Ok(())
}

/// `None` when the client has closed between requests.
fn read_request(stream: &mut (impl BufRead + AnswersContinue)) -> Result<Option<Received>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let left = MAX_HEAD_BYTES.saturating_sub(head.len() as u64);
        if stream.take(left).read_until(b'\n', &mut head)? == 0 {
            anyhow::ensure!(head.is_empty(), "a head was cut or too large");
            return Ok(None);
        }
    }
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Request::new(&mut slots);
    anyhow::ensure!(parsed.parse(&head)?.is_complete(), "half a head");
    let fields =
        parsed.headers.iter().map(|f| (f.name.to_owned(), String::from_utf8_lossy(f.value).into_owned()));
    let mut request = Received {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        fields: fields.collect(),
        body: Vec::new(),
    };
    if request.field("Expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.answer_continue()?;
    }
    request.body = match (request.field("Transfer-Encoding"), request.field("Content-Length")) {
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => read_chunked(stream)?,
        (None, Some(length)) => read_exactly(stream, length.parse()?)?,
        (None, None) => Vec::new(),
        _ => anyhow::bail!("framing that no sender of webhooks uses"),
    };
    Ok(Some(request))
}

fn read_exactly(stream: &mut impl Read, bytes: u64) -> Result<Vec<u8>> {
    anyhow::ensure!(bytes <= MAX_BODY_BYTES, "a body of {bytes} bytes");
    let mut body = Vec::new();
    anyhow::ensure!(stream.take(bytes).read_to_end(&mut body)? as u64 == bytes, "a body was cut");
    Ok(body)
}

fn read_chunked(stream: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = read_line(stream)?;
        let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        anyhow::ensure!(body.len() as u64 + size <= MAX_BODY_BYTES, "a body beyond {MAX_BODY_BYTES} bytes");
        if size == 0 {
            while !read_line(stream)?.is_empty() {} // trailers
            return Ok(body);
        }
        body.extend(read_exactly(stream, size)?);
        anyhow::ensure!(read_line(stream)?.is_empty(), "a chunk is longer than it says");
    }
}

fn read_line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    stream.take(MAX_HEAD_BYTES).read_line(&mut line)?;
    Ok(line.strip_suffix("\r\n").context("a line was cut")?.to_owned())
}

trait AnswersContinue {
    fn answer_continue(&mut self) -> io::Result<()>;
}

impl<S: Read + Write> AnswersContinue for BufReader<S> {
    fn answer_continue(&mut self) -> io::Result<()> {
        self.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        self.get_mut().flush()
    }
}
