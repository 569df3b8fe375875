use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{Certs, Client, End, Message, Origin, Pebble};

/// What Debian's Pebble lacks: ACME renewal information (RFC 9773). It stands in front of one, and
/// says of every certificate that it should be renewed when the test says.
pub struct RenewalInfo {
    front: Origin,
    ca: String,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    /// The window's begin and end, RFC 3339.
    window: (String, String),
    asked: Vec<String>,
    replaced: Vec<String>,
}

impl RenewalInfo {
    /// In front of `pebble`, with a window from `begin` to `end` (RFC 3339).
    ///
    /// # Errors
    /// No port.
    pub fn before(pebble: &Pebble, begin: &str, end: &str) -> Result<Self> {
        let own = Certs::new(&["127.0.0.1"])?;
        let script = Arc::new(Mutex::new(Script { window: (begin.into(), end.into()), ..Script::default() }));
        let (address, ca) = (pebble.address(), std::fs::read_to_string(pebble.ca())?);
        let behind = Certs { ca, ..own.clone() };
        let shared = script.clone();
        let front = Origin::tls(&own, move |connection| {
            while let Some(request) = connection.request()? {
                let answer = answer(&request, address, &behind, &shared).map_err(io::Error::other)?;
                connection.send(answer)?;
            }
            Ok(End::Close)
        })?;
        Ok(Self { front, ca: own.ca, script })
    }

    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.front.address())
    }

    /// The root of its own TLS certificate, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// From now on certificates should be renewed between these times (RFC 3339).
    pub fn set_window(&self, begin: &str, end: &str) {
        self.script().window = (begin.into(), end.into());
    }

    /// The certificates that it was asked about, as RFC 9773 §4.1 names them.
    pub fn asked(&self) -> Vec<String> {
        self.script().asked.clone()
    }

    /// The certificates that orders were to replace.
    pub fn replaced(&self) -> Vec<String> {
        self.script().replaced.clone()
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(request: &Message, pebble: SocketAddr, certs: &Certs, script: &Mutex<Script>) -> Result<Vec<u8>> {
    let target = request.start.split(' ').nth(1).unwrap_or_default();
    let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(certificate) = target.strip_prefix("/renewal/") {
        script.asked.push(certificate.into());
        let (start, end) = &script.window;
        let body = json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
        return Ok(text("HTTP/1.1 200 OK", &[("Retry-After".into(), "1".into())], body.as_bytes()));
    }
    let mut client = Client::tls(pebble, certs, "127.0.0.1")?;
    if request.start.starts_with("HEAD ") {
        client.wire().send(text(&request.start, &request.fields, b""))?;
        let answer = client.response_to_head()?;
        return Ok(text(&answer.start, &answer.fields, b""));
    }
    let mut answer = client.ask(text(&request.start, &request.fields, &request.body))?;
    let host = request.field("Host").context("no Host")?;
    if target == "/dir" {
        let mut directory: Value = serde_json::from_slice(&answer.body)?;
        directory["renewalInfo"] = format!("https://{host}/renewal").into();
        answer.body = directory.to_string().into();
    }
    // The authority has to show that it has understood (RFC 9773 §5).
    if let Some(replaces) = payload(&request.body).and_then(|payload| payload.get("replaces").cloned())
        && let Ok(mut order) = serde_json::from_slice::<Value>(&answer.body)
        && order.get("finalize").is_some()
    {
        script.replaced.push(replaces.as_str().unwrap_or_default().into());
        order["replaces"] = replaces;
        answer.body = order.to_string().into();
    }
    Ok(text(&answer.start, &answer.fields, &answer.body))
}

/// What a signed request (RFC 8555 §6.2) says.
fn payload(body: &[u8]) -> Option<Value> {
    let signed: Value = serde_json::from_slice(body).ok()?;
    serde_json::from_slice(&base64url(signed.get("payload")?.as_str()?)?).ok()
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = Vec::new();
    for digits in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for digit in digits {
            bits = bits << 6 | u32::try_from(DIGITS.iter().position(|known| known == digit)?).ok()?;
        }
        let whole = digits.len() * 6 / 8;
        bits <<= 24 - digits.len() * 6;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

/// A message with a length of its own.
fn text(start: &str, fields: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let framing = ["content-length", "transfer-encoding", "connection"];
    let mut text = format!("{start}\r\n");
    for (name, value) in fields.iter().filter(|(name, _)| !framing.contains(&&*name.to_ascii_lowercase())) {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {}\r\n\r\n", body.len());
    [text.as_bytes(), body].concat()
}
