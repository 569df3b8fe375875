use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use hookgate::datapath::proxy_protocol::{Header, read};
use tokio::io::{AsyncRead, AsyncReadExt};

/// However a PROXY header is cut, it is read the same, as another reader would, and not a byte too
/// far.
pub fn check(bytes: &[u8]) {
    let whole = read_now(&mut &*bytes);
    for cut in 0..bytes.len().min(128) {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(read_now(&mut first.chain(second)), whole, "cut at byte {cut}");
    }
    let mut left = bytes;
    let taken = match read_now(&mut left) {
        Ok(_) => bytes.len() - left.len(),
        Err(_) => return assert_eq!(plain(bytes), None, "another reader finds a header"),
    };
    assert_eq!(whole.ok().map(|header| (taken, header)), plain(bytes));
    assert_eq!(read_now(&mut &bytes[..taken - 1]), Err(ErrorKind::UnexpectedEof), "a byte less was enough");
}

/// Slices never let wait.
fn read_now(from: &mut (impl AsyncRead + Unpin)) -> Result<Header, ErrorKind> {
    match pin!(read(from)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome.map_err(|error| error.kind()),
        Poll::Pending => panic!("it waits although everything is there"),
    }
}

/// The length of the header at the front, and what it says.
fn plain(bytes: &[u8]) -> Option<(usize, Header)> {
    if bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") { plain_v2(bytes) } else { plain_v1(bytes) }
}

fn plain_v1(bytes: &[u8]) -> Option<(usize, Header)> {
    let length = bytes.iter().take(107).position(|b| *b == b'\n')? + 1;
    // The first twelve bytes are read at once; no header is shorter.
    let line = std::str::from_utf8(&bytes[..length]).ok()?.strip_suffix("\r\n").filter(|_| length >= 12)?;
    if line == "PROXY UNKNOWN" || line.starts_with("PROXY UNKNOWN ") {
        return Some((length, Header { client: None, tls: None }));
    }
    let words: Vec<&str> = line.split(' ').collect();
    let ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, port, destination_port] = *words else {
        return None;
    };
    let ip = |word: &str| word.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == (family == "TCP4"));
    let port_of = |word: &str| word.parse::<u16>().ok().filter(|port| port.to_string() == word);
    let (source, _) = (ip(source)?, ip(destination)?);
    let (port, _) = (port_of(port)?, port_of(destination_port)?);
    Some((length, Header { client: Some(SocketAddr::new(source, port)), tls: None }))
}

fn plain_v2(bytes: &[u8]) -> Option<(usize, Header)> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(14)?, *bytes.get(15)?]));
    let rest = bytes.get(16..16 + length).filter(|_| length <= 4096)?;
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let (ip, port, mut at) = match (bytes[12], bytes[13]) {
        (0x20, _) => return Some((16 + length, Header { client: None, tls: None })),
        (0x21, 0x11) if length >= 12 => (IpAddr::from([rest[0], rest[1], rest[2], rest[3]]), port(8), 12),
        (0x21, 0x21) if length >= 36 => {
            (Ipv6Addr::from(<[u8; 16]>::try_from(&rest[..16]).ok()?).into(), port(32), 36)
        }
        (0x21, 0x11 | 0x21) => return None,
        (0x21, _) => return Some((16 + length, Header { client: None, tls: None })),
        _ => return None,
    };
    let mut tls = None;
    while at < length {
        let value =
            at + 3..at + 3 + usize::from(u16::from_be_bytes([*rest.get(at + 1)?, *rest.get(at + 2)?]));
        let inside = rest.get(value.clone())?;
        if rest[at] == 0x20 {
            tls = Some(inside.first()? % 2 == 1);
        }
        at = value.end;
    }
    Some((16 + length, Header { client: Some(SocketAddr::new(ip, port)), tls }))
}
