use hookgate::http::Version;
use hookgate::http::encode::{self, Added};
use hookgate::http::framing::Framing;
use hookgate::http::head::{EndOfHead, HeadError, HeadLimits, RequestHead, slots};
use hookgate::http::target::{self, Target};

use crate::{pieces, plain};

/// The contract's, and some that are easily met.
pub const LOOSE: HeadLimits = HeadLimits { bytes: 32768, target_bytes: 8192, field_lines: 100 };
const TIGHT: HeadLimits = HeadLimits { bytes: 200, target_bytes: 40, field_lines: 5 };
const ADDED: Added<'static> = Added {
    host: "chatwoot.example.com",
    client: "157.240.1.1",
    scheme: "https",
    via: "hookgate",
    request_id: "0123",
};

/// However a request head is cut, it is judged the same, as another reader would, and what goes on
/// means the same.
pub fn check(bytes: &[u8]) {
    let [loose, tight] = [LOOSE, TIGHT].map(|limits| {
        let mut outcomes = pieces::ways(bytes).into_iter().map(|pieces| read(&pieces, &limits));
        let first = outcomes.next().expect("there is a way");
        outcomes.for_each(|outcome| assert_eq!(outcome, first, "it depends on the pieces"));
        first
    });
    let Ok(Some(length)) = loose else {
        assert!(!matches!(tight, Ok(Some(_))), "a tighter limit lets more through");
        return;
    };
    let head = &bytes[..length];
    let plain = plain::head(head);
    let words: Vec<&[u8]> = plain.start.split(|b| *b == b' ').collect();
    let [method, target, _] = *words else { panic!("not three words in {}", plain.start.escape_ascii()) };
    assert!(method.len() <= 32, "a method without a limit");
    assert!(length <= LOOSE.bytes && target.len() <= LOOSE.target_bytes, "beyond a limit");
    let fits = length <= TIGHT.bytes && target.len() <= TIGHT.target_bytes;
    let expected = if fits && plain.lines.len() <= TIGHT.field_lines { Some(length) } else { None };
    assert_eq!(tight.ok().flatten(), expected, "limits are inclusive");
    accepted(head, &plain);
}

/// What the reading loop makes of the pieces: the length of a valid head, or why not.
fn read(pieces: &[&[u8]], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
    let (mut buffer, mut end) = (Vec::new(), EndOfHead::default());
    let outcome = pieces.iter().find_map(|piece| {
        buffer.extend_from_slice(piece);
        end.find_request(&buffer, limits).transpose()
    });
    let whole = outcome.transpose().and_then(|found| {
        let Some(length) = found else { return Ok(None) };
        RequestHead::parse(&buffer[..length], &mut slots(), limits).map(|_| Some(length))
    });
    // Of two faults either may be found first.
    whole.map_err(|error| match error {
        HeadError::Malformed(_) => HeadError::Malformed(""),
        other => other,
    })
}

fn accepted(bytes: &[u8], plain: &plain::Head) {
    let mut slots = slots();
    let head = RequestHead::parse(bytes, &mut slots, &LOOSE).expect("it was accepted before");
    let hosts = plain.values("host").len();
    assert!(hosts == 1 || (hosts == 0 && head.version == Version::Http10), "{hosts} Hosts");
    assert_eq!(head.framing, plain.framing().unwrap_or(Framing::Empty));
    assert!(head.framing != Framing::Chunked || head.version == Version::Http11, "chunked in HTTP/1.0");
    let Target::Path(path) = head.target else { return };
    let Some((_, rest)) = target::split(path) else { return };
    let mut out = Vec::new();
    encode::request_head(&head, rest, &ADDED, &mut out);
    forwarded(plain, &plain::head(&out), &[head.method.as_bytes(), rest, b"HTTP/1.1"].join(&b' '));
}

/// Compares what came in with what goes on, whose start line must be `start`.
fn forwarded(plain: &plain::Head, out: &plain::Head, start: &[u8]) {
    assert_eq!(out.start, start);
    assert_eq!(out.values("host"), [ADDED.host.as_bytes()]);
    assert_eq!(out.framing(), plain.framing());
    for (name, value) in
        [("x-forwarded-for", "157.240.1.1"), ("x-real-ip", "157.240.1.1"), ("x-forwarded-proto", "https")]
    {
        let same: Vec<_> = out.lines.iter().filter(|line| line.name.replace('_', "-") == name).collect();
        assert!(matches!(&*same, [line] if line.name == name && line.value == value.as_bytes()), "{same:?}");
    }
    let version = if plain.start.ends_with(b"1.0") { "1.0 hookgate" } else { "1.1 hookgate" };
    let vias = [plain.values("via"), vec![version.as_bytes()]].concat();
    assert_eq!(out.values("via"), vias);
    let ids = plain.values("x-request-id");
    assert_eq!(out.values("x-request-id"), if ids.is_empty() { vec![&b"0123"[..]] } else { ids });
    let nominated = plain.nominated();
    let is_passed =
        |name: &str| is_passed(name) && (name != "max-forwards" || !start.starts_with(b"OPTIONS "));
    let passed = plain.kept(|name| is_passed(name) && !nominated.iter().any(|option| option == name));
    assert_eq!(out.kept(is_passed), passed, "what travels on");
}

/// Whether the contract leaves a field alone.
fn is_passed(name: &str) -> bool {
    let folded = name.replace('_', "-");
    let speaks_for_a_proxy = folded.starts_with("x-forwarded-")
        || ["forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "client-ip"]
            .contains(&&*folded)
        || ["cf-connecting-ip", "cf-connecting-ipv6", "fastly-client-ip", "x-azure-clientip"]
            .contains(&&*folded)
        || ["x-original-forwarded-for", "x-envoy-external-address", "proxy"].contains(&&*folded);
    let of_this_hop = ["connection", "keep-alive", "proxy-connection", "te", "upgrade"];
    let of_proxies = ["proxy-authorization", "proxy-authenticate", "via", "x-request-id"];
    // Also with `_`: some servers read these alike.
    let frames = ["content-length", "transfer-encoding"].contains(&&*folded);
    !speaks_for_a_proxy
        && !frames
        && name != "host"
        && ![&of_this_hop[..], &of_proxies].concat().contains(&name)
}
