use hookgate::http::Version;
use hookgate::http::encode::{self, Persistence};
use hookgate::http::framing::Framing;
use hookgate::http::head::{EndOfHead, slots};
use hookgate::http::response::ResponseHead;

use crate::{pieces, plain};

const LIMITS: [usize; 2] = [65536, 200];

/// However a response head is cut, it is judged the same, as another reader would, and what goes on
/// means the same.
pub fn check(bytes: &[u8]) {
    for most in LIMITS {
        let mut ways = pieces::ways(bytes).into_iter().map(|pieces| find(&pieces, most));
        let found = ways.next().expect("there is a way");
        ways.for_each(|other| assert_eq!(other, found, "it depends on the pieces"));
        let Ok(Some(length)) = found else { continue };
        assert!(length <= most, "beyond the limit");
        for to_head in [false, true] {
            accepted(&bytes[..length], to_head);
        }
    }
}

/// The length of the head; the kind of fault does not matter.
fn find(pieces: &[&[u8]], most: usize) -> Result<Option<usize>, ()> {
    let (mut buffer, mut end) = (Vec::new(), EndOfHead::default());
    let outcome = pieces.iter().find_map(|piece| {
        buffer.extend_from_slice(piece);
        end.find(&buffer, most).transpose()
    });
    outcome.transpose().map_err(|_| ())
}

fn accepted(bytes: &[u8], to_head: bool) {
    let mut slots = slots();
    let Ok(head) = ResponseHead::parse(bytes, &mut slots, to_head) else { return };
    let plain = plain::response_head(bytes);
    assert!((100..1000).contains(&head.status));
    let declared = plain.framing();
    let bodiless = to_head || head.is_interim() || [204, 304].contains(&head.status);
    let expected = if bodiless { Framing::Empty } else { declared.unwrap_or(Framing::UntilClose) };
    assert_eq!(head.framing, expected);
    if head.is_interim() {
        return relayed(&head, &plain, Version::Http11, Persistence::Implied, to_head);
    }
    for version in [Version::Http10, Version::Http11] {
        for persistence in [Persistence::Implied, Persistence::Promised, Persistence::Ended] {
            relayed(&head, &plain, version, persistence, to_head);
        }
    }
}

fn relayed(
    head: &ResponseHead<'_>,
    plain: &plain::Head,
    version: Version,
    persistence: Persistence,
    to_head: bool,
) {
    let framing = match (head.framing, version) {
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
        (framing, _) => framing,
    };
    let mut bytes = Vec::new();
    encode::response_head(head, version, framing, persistence, &mut bytes);
    let out = plain::head(&bytes);
    let (start, reason) = out.start.split_at(13);
    assert_eq!(start, format!("HTTP/1.1 {} ", head.status).as_bytes());
    let came: Vec<&[u8]> = plain.start.splitn(3, |b| *b == b' ').collect();
    assert_eq!(Some(&reason), came.get(2).or(Some(&&b""[..])));
    let connection = match persistence {
        Persistence::Implied => vec![],
        Persistence::Promised => vec![&b"keep-alive"[..]],
        Persistence::Ended => vec![&b"close"[..]],
    };
    assert_eq!(out.values("connection"), connection);
    let framing_may_show = head.status != 204 && !head.is_interim();
    assert!(out.framing().is_none() || framing_may_show, "framing where RFC 9110 §8.6 wants none");
    let mut slots = slots();
    let again = ResponseHead::parse(&bytes, &mut slots, to_head).expect("what goes on is valid");
    assert_eq!((again.status, again.framing), (head.status, framing));
    let nominated = plain.nominated();
    let passed = plain.kept(|name| is_passed(name) && !nominated.iter().any(|option| option == name));
    assert_eq!(out.kept(is_passed), passed, "what travels on");
}

/// Whether the contract leaves a field alone.
fn is_passed(name: &str) -> bool {
    let of_this_hop = ["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "upgrade"];
    !of_this_hop.contains(&name) && !["content-length", "transfer-encoding"].contains(&name)
}
