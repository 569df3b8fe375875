use std::io;

use crate::records::was_cut;
use crate::wire::Wire;

/// A request or response as it arrived, head and content apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The start-line, without CR LF.
    pub start: String,
    /// Field lines in order, names as written, values trimmed; bytes as Latin-1.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The trailer section, CR LF and all.
    pub trailers: String,
    /// Whether the body ended as its framing says.
    pub whole: bool,
    /// Responses: the interim ones that came before it.
    pub interim: Vec<Message>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    /// To a HEAD: without a body, whatever it says.
    ResponseToHead,
}

impl Message {
    /// The next message; interim responses are gathered in the one they go before. `None` when the
    /// peer closes first.
    pub(crate) fn read(wire: &mut Wire, kind: Kind) -> io::Result<Option<Self>> {
        let mut interim = Vec::new();
        loop {
            let Some(mut message) = Self::read_head(wire)? else { return Ok(None) };
            if kind != Kind::Request && matches!(message.status(), 100..=199) {
                interim.push(message);
                continue;
            }
            message.interim = interim;
            message.whole = match message.read_body(wire, kind) {
                Ok(whole) => whole,
                Err(error) if was_cut(&error) => false,
                Err(error) => return Err(error),
            };
            return Ok(Some(message));
        }
    }

    fn read_head(wire: &mut Wire) -> io::Result<Option<Self>> {
        let Some(head) = wire.take_until(b"\r\n\r\n")? else { return Ok(None) };
        let head: String = head.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
        };
        Ok(Some(Self { start, fields: lines.map(field).collect(), ..Self::default() }))
    }

    fn read_body(&mut self, wire: &mut Wire, kind: Kind) -> io::Result<bool> {
        let is_bodiless = matches!(self.status(), 204 | 304) && kind == Kind::Response;
        if kind == Kind::ResponseToHead || is_bodiless {
            return Ok(true);
        }
        if self.field("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks(wire);
        }
        if let Some(length) = self.field("Content-Length") {
            let length = length.parse().map_err(io::Error::other)?;
            let body = &mut self.body;
            while body.len() < length {
                let more = wire.take_at_most((length - body.len()).min(64 * 1024))?;
                if more.is_empty() {
                    return Ok(false);
                }
                body.extend(more);
            }
            return Ok(true);
        }
        if kind == Kind::Response {
            loop {
                let more = wire.buffered().len();
                self.body.extend(wire.take(more));
                if wire.read()? == 0 {
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }

    fn read_chunks(&mut self, wire: &mut Wire) -> io::Result<bool> {
        loop {
            let Some(line) = wire.take_until(b"\r\n")? else { return Ok(false) };
            let line = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(line.trim_end().split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            let chunk = wire.take_at_most(size)?;
            self.body.extend_from_slice(&chunk);
            if chunk.len() < size || wire.take_at_most(2)? != b"\r\n" {
                return Ok(false);
            }
        }
        loop {
            match wire.take_until(b"\r\n")? {
                Some(line) if line == b"\r\n" => return Ok(true),
                Some(line) => self.trailers.push_str(&String::from_utf8_lossy(&line)),
                None => return Ok(false),
            }
        }
    }

    /// A response's status; 0 for a request.
    pub fn status(&self) -> u16 {
        let code = self.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        code.and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// The value of a field, if there is exactly one of that name (ASCII case ignored).
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// The type of error in `Proxy-Status`, if there is one from the proxy called `hookgate`.
    pub fn proxy_error(&self) -> Option<&str> {
        self.field("Proxy-Status")?.strip_prefix("hookgate; error=")
    }
}
