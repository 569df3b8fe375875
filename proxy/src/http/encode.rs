//! Heads as they are sent on: what travels keeps its bytes, what concerns one connection is written
//! anew.

use std::collections::HashSet;
use std::io::Write;

use super::Version;
use super::fields::{Fields, Line, RequestField, ResponseField, list};
use super::framing::Framing;
use super::head::RequestHead;
use super::response::ResponseHead;

/// What the proxy adds to a request.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// The upstream's configured name.
    pub host: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// `http` or `https`, as the client used it.
    pub scheme: &'a str,
    /// This proxy's name in Via.
    pub via: &'a str,
    /// Sent as X-Request-Id when the client sent none.
    pub request_id: &'a str,
}

/// What a response says about the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: an HTTP/1.1 connection stays open.
    Implied,
    /// `Connection: keep-alive`, for an HTTP/1.0 client that asked for it.
    Promised,
    /// `Connection: close`.
    Ended,
}

impl Persistence {
    pub(super) fn field_line(self) -> &'static [u8] {
        match self {
            Self::Implied => b"",
            Self::Promised => b"Connection: keep-alive\r\n",
            Self::Ended => b"Connection: close\r\n",
        }
    }
}

/// Appends the request head for the upstream; `path` is what of the target travels on.
pub fn request_head(head: &RequestHead<'_>, path: &[u8], added: &Added<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let nominated = Nominated::by(&head.fields);
    let forwards_left = head.max_forwards().map(|most| most.saturating_sub(1));
    let (mut has_host, mut has_request_id) = (false, false);
    for line in head.fields.lines() {
        let field = RequestField::of(line.name);
        match field {
            RequestField::Host => {
                field_line(out, line.name, added.host.as_bytes());
                has_host = true;
            }
            RequestField::ContentLength | RequestField::TransferEncoding => framing(out, &line, head.framing),
            RequestField::RequestId => {
                line.write(out);
                has_request_id = true;
            }
            RequestField::Removed => {}
            _ if field.can_be_nominated() && nominated.contains(line.name) => {}
            RequestField::Via | RequestField::Passed => line.write(out),
            RequestField::MaxForwards => match forwards_left {
                Some(left) => number_line(out, line.name, left),
                None => line.write(out),
            },
        }
    }
    if !has_host {
        field_line(out, "Host", added.host.as_bytes());
    }
    field_line(out, "X-Forwarded-For", added.client.as_bytes());
    field_line(out, "X-Real-IP", added.client.as_bytes());
    field_line(out, "X-Forwarded-Proto", added.scheme.as_bytes());
    out.extend_from_slice(if head.version == Version::Http10 { b"Via: 1.0 " } else { b"Via: 1.1 " });
    out.extend_from_slice(added.via.as_bytes());
    out.extend_from_slice(b"\r\n");
    if !has_request_id {
        field_line(out, "X-Request-Id", added.request_id.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a response head for a client that speaks `version`; `framing_out` is how its body will
/// be sent.
pub fn response_head(
    head: &ResponseHead<'_>,
    version: Version,
    framing_out: Framing,
    persistence: Persistence,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status_and_reason);
    // The space before the reason is not optional (RFC 9112 §4), though some upstreams leave it
    // out.
    out.extend_from_slice(if head.status_and_reason.contains(&b' ') { b"\r\n" } else { b" \r\n" });
    let nominated = Nominated::by(&head.fields);
    let bodiless = head.framing == Framing::Empty;
    for line in head.fields.lines() {
        match ResponseField::of(line.name) {
            ResponseField::ContentLength | ResponseField::TransferEncoding
                if head.status == 204 || head.is_interim() => {}
            // To a HEAD or in a 304 these describe the response that a GET would have had.
            ResponseField::ContentLength => line.write(out),
            ResponseField::TransferEncoding if bodiless && version == Version::Http11 => line.write(out),
            ResponseField::TransferEncoding | ResponseField::Removed | ResponseField::KeepAlive => {}
            ResponseField::Passed => {
                if !nominated.contains(line.name) {
                    line.write(out);
                }
            }
        }
    }
    if framing_out == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(persistence.field_line());
    out.extend_from_slice(b"\r\n");
}

/// A framing field, in its place, with the one value that the head was understood to have.
fn framing(out: &mut Vec<u8>, line: &Line<'_>, framing: Framing) {
    match framing {
        Framing::Chunked => field_line(out, line.name, b"chunked"),
        Framing::Length(length) => number_line(out, line.name, length.get()),
        Framing::Empty | Framing::UntilClose => field_line(out, line.name, b"0"),
    }
}

fn number_line(out: &mut Vec<u8>, name: &str, value: u64) {
    // A Vec takes every write.
    write!(out, "{name}: {value}\r\n").ok();
}

fn field_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The fields that `Connection` names besides its own options (RFC 9110 §7.6.1).
enum Nominated<'h, 'b> {
    None,
    /// By few options: each is compared with each name.
    Few(Fields<'h, 'b>),
    /// In lower case. Comparing would take time in proportion to options times fields, both of
    /// which a peer chooses.
    Many(HashSet<Vec<u8>>),
}

/// Up to this number, options are compared one by one, which is cheaper for them and needs no
/// memory.
const MAX_COMPARED_OPTIONS: usize = 8;

impl<'h, 'b> Nominated<'h, 'b> {
    fn by(fields: &Fields<'h, 'b>) -> Self {
        let own = |o: &[u8]| o.eq_ignore_ascii_case(b"close") || o.eq_ignore_ascii_case(b"keep-alive");
        let options = || fields.values("connection").flat_map(list).filter(|o| !own(o));
        match options().take(MAX_COMPARED_OPTIONS + 1).count() {
            0 => Self::None,
            1..=MAX_COMPARED_OPTIONS => Self::Few(*fields),
            _ => {
                let present: HashSet<_> = fields.lines().map(|line| lower(line.name.as_bytes())).collect();
                let nominated = options().map(lower).filter(|option| present.contains(option));
                Self::Many(nominated.collect())
            }
        }
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Few(fields) => fields.connection_has(name),
            Self::Many(names) => names.contains(&lower(name.as_bytes())),
        }
    }
}

fn lower(name: &[u8]) -> Vec<u8> {
    name.to_ascii_lowercase()
}
