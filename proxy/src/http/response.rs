//! An upstream's response head, as strictly read as a request's.

use super::Version;
use super::fields::{Fields, list};
use super::framing::{BadFraming, Framing};
use super::head::Slots;

/// A valid response head, borrowed from the buffer that it arrived in.
#[derive(Debug)]
pub struct ResponseHead<'b> {
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    /// The status line after its version: status and reason, without CR LF.
    pub status_and_reason: &'b [u8],
    pub fields: Fields<'b, 'b>,
    pub framing: Framing,
}

/// A response that is not valid HTTP/1.x; the text says in which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadResponse(pub &'static str);

impl<'b> ResponseHead<'b> {
    /// Parses one whole head, as [`super::head::EndOfHead`] found it; `to_head`: the request was a
    /// HEAD.
    pub fn parse(head: &'b [u8], slots: &'b mut Slots<'b>, to_head: bool) -> Result<Self, BadResponse> {
        let mut parsed = httparse::Response::new(&mut []);
        let mut parser = httparse::ParserConfig::default();
        parser.allow_spaces_after_header_name_in_responses(true);
        let outcome = parser.parse_response_with_uninit_headers(&mut parsed, head, slots);
        match outcome {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(BadResponse("the head ends where it should not")),
            Err(httparse::Error::TooManyHeaders) => return Err(BadResponse("too many field lines")),
            Err(httparse::Error::HeaderName) => return Err(BadResponse("a field line without a valid name")),
            Err(httparse::Error::HeaderValue) => return Err(BadResponse("a control character in a field")),
            Err(_) => return Err(BadResponse("the status line is not HTTP/1.x")),
        }
        let (Some(minor), Some(status @ 100..)) = (parsed.version, parsed.code) else {
            return Err(BadResponse("the status is below 100"));
        };
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let status_and_reason = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "));
        let status_and_reason = status_and_reason.ok_or(BadResponse("the status line is not HTTP/1.x"))?;
        let version = if minor == 1 { Version::Http11 } else { Version::Http10 };
        let fields = Fields::new(head, parsed.headers);
        let framing = Framing::of_response(version, status, to_head, &fields)
            .map_err(|BadFraming(why)| BadResponse(why))?;
        Ok(Self { version, status, status_and_reason, fields, framing })
    }

    /// Whether another response may follow, not yet the final one (RFC 9110 §15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// How long the upstream keeps an idle connection, where it says so (`Keep-Alive: timeout=5`).
    pub fn keep_alive_seconds(&self) -> Option<u64> {
        let parameters = self.fields.values("keep-alive").flat_map(list);
        let mut timeouts = parameters.filter_map(|parameter| {
            let (name, value) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
            name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse().ok())?
        });
        timeouts.next()
    }

    /// Whether the upstream allows another request on its connection (RFC 9112 §9.3).
    pub fn persists(&self) -> bool {
        let delimited = self.framing != Framing::UntilClose;
        let close = self.fields.connection_has("close");
        let persistent = self.version == Version::Http11 || self.fields.connection_has("keep-alive");
        delimited && persistent && !close
    }
}
