use super::cases::{self, Case, same};
use crate::http::encode::{self, Added};
use crate::http::fields::via_names;
use crate::http::framing::Framing;
use crate::http::head::{EndOfHead, HeadError, HeadLimits, RequestHead, slots};
use crate::http::target::{self, Target};
use crate::http::{MAX_FIELD_LINES, Version};

const KEYS: &[&str] =
    &["name", "head", "bytes", "target_bytes", "lines", "reads", "refused", "forwarded", "loop", "rest"];

const ADDED: Added<'static> = Added {
    host: "chatwoot.example.com",
    client: "157.240.1.1",
    scheme: "https",
    via: "hookgate",
    request_id: "0123",
};

/// Every case whole, and cut at every byte.
#[test]
fn request_heads() {
    cases::for_each("heads.toml", KEYS, |case| {
        let head = case.bytes("head").expect("a head");
        let limits = limits(case);
        let whole = read(&[&head], &limits);
        same("read", &whole, &expected(case))?;
        for cut in 1..head.len() {
            let (first, second) = head.split_at(cut);
            let pieces = read(&[first, second], &limits);
            same(&format!("cut at byte {cut}"), without_reason(&pieces), without_reason(&whole))?;
        }
        let bytes: Vec<&[u8]> = head.chunks(1).collect();
        same("byte by byte", without_reason(&read(&bytes, &limits)), without_reason(&whole))
    });
}

#[test]
fn request_heads_as_they_are_forwarded() {
    cases::for_each("heads.toml", KEYS, |case| {
        let Some(expected) = case.text("forwarded") else { return Ok(()) };
        let head = case.bytes("head").expect("a head");
        let mut slots = slots();
        let parsed = RequestHead::parse(&head, &mut slots, &limits(case)).map_err(|e| format!("  {e:?}"))?;
        let Target::Path(path) = parsed.target else { return Err("  not a path".into()) };
        let (_, rest) = target::split(path).ok_or("  no second segment")?;
        let mut out = Vec::new();
        encode::request_head(&parsed, rest, &ADDED, &mut out);
        let expected = expected.replace('\n', "\r\n") + "\r\n";
        same("forwarded", &latin1(&out), &expected)?;
        let limits = HeadLimits { bytes: usize::MAX, target_bytes: usize::MAX, field_lines: MAX_FIELD_LINES };
        let mut slots = self::slots();
        let again = RequestHead::parse(&out, &mut slots, &limits).map_err(|e| format!("  again: {e:?}"))?;
        if again.framing == parsed.framing && again.method == parsed.method {
            Ok(())
        } else {
            Err("  what is forwarded does not mean what came in".into())
        }
    });
}

/// However many options there are: few are compared one by one, many looked up.
#[test]
fn fields_that_connection_names_are_removed_by_few_options_and_by_many() {
    for others in [0, 5, 6, 7, 8, 9, 1000] {
        let others: String = (0..others).map(|number| format!(", x-other-{number}")).collect();
        let head = format!(
            "POST /up.example/x HTTP/1.1\r\nHost: p\r\nX-Hop: 1\r\nX-Kept: 2\r\nx-MIX: 3\r\nX-Real-IP: 9.9.9.9\r\n\
             Connection: close, X-HOP{others}\r\nContent-Length: 0\r\nConnection: Host, Content-Length, X-Mix\r\n\r\n"
        );
        let limits = HeadLimits { bytes: 65536, target_bytes: 8192, field_lines: MAX_FIELD_LINES };
        let mut slots = slots();
        let parsed = RequestHead::parse(head.as_bytes(), &mut slots, &limits).unwrap();
        let mut out = Vec::new();
        encode::request_head(&parsed, b"/x", &ADDED, &mut out);
        let expected = "POST /x HTTP/1.1\r\nHost: chatwoot.example.com\r\nX-Kept: 2\r\nContent-Length: 0\r\n\
                        X-Forwarded-For: 157.240.1.1\r\n";
        assert!(latin1(&out).starts_with(expected), "{}", latin1(&out));
    }
}

#[test]
fn a_loop_is_a_request_that_names_this_proxy_in_via() {
    cases::for_each("heads.toml", KEYS, |case| {
        if case.text("forwarded").is_none() {
            return Ok(());
        }
        let head = case.bytes("head").expect("a head");
        let mut slots = slots();
        let parsed = RequestHead::parse(&head, &mut slots, &limits(case)).map_err(|e| format!("  {e:?}"))?;
        let is_loop = parsed.fields.values("via").any(|via| via_names(via, ADDED.via));
        same("loop", &is_loop.to_string(), &case.flag("loop").to_string())
    });
}

/// What the connection's reading loop makes of the pieces, as a line.
fn read(pieces: &[&[u8]], limits: &HeadLimits) -> String {
    let mut buffer = Vec::new();
    let mut end = EndOfHead::default();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        match end.find_request(&buffer, limits) {
            Ok(None) => {}
            Ok(Some(length)) => return parsed(&buffer[..length], buffer.len() - length, limits),
            Err(error) => return refusal(error),
        }
    }
    "more is needed".into()
}

fn parsed(head: &[u8], rest: usize, limits: &HeadLimits) -> String {
    let mut slots = slots();
    let head = match RequestHead::parse(head, &mut slots, limits) {
        Ok(head) => head,
        Err(error) => return refusal(error),
    };
    let target = match head.target {
        Target::Path(path) => latin1(path),
        Target::Asterisk => "asterisk".into(),
        Target::Authority => "authority".into(),
    };
    let version = if head.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let framing = match head.framing {
        Framing::Empty => "empty".into(),
        Framing::Length(length) => format!("{length} bytes"),
        Framing::Chunked => "chunked".into(),
        Framing::UntilClose => "until close".into(),
    };
    let mut line = format!("{} {target} {version}, {framing}", head.method);
    let forwards = head.max_forwards();
    for (is_so, what) in [(!head.persists(), ", closes"), (head.expects_continue(), ", expects 100")] {
        line.push_str(if is_so { what } else { "" });
    }
    if let Some(forwards) = forwards {
        line.push_str(&format!(", forwards {forwards}"));
    }
    if rest > 0 {
        line.push_str(&format!(", {rest} bytes follow"));
    }
    line
}

fn expected(case: &Case<'_>) -> String {
    let rest = case.number("rest").map_or(String::new(), |rest| format!(", {rest} bytes follow"));
    match (case.text("reads"), case.text("refused")) {
        (Some(reads), None) => format!("{reads}{rest}"),
        (None, Some(refused)) => refused.to_owned(),
        _ => panic!("{}: either `reads` or `refused`", case.name()),
    }
}

fn refusal(error: HeadError) -> String {
    match error {
        HeadError::Malformed(why) => format!("400 {why}"),
        HeadError::Version => "505".into(),
        HeadError::TargetTooLong => "414".into(),
        HeadError::TooLarge => "431".into(),
    }
}

/// Two faults of one head may be found in either order, and what follows it may not have arrived;
/// nothing else may depend on how it was cut.
fn without_reason(outcome: &str) -> &str {
    if outcome.starts_with("400 ") {
        return "400";
    }
    match outcome.rsplit_once(", ") {
        Some((start, end)) if end.ends_with(" bytes follow") => start,
        _ => outcome,
    }
}

/// The contract's limits, unless the case has its own.
fn limits(case: &Case<'_>) -> HeadLimits {
    HeadLimits {
        bytes: case.number("bytes").unwrap_or(32768),
        target_bytes: case.number("target_bytes").unwrap_or(8192),
        field_lines: case.number("lines").unwrap_or(100),
    }
}

/// Bytes as text of the same length, so that differences can be shown.
pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}
