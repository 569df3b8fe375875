//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): who a load balancer says
//! its client is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, CR LF included.
const MAX_V1_BYTES: usize = 107;
/// The most bytes that addresses and further fields of version 2 may have.
const MAX_V2_BYTES: usize = 4096;
/// The type of the field that says whether the client used TLS, and the bit that says it did.
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client; `None`: the connection is the load balancer's own, or it does not know.
    pub client: Option<SocketAddr>,
    /// Whether the client used TLS, where the header says so.
    pub tls: Option<bool>,
}

/// Not a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BadHeader;

impl From<BadHeader> for io::Error {
    fn from(_: BadHeader) -> Self {
        Self::new(io::ErrorKind::InvalidData, "no PROXY header")
    }
}

/// Reads one header, and not a byte more.
///
/// Errors: what comes is no header (`InvalidData`), or ends within one (`UnexpectedEof`).
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Header> {
    let mut start = [0; SIGNATURE.len()];
    from.read_exact(&mut start).await?;
    if start == *SIGNATURE { read_v2(from).await } else { read_v1(from, &start).await }
}

async fn read_v1(from: &mut (impl AsyncRead + Unpin), start: &[u8]) -> io::Result<Header> {
    if !start.starts_with(b"PROXY ") {
        return Err(BadHeader.into());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        if line.len() == MAX_V1_BYTES {
            return Err(BadHeader.into());
        }
        line.push(from.read_u8().await?);
    }
    Ok(parse_v1(&line)?)
}

async fn read_v2(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Header> {
    let [version_command, family, length @ ..]: [u8; 4] = {
        let mut fixed = [0; 4];
        from.read_exact(&mut fixed).await?;
        fixed
    };
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_V2_BYTES {
        return Err(BadHeader.into());
    }
    let mut rest = vec![0; length];
    from.read_exact(&mut rest).await?;
    Ok(parse_v2(version_command, family, &rest)?)
}

/// `line` with its CR LF.
fn parse_v1(line: &[u8]) -> Result<Header, BadHeader> {
    let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or(BadHeader)?;
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err(BadHeader);
    }
    let family = words.next().ok_or(BadHeader)?;
    if family == "UNKNOWN" {
        return Ok(Header { client: None, tls: None });
    }
    let mut ip = || -> Result<IpAddr, BadHeader> {
        let ip: IpAddr = words.next().and_then(|word| word.parse().ok()).ok_or(BadHeader)?;
        let expected = match family {
            "TCP4" => ip.is_ipv4(),
            "TCP6" => ip.is_ipv6(),
            _ => false,
        };
        if expected { Ok(ip) } else { Err(BadHeader) }
    };
    let (source, _destination) = (ip()?, ip()?);
    let mut port = || words.next().and_then(parse_port).ok_or(BadHeader);
    let (port, _destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(BadHeader);
    }
    Ok(Header { client: Some(SocketAddr::new(source, port)), tls: None })
}

/// Decimal, without leading zeros or a sign.
fn parse_port(word: &str) -> Option<u16> {
    let canonical = word == "0" || !word.starts_with(['0', '+']);
    word.parse().ok().filter(|_| canonical)
}

/// `rest`: what follows the 16 fixed bytes.
fn parse_v2(version_command: u8, family: u8, rest: &[u8]) -> Result<Header, BadHeader> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let (client, fields) = match (version_command, family) {
        (LOCAL, _) => return Ok(Header { client: None, tls: None }),
        // TCP over IPv4: two addresses of 4 bytes, two ports.
        (PROXY, 0x11) => {
            let (addresses, fields) = rest.split_first_chunk::<12>().ok_or(BadHeader)?;
            let [a, b, c, d, _, _, _, _, port @ .., _, _] = *addresses;
            (Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes(port))), fields)
        }
        // TCP over IPv6: two addresses of 16 bytes, two ports.
        (PROXY, 0x21) => {
            let (source, after) = rest.split_first_chunk::<16>().ok_or(BadHeader)?;
            let (_destination, after) = after.split_first_chunk::<16>().ok_or(BadHeader)?;
            let ([high, low, _, _], fields) = after.split_first_chunk::<4>().ok_or(BadHeader)?;
            let port = u16::from_be_bytes([*high, *low]);
            (Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)), fields)
        }
        // Anything else that is PROXY: the peer's own address serves.
        (PROXY, _) => return Ok(Header { client: None, tls: None }),
        _ => return Err(BadHeader),
    };
    Ok(Header { client, tls: tls(fields)? })
}

/// Looks for the SSL field among the type-length-value fields.
fn tls(mut fields: &[u8]) -> Result<Option<bool>, BadHeader> {
    let mut tls = None;
    while let [kind, high, low, after @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = after.split_at_checked(length).ok_or(BadHeader)?;
        if *kind == TLV_SSL {
            tls = Some(value.first().ok_or(BadHeader)? & CLIENT_SSL != 0);
        }
        fields = rest;
    }
    if fields.is_empty() { Ok(tls) } else { Err(BadHeader) }
}

#[cfg(test)]
mod proofs;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> Result<(Header, usize), io::ErrorKind> {
        let mut left = bytes;
        let header = read(&mut left).await.map_err(|error| error.kind())?;
        Ok((header, bytes.len() - left.len()))
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn headers_are_read_and_nothing_behind_them() {
        let v4 = [157, 240, 1, 1, 10, 0, 0, 1, 0x30, 0x39, 1, 187];
        let v6 =
            [&[0x2a, 0x03, 0x28, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0, 80, 1, 187]]
                .concat();
        let ssl = [&v4[..], &[0x03, 0, 1, 9], &[TLV_SSL, 0, 5, CLIENT_SSL, 0, 0, 0, 0]].concat();
        let no_ssl = [&v4[..], &[TLV_SSL, 0, 5, 0, 0, 0, 0, 0]].concat();
        for (bytes, client, tls) in [
            (b"PROXY TCP4 157.240.1.1 10.0.0.1 12345 443\r\n".to_vec(), Some("157.240.1.1:12345"), None),
            (b"PROXY TCP6 2a03:2880::1 ::1 80 443\r\n".to_vec(), Some("[2a03:2880::1]:80"), None),
            (b"PROXY UNKNOWN\r\n".to_vec(), None, None),
            (b"PROXY UNKNOWN whatever follows\r\n".to_vec(), None, None),
            (v2(0x21, 0x11, &v4), Some("157.240.1.1:12345"), None),
            (v2(0x21, 0x21, &v6), Some("[2a03:2880::1]:80"), None),
            (v2(0x21, 0x11, &ssl), Some("157.240.1.1:12345"), Some(true)),
            (v2(0x21, 0x11, &no_ssl), Some("157.240.1.1:12345"), Some(false)),
            (v2(0x20, 0x00, b""), None, None),
            (v2(0x21, 0x00, b""), None, None),
        ] {
            let expected = Header { client: client.map(|client| client.parse().unwrap()), tls };
            let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read_all(&followed).await, Ok((expected, bytes.len())), "{:?}", bytes.escape_ascii());
            for cut in 0..bytes.len() {
                assert_eq!(read_all(&bytes[..cut]).await, Err(io::ErrorKind::UnexpectedEof), "cut at {cut}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let v4 = [157, 240, 1, 1, 10, 0, 0, 1, 0x30, 0x39, 1, 187];
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 157.240.1.1 10.0.0.1 12345 443\n".to_vec(),
            b"PROXY TCP4 157.240.1.1 10.0.0.1 12345\r\n".to_vec(),
            b"PROXY TCP4 157.240.1.1 10.0.0.1 12345 443 x\r\n".to_vec(),
            b"PROXY TCP4 157.240.1.1 10.0.0.1 012345 443\r\n".to_vec(),
            b"PROXY TCP4 157.240.1.1 10.0.0.1 99999 443\r\n".to_vec(),
            b"PROXY TCP4 2a03:2880::1 ::1 80 443\r\n".to_vec(),
            b"PROXY TCP5 157.240.1.1 10.0.0.1 12345 443\r\n".to_vec(),
            b"PROXY  TCP4 157.240.1.1 10.0.0.1 1 443\r\n".to_vec(),
            [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(),
            v2(0x11, 0x11, &v4),
            v2(0x22, 0x11, &v4),
            v2(0x21, 0x11, &v4[..11]),
            v2(0x21, 0x11, &[&v4[..], &[TLV_SSL, 0, 9, 0]].concat()),
            v2(0x21, 0x11, &[&v4[..], &[TLV_SSL, 0]].concat()),
            v2(0x21, 0x11, &[0; MAX_V2_BYTES + 1]),
        ] {
            assert_eq!(read_all(&bytes).await, Err(io::ErrorKind::InvalidData), "{:?}", bytes.escape_ascii());
        }
    }
}
