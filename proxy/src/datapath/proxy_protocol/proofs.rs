//! The parsers against HAProxy's proxy-protocol.txt, for every header of certain forms. The models
//! here read the whole header at once, from its text.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

const V4: [u8; 12] = [157, 240, 1, 1, 10, 0, 0, 1, 0x30, 0x39, 1, 187];

/// What is read from `bytes`, and how much of them; slices never let wait.
fn read_now(bytes: &[u8]) -> Result<(Header, usize), io::ErrorKind> {
    let mut left = bytes;
    let outcome = match pin!(read(&mut left)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome.map_err(|error| error.kind()),
        Poll::Pending => panic!("it waits although everything is there"),
    };
    outcome.map(|header| (header, bytes.len() - left.len()))
}

/// The header at the start of `bytes` and its length. `None`: there is none, or not all of it.
fn model(bytes: &[u8]) -> Option<(Header, usize)> {
    if bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") { model_v2(bytes) } else { model_v1(bytes) }
}

/// §2.1: `PROXY`, the family, two addresses, two ports, each after exactly one space, and CR LF;
/// 107 bytes at most.
fn model_v1(bytes: &[u8]) -> Option<(Header, usize)> {
    let length = bytes.iter().take(107).position(|b| *b == b'\n')? + 1;
    let line = std::str::from_utf8(bytes[..length].strip_suffix(b"\r\n")?).ok()?;
    if line == "PROXY UNKNOWN" || line.starts_with("PROXY UNKNOWN ") {
        return Some((Header { client: None, tls: None }, length));
    }
    let ["PROXY", family, source, destination, port, destination_port] =
        line.split(' ').collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    // Without a leading zero there is one way to write each.
    let port_of = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    let (source, _) = (address(source)?, address(destination)?);
    let (port, _) = (port_of(port)?, port_of(destination_port)?);
    Some((Header { client: Some(SocketAddr::new(source, port)), tls: None }, length))
}

/// §2.2: 12 bytes of signature, version and command, family, length, addresses, fields.
fn model_v2(bytes: &[u8]) -> Option<(Header, usize)> {
    let length = 256 * usize::from(*bytes.get(14)?) + usize::from(*bytes.get(15)?);
    let rest = bytes.get(16..16 + length).filter(|_| length <= 4096)?;
    let local = Some((Header { client: None, tls: None }, 16 + length));
    let address_bytes = match (bytes[12], bytes[13]) {
        (0x20, _) => return local,
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        (0x21, _) => return local,
        _ => return None,
    };
    let ports = rest.get(2 * address_bytes..2 * address_bytes + 4)?;
    let source = match address_bytes {
        4 => IpAddr::from(<[u8; 4]>::try_from(&rest[..4]).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(&rest[..16]).ok()?),
    };
    let port = 256 * u16::from(ports[0]) + u16::from(ports[1]);
    let tls = model_fields(&rest[2 * address_bytes + 4..])?;
    Some((Header { client: Some(SocketAddr::new(source, port)), tls }, 16 + length))
}

/// §2.2: type, length in two bytes, value, until nothing is left. §2.2.6: bit 0 of the SSL field's
/// first byte. The inner `None`: there is no SSL field; the last of several counts.
fn model_fields(fields: &[u8]) -> Option<Option<bool>> {
    if fields.is_empty() {
        return Some(None);
    }
    let length = 256 * usize::from(*fields.get(1)?) + usize::from(*fields.get(2)?);
    let value = fields.get(3..3 + length)?;
    let later = model_fields(&fields[3 + length..])?;
    match (fields[0], later) {
        (0x20, None) => Some(Some(value.first()? % 2 == 1)),
        (0x20, later) => value.first().map(|_| later),
        (_, later) => Some(later),
    }
}

fn header_v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[version_command, family], &length, rest].concat()
}

#[track_caller]
fn compare(bytes: &[u8]) {
    assert_eq!(read_now(bytes).ok(), model(bytes), "{}", bytes.escape_ascii());
}

/// Proven for every line of up to five of these words behind `PROXY`, with each of three ends and
/// something behind it: it is read as the document says, and not a byte too far.
#[test]
fn every_line_of_five_words_is_read_as_the_document_says() {
    const WORDS: [&str; 10] = ["TCP4", "TCP6", "UNKNOWN", "1.2.3.4", "::1", "0", "443", "65536", "01", ""];
    for count in 0..=5 {
        for number in 0..WORDS.len().pow(count) {
            let mut line = String::from("PROXY");
            for place in 0..count {
                line += " ";
                line += WORDS[number / WORDS.len().pow(place) % WORDS.len()];
            }
            for end in ["\r\n", "\n", "\r"] {
                compare(format!("{line}{end}GET / HTTP/1.1\r\n").as_bytes());
            }
        }
    }
}

/// Proven for these headers, and whatever is one byte away from one (each byte replaced by each
/// other, left out, or each put before it): they are read as the document says. Of what is read, no
/// shorter beginning is enough.
#[test]
fn every_edit_of_one_byte_is_read_as_the_document_says() {
    let fields = [&V4[..], &[0x03, 0, 1, 9, TLV_SSL, 0, 1, CLIENT_SSL]].concat();
    let headers = [
        b"PROXY TCP4 157.240.1.1 10.0.0.1 12345 443\r\n".to_vec(),
        b"PROXY TCP6 2a03:2880::1 ::1 80 443\r\n".to_vec(),
        b"PROXY UNKNOWN x\r\n".to_vec(),
        header_v2(0x21, 0x11, &fields),
        header_v2(0x21, 0x21, &[7; 36]),
        header_v2(0x20, 0x00, b"x"),
    ];
    for header in headers {
        for cut in 0..header.len() {
            assert_eq!(read_now(&header[..cut]), Err(io::ErrorKind::UnexpectedEof), "cut at {cut}");
        }
        let followed = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
        for place in 0..=header.len() {
            for byte in 0..=u8::MAX {
                let mut edited = followed.clone();
                edited[place] = byte;
                compare(&edited);
                edited = followed.clone();
                edited.insert(place, byte);
                compare(&edited);
            }
            let mut edited = followed.clone();
            edited.remove(place);
            compare(&edited);
        }
    }
}

/// Proven for every version, command and family, with as many bytes behind them as addresses have,
/// and one more or less.
#[test]
fn every_version_command_and_family_is_judged_as_the_document_says() {
    for version_command in 0..=u8::MAX {
        for family in 0..=u8::MAX {
            for length in [0, 11, 12, 13, 15, 35, 36, 37, 39] {
                let header = header_v2(version_command, family, &[0; 39][..length]);
                let parsed = parse_v2(version_command, family, &header[16..]).ok();
                let expected = model_v2(&header).map(|(header, _)| header);
                assert_eq!(parsed, expected, "{version_command:#x} {family:#x} {length}");
            }
        }
    }
}

/// Proven for every length that a header can name: up to 4096 bytes are taken, all beyond is
/// refused.
#[test]
fn every_length_is_taken_or_refused() {
    let mut bytes = header_v2(0x20, 0, &[0; MAX_V2_BYTES]);
    bytes.push(0);
    for length in 0..=u16::MAX {
        bytes[14..16].copy_from_slice(&length.to_be_bytes());
        let length = usize::from(length);
        let expected = if length <= 4096 { Ok(16 + length) } else { Err(io::ErrorKind::InvalidData) };
        assert_eq!(read_now(&bytes).map(|(_, taken)| taken), expected);
    }
}

/// Proven for every string of up to eight of these bytes where the fields stand: the SSL type,
/// another type, and what lengths and flags are made of.
#[test]
fn every_short_list_of_fields_is_read_as_the_document_says() {
    const BYTES: [u8; 5] = [TLV_SSL, 0x03, 0, 1, 2];
    for count in 0..=8 {
        for number in 0..BYTES.len().pow(count) {
            let byte = |place| BYTES[number / BYTES.len().pow(place) % BYTES.len()];
            let fields = (0..count).map(byte).collect::<Vec<u8>>();
            assert_eq!(tls(&fields).ok(), model_fields(&fields), "{fields:?}");
        }
    }
}
