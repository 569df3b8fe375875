//! Field lines (RFC 9110 §5), and which of them travel on.

/// The field lines of a valid head, borrowed from it.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'h, 'b> {
    head: &'b [u8],
    lines: &'h [httparse::Header<'b>],
}

impl<'h, 'b> Fields<'h, 'b> {
    pub(super) fn new(head: &'b [u8], lines: &'h [httparse::Header<'b>]) -> Self {
        Self { head, lines }
    }

    /// The values of every line named `name` (in lower case), in order, without surrounding white
    /// space.
    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
        self.lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is whitespace before the colon of a line named `name`, as only responses may
    /// have it.
    pub(super) fn has_space_before_colon(&self, name: &'static str) -> bool {
        let mut lines = self.lines.iter().filter(|line| line.name.eq_ignore_ascii_case(name));
        lines.any(|line| self.head.get(self.start_of(line).saturating_add(name.len())) != Some(&b':'))
    }

    /// Where in the head a line begins.
    fn start_of(&self, line: &httparse::Header<'_>) -> usize {
        line.name.as_ptr().addr().saturating_sub(self.head.as_ptr().addr())
    }

    /// Every line: its name, its value, and its bytes as they came, CR LF included.
    pub fn lines(&self) -> impl Iterator<Item = Line<'b>> + use<'h, 'b> {
        let fields = *self;
        self.lines.iter().map(move |line| {
            let raw = fields.head.get(fields.start_of(line)..).unwrap_or_default();
            let raw = raw.split_inclusive(|b| *b == b'\n').next().unwrap_or_default();
            Line { name: line.name, value: line.value, raw }
        })
    }

    /// Whether `Connection` has `option`, ignoring ASCII case.
    pub fn connection_has(&self, option: &str) -> bool {
        self.values("connection").flat_map(list).any(|o| o.eq_ignore_ascii_case(option.as_bytes()))
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'b> {
    pub name: &'b str,
    pub value: &'b [u8],
    /// As it came, CR LF included.
    pub(super) raw: &'b [u8],
}

impl Line<'_> {
    /// Appends the line as it came, without whitespace before its colon, which no proxy may pass on
    /// (RFC 9112 §5.1).
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(self.raw.get(self.name.len()..).unwrap_or_default().trim_ascii_start());
    }
}

/// The elements of a comma-separated list (RFC 9110 §5.6.1), without white space, empty ones left
/// out.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// What becomes of a request's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestField {
    Host,
    ContentLength,
    TransferEncoding,
    Via,
    RequestId,
    MaxForwards,
    /// Speaks for this connection alone, or for a proxy that the client is not: removed.
    Removed,
    Passed,
}

/// One more than the longest names that mean anything here have, such as
/// `x-original-forwarded-for`: what is longer must not look like one of them when it is cut.
const MAX_KNOWN_BYTES: usize = 24 + 1;

impl RequestField {
    pub fn of(name: &str) -> Self {
        let mut folded = [0; MAX_KNOWN_BYTES];
        match fold(name, &mut folded) {
            b"host" => Self::Host,
            // Servers whose fields become CGI's variables would take these for framing.
            b"content-length" | b"transfer-encoding" if name.contains('_') => Self::Removed,
            b"content-length" => Self::ContentLength,
            b"transfer-encoding" => Self::TransferEncoding,
            b"via" => Self::Via,
            b"x-request-id" if !name.contains('_') => Self::RequestId,
            b"max-forwards" if !name.contains('_') => Self::MaxForwards,
            b"connection" | b"te" | b"upgrade" => Self::Removed,
            b"keep-alive" | b"proxy-connection" | b"proxy-authorization" | b"proxy-authenticate"
                if !name.contains('_') =>
            {
                Self::Removed
            }
            b"forwarded"
            | b"x-real-ip"
            | b"x-client-ip"
            | b"x-cluster-client-ip"
            | b"true-client-ip"
            | b"client-ip"
            | b"cf-connecting-ip"
            | b"cf-connecting-ipv6"
            | b"fastly-client-ip"
            | b"x-azure-clientip"
            | b"x-original-forwarded-for"
            | b"x-envoy-external-address" => Self::Removed,
            // CGI makes HTTP_PROXY of it, which many programs take for their own proxy's address.
            b"proxy" => Self::Removed,
            known if known.starts_with(b"x-forwarded-") => Self::Removed,
            _ => Self::Passed,
        }
    }

    /// Whether `Connection` can have this field removed: never one that frames, routes, or is set
    /// here.
    pub fn can_be_nominated(self) -> bool {
        matches!(self, Self::Passed | Self::MaxForwards)
    }
}

/// What becomes of a response's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseField {
    ContentLength,
    TransferEncoding,
    KeepAlive,
    Removed,
    Passed,
}

impl ResponseField {
    pub fn of(name: &str) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is("te") => Self::Removed,
            7 if is("upgrade") => Self::Removed,
            10 if is("connection") => Self::Removed,
            10 if is("keep-alive") => Self::KeepAlive,
            14 if is("content-length") => Self::ContentLength,
            16 if is("proxy-connection") => Self::Removed,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            18 if is("proxy-authenticate") => Self::Removed,
            _ => Self::Passed,
        }
    }
}

/// Fields that may not be sent as trailers (RFC 9110 §6.5.1): those that frame, route,
/// authenticate, control the response or describe the content, and those that a head could not have
/// passed either.
pub fn is_forbidden_trailer(name: &str) -> bool {
    const FORBIDDEN: &[&str] = &[
        "age",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "trailer",
        "vary",
        "warning",
        "www-authenticate",
    ];
    RequestField::of(name) != RequestField::Passed
        || ResponseField::of(name) != ResponseField::Passed
        || FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

/// `name` in lower case with `-` for `_`, cut where it is longer than any known name.
fn fold<'f>(name: &str, folded: &'f mut [u8; MAX_KNOWN_BYTES]) -> &'f [u8] {
    for (to, from) in folded.iter_mut().zip(name.bytes()) {
        *to = if from == b'_' { b'-' } else { from.to_ascii_lowercase() };
    }
    folded.get(..name.len()).unwrap_or(folded)
}

/// Whether a Via field names `pseudonym` as a proxy that the message came through (RFC 9110
/// §7.6.3).
pub fn via_names(value: &[u8], pseudonym: &str) -> bool {
    let mut elements = list(value);
    elements.any(|element| {
        let mut words = element.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty());
        let (_protocol, received_by) = (words.next(), words.next());
        received_by.is_some_and(|by| by.eq_ignore_ascii_case(pseudonym.as_bytes()))
    })
}
