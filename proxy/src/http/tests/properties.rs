//! What holds for every valid request, however it is made and however it arrives.

use std::num::NonZeroU64;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::http::chunked::{Step, open_chunk, relay_trailers};
use crate::http::decoder::{BodyError, Decoder};
use crate::http::encode::{self, Added};
use crate::http::framing::Framing;
use crate::http::head::{EndOfHead, HeadLimits, RequestHead, slots};
use crate::http::response::ResponseHead;
use crate::http::target::{self, Target};
use crate::http::{MAX_FIELD_LINES, Version};

const LIMITS: HeadLimits = HeadLimits { bytes: 32768, target_bytes: 8192, field_lines: MAX_FIELD_LINES };
const ADDED: Added<'static> = Added {
    host: "chatwoot.example.com",
    client: "157.240.1.1",
    scheme: "https",
    via: "hookgate",
    request_id: "0123",
};

/// The contract's list, in its words: what no upstream is sent.
const REMOVED: [&str; 28] = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Anything",
    "X_Forwarded_For",
    "x-forwarded_proto",
    "X-Real-IP",
    "X_REAL_IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "True-Client-IP",
    "Client_IP",
    "CF-Connecting-IP",
    "cf_connecting_ipv6",
    "Fastly-Client_IP",
    "X-Azure-ClientIP",
    "X_Original_Forwarded_For",
    "X-Envoy-External-Address",
    "X_Envoy_External-Address",
    "X-ORIGINAL-FORWARDED-FOR",
    "Proxy",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authorization",
    "TE",
    "Upgrade",
    "Content_Length",
    "Transfer_encoding",
];

/// A field line by what becomes of it.
#[derive(Clone, Debug)]
enum Line {
    Passed {
        raw: Vec<u8>,
    },
    Removed {
        raw: Vec<u8>,
    },
    /// Named by `Connection`.
    Nominated {
        name: String,
        raw: Vec<u8>,
    },
    /// Of other proxies on the way.
    Via {
        raw: Vec<u8>,
    },
}

impl Line {
    fn raw(&self) -> &[u8] {
        match self {
            Self::Passed { raw }
            | Self::Removed { raw }
            | Self::Nominated { raw, .. }
            | Self::Via { raw } => raw,
        }
    }
}

/// A request in parts.
#[derive(Clone, Debug)]
struct Made {
    method: String,
    rest: String,
    version: Version,
    lines: Vec<Line>,
    framing: Framing,
    /// Among the lines: where Host, the framing field and Connection stand.
    places: [Index; 3],
}

fn name() -> impl Strategy<Value = String> {
    // None of the names that mean something begins so.
    "[Qq][!#$%&'*+.^_`|~0-9A-Za-z-]{0,20}"
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 0x21..=0x7eu8, 2 => Just(b' '), 1 => Just(b'\t'), 1 => 0x80..=0xffu8];
    vec(byte, 0..40)
}

fn raw(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b":", value, b"\r\n"].concat()
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        4 => (name(), value()).prop_map(|(name, value)| Line::Passed { raw: raw(&name, &value) }),
        1 => (select(&REMOVED[..]), value())
            .prop_map(|(name, value)| Line::Removed { raw: raw(name, &value) }),
        1 => "[ -~]{0,20}".prop_map(|by| Line::Via { raw: raw("Via", by.as_bytes()) }),
        1 => ("[Nn]ominated-[a-z]{1,8}", value()).prop_map(|(name, value)| {
            let raw = raw(&name, &value);
            Line::Nominated { name, raw }
        }),
    ]
}

fn framing(version: Version) -> BoxedStrategy<Framing> {
    let length =
        (0..=i64::MAX as u64).prop_map(|n| NonZeroU64::new(n).map_or(Framing::Empty, Framing::Length));
    match version {
        Version::Http10 => prop_oneof![Just(Framing::Empty), length].boxed(),
        Version::Http11 => prop_oneof![Just(Framing::Empty), length, Just(Framing::Chunked)].boxed(),
    }
}

fn request() -> impl Strategy<Value = Made> {
    let version = prop_oneof![4 => Just(Version::Http11), 1 => Just(Version::Http10)];
    let framed = version.prop_flat_map(|version| (Just(version), framing(version)));
    let method = prop_oneof![
        select(&["GET", "POST", "HEAD", "PUT", "OPTIONS"][..]).prop_map(str::to_owned),
        "[A-Za-z!#$%&'*+.^_`|~0-9-]{1,12}",
    ];
    let parts = (method, "/[!-\"$-~]{0,60}", framed, vec(line(), 0..12), any::<[Index; 3]>());
    parts.prop_map(|(method, rest, (version, framing), lines, places)| Made {
        method,
        rest,
        version,
        lines,
        framing,
        places,
    })
}

impl Made {
    /// The head as a client writes it.
    fn head(&self) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = self.lines.iter().map(|line| line.raw().to_vec()).collect();
        let framing = match self.framing {
            Framing::Length(length) => raw("cOnTeNt-LeNgTh", format!(" {length} ").as_bytes()),
            Framing::Chunked => raw("Transfer-Encoding", b"\tChunked"),
            Framing::Empty | Framing::UntilClose => Vec::new(),
        };
        // Host and the framing stay, also where Connection names them.
        let mut options = "close, Host, content-length, transfer-encoding, X-Forwarded-For, via".to_owned();
        for line in &self.lines {
            if let Line::Nominated { name, .. } = line {
                options.push_str(&format!(" ,,\t{}", name.to_uppercase()));
            }
        }
        let connection = raw("Connection", options.as_bytes());
        for (line, place) in [raw("hOsT", b" p:80"), framing, connection].into_iter().zip(&self.places) {
            lines.insert(place.index(lines.len() + 1), line);
        }
        let version = if self.version == Version::Http11 { "1.1" } else { "1.0" };
        let start = format!("{} /h{} HTTP/{version}\r\n", self.method, self.rest);
        [start.as_bytes(), &lines.concat(), b"\r\n"].concat()
    }

    /// The lines that have to arrive as they are, in their order.
    fn passed(&self) -> Vec<&[u8]> {
        let passed = self.lines.iter().filter_map(|line| match line {
            Line::Passed { raw } => Some(&raw[..]),
            Line::Removed { .. } | Line::Nominated { .. } | Line::Via { .. } => None,
        });
        passed.collect()
    }

    /// What is said of the way, this proxy last.
    fn vias(&self) -> Vec<Vec<u8>> {
        let via = |line: &Line| matches!(line, Line::Via { .. }).then(|| line.raw().to_vec());
        let version = if self.version == Version::Http11 { "1.1" } else { "1.0" };
        let own = format!("Via: {version} {}\r\n", ADDED.via).into_bytes();
        self.lines.iter().filter_map(via).chain([own]).collect()
    }
}

/// The length of a head, that arrives in pieces which end at `cuts`, however little is there when
/// it is looked at.
fn length_in_pieces(bytes: &[u8], cuts: &[Index]) -> Option<usize> {
    let mut end = EndOfHead::default();
    pieces(bytes, cuts).into_iter().find_map(|so_far| {
        let found = end.find_request(&bytes[..so_far], &LIMITS);
        found.expect("every piece of a valid head may be one")
    })
}

/// Where the pieces end.
fn pieces(bytes: &[u8], cuts: &[Index]) -> Vec<usize> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    ends
}

fn config() -> ProptestConfig {
    // A failure shows its input; what is worth keeping becomes a case in tests/data.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_forwarded_means_what_came_in(made in request(), after in vec(any::<u8>(), 0..8)) {
        prop_assume!(!matches!(&*made.method, "CONNECT"));
        let head = made.head();
        let arrived = [&head[..], &after].concat();
        prop_assert_eq!(length_in_pieces(&arrived, &[]), Some(head.len()));
        let mut slots_in = slots();
        let parsed = RequestHead::parse(&head, &mut slots_in, &LIMITS).expect("it is valid");
        prop_assert_eq!(parsed.method, &made.method);
        prop_assert_eq!(parsed.framing, made.framing);
        let Target::Path(path) = parsed.target else { panic!("not a path: {:?}", parsed.target) };
        let (segment, rest) = target::split(path).expect("two segments");
        prop_assert_eq!((segment, rest), (&b"h"[..], made.rest.as_bytes()));

        let mut out = Vec::new();
        encode::request_head(&parsed, rest, &ADDED, &mut out);
        let mut slots_out = slots();
        let again = RequestHead::parse(&out, &mut slots_out, &LIMITS).expect("what is sent is valid");
        prop_assert_eq!(again.method, &made.method);
        prop_assert_eq!(again.target, Target::Path(made.rest.as_bytes()));
        prop_assert_eq!((again.version, again.framing), (Version::Http11, made.framing));
        let own = ["host", "content-length", "transfer-encoding", "x-forwarded-for", "x-real-ip",
            "x-forwarded-proto", "via", "x-request-id"];
        let lines = again.fields.lines().filter(|line| !own.contains(&&*line.name.to_ascii_lowercase()));
        let lines: Vec<&[u8]> = lines.map(|line| line.raw).collect();
        prop_assert_eq!(lines, made.passed());
        let vias = again.fields.lines().filter(|line| line.name.eq_ignore_ascii_case("via"));
        prop_assert_eq!(vias.map(|line| line.raw).collect::<Vec<_>>(), made.vias());
        for (name, value) in [("host", ADDED.host), ("x-forwarded-for", "157.240.1.1"), ("x-real-ip", "157.240.1.1"),
            ("x-forwarded-proto", "https"), ("x-request-id", "0123")]
        {
            let values: Vec<&[u8]> = again.fields.values(name).collect();
            prop_assert_eq!(values, [value.as_bytes()], "{}", name);
        }
    }

    #[test]
    fn how_a_request_head_is_cut_changes_nothing(made in request(), cuts in vec(any::<Index>(), 0..6)) {
        let head = made.head();
        prop_assert_eq!(length_in_pieces(&head, &cuts), Some(head.len()));
    }

    #[test]
    fn how_a_response_head_is_cut_changes_nothing(
        status in 200..999u16,
        reason in "[ -~]{0,20}",
        lines in vec(line(), 0..12),
        cuts in vec(any::<Index>(), 0..6),
        body in vec(any::<u8>(), 0..8),
    ) {
        let lines: Vec<Vec<u8>> = lines.iter().map(|line| line.raw().to_vec()).collect();
        let head = [format!("HTTP/1.1 {status} {reason}\r\n").as_bytes(), &lines.concat(), b"\r\n"].concat();
        let arrived = [&head[..], &body].concat();
        let mut end = EndOfHead::default();
        let found = pieces(&arrived, &cuts).into_iter().find_map(|so_far| {
            end.find(&arrived[..so_far], LIMITS.bytes).expect("every piece of a valid head may be one")
        });
        prop_assert_eq!(found, Some(head.len()));
        let mut slots = slots();
        let parsed = ResponseHead::parse(&head, &mut slots, false).expect("it is valid");
        prop_assert_eq!(parsed.status, status);
        let raw: Vec<&[u8]> = parsed.fields.lines().map(|line| line.raw).collect();
        prop_assert_eq!(raw, lines.iter().map(|line| &line[..]).collect::<Vec<_>>());
    }

    #[test]
    fn a_chunked_body_arrives_whole_however_it_is_cut(
        chunks in vec((vec(any::<u8>(), 1..300), option::of("[ -:<-~]{0,10}"), any::<bool>()), 0..6),
        trailers in vec((name(), value()), 0..4),
        after in vec(any::<u8>(), 0..8),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let content: Vec<u8> = chunks.iter().flat_map(|(content, ..)| content.clone()).collect();
        let mut sent = Vec::new();
        for (content, extension, capitals) in &chunks {
            let size = content.len();
            let size = if *capitals { format!("{size:X}") } else { format!("0{size:x}") };
            let extension = extension.as_ref().map_or(String::new(), |extension| format!(";{extension}"));
            sent.extend([format!("{size}{extension}\r\n").as_bytes(), content, b"\r\n"].concat());
        }
        let trailers: Vec<u8> = trailers.iter().flat_map(|(name, value)| raw(name, value)).collect();
        sent.extend([b"0\r\n", &trailers[..], b"\r\n"].concat());
        let whole = read(&[&sent[..], &after].concat(), &cuts).expect("it is valid");
        prop_assert_eq!(&whole.content, &content);
        prop_assert_eq!(&whole.trailers, &[&trailers[..], b"\r\n"].concat());
        prop_assert_eq!(&whole.rest, &after);
        // Sent on in other chunks, it is the same; and cut short anywhere, it never looks whole.
        let again = read(&whole.sent_on, &cuts).expect("what is sent on is valid");
        prop_assert_eq!((again.content, again.trailers, again.rest), (content, whole.trailers, Vec::new()));
        let short = &whole.sent_on[..cuts.first().map_or(0, |cut| cut.index(whole.sent_on.len()))];
        prop_assert_eq!(read(short, &cuts).map(|_| ()), Err(BodyError::Truncated));
    }

    #[test]
    fn a_body_with_a_length_is_that_long_however_it_is_cut(
        body in vec(any::<u8>(), 0..300),
        length in 1..300u64,
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let decoder = Decoder::new(Framing::Length(NonZeroU64::new(length).expect("at least 1")), u64::MAX);
        let length = length as usize;
        match decode(decoder, &body, &cuts) {
            Ok(read) => prop_assert_eq!((&read.content[..], &read.rest[..]), body.split_at(length)),
            Err(error) => prop_assert!(error == BodyError::Truncated && body.len() < length),
        }
    }
}

/// A body as it was read.
#[derive(Debug, Default)]
struct Read {
    content: Vec<u8>,
    trailers: Vec<u8>,
    rest: Vec<u8>,
    /// The same in the chunks that it would travel in.
    sent_on: Vec<u8>,
}

fn read(sent: &[u8], cuts: &[Index]) -> Result<Read, BodyError> {
    decode(Decoder::new(Framing::Chunked, u64::MAX), sent, cuts)
}

fn decode(mut decoder: Decoder, sent: &[u8], cuts: &[Index]) -> Result<Read, BodyError> {
    let mut read = Read::default();
    let mut taken = 0;
    for end in pieces(sent, cuts) {
        loop {
            match decoder.step(&sent[taken..end])? {
                Step::More { skip } => {
                    taken += skip;
                    break;
                }
                Step::Data { skip, length } => {
                    let content = &sent[taken + skip..taken + skip + length];
                    open_chunk(length, &mut read.sent_on);
                    read.sent_on.extend([content, b"\r\n"].concat());
                    read.content.extend_from_slice(content);
                    taken += skip + length;
                }
                Step::End { skip, trailers } => {
                    relay_trailers(&sent[taken..][trailers], &mut read.trailers);
                    read.sent_on.extend([b"0\r\n", &read.trailers[..]].concat());
                    read.rest = sent[taken + skip..].to_vec();
                    return Ok(read);
                }
            }
        }
    }
    decoder.end_of_input().map(|()| read)
}
