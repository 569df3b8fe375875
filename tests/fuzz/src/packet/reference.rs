//! A second parser, that has the whole frame and no verifier: as plain as can be.

/// What a TCP segment in a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Network byte order, 4 or 16 bytes.
    pub source: Vec<u8>,
    pub destination: Vec<u8>,
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub hop_limit: u8,
    /// From the beginning of the TCP header to the end of the frame.
    pub tcp_bytes: isize,
    /// From the end of the TCP header, by its own length, to the end of the frame.
    pub data_bytes: isize,
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    Segment(Reference),
    /// A first fragment whose own length ends within the TCP header, behind the ports.
    ShortFragment {
        source: Vec<u8>,
        destination_port: u16,
    },
    /// More than eight extension headers.
    LongChain {
        source: Vec<u8>,
    },
    Nothing,
}

pub fn parse(frame: &[u8]) -> Parsed {
    parse_ethernet(frame).unwrap_or(Parsed::Nothing)
}

fn parse_ethernet(frame: &[u8]) -> Option<Parsed> {
    let mut rest = frame.get(12..)?;
    let is_tag = |rest: &[u8]| rest.starts_with(&[0x81, 0]) || rest.starts_with(&[0x88, 0xa8]);
    for _ in 0..2 {
        rest = if is_tag(rest) { rest.get(4..)? } else { rest };
    }
    match rest {
        [0x08, 0x00, packet @ ..] => v4(packet),
        [0x86, 0xdd, packet @ ..] => v6(packet),
        _ => None,
    }
}

/// RFC 791.
fn v4(packet: &[u8]) -> Option<Parsed> {
    let header = packet.get(..20)?;
    let header_bytes = usize::from(header[0] % 16) * 4;
    let total = usize::from(header[2]) << 8 | usize::from(header[3]);
    let is_first = header[6] & 0x1f == 0 && header[7] == 0;
    if header[0] / 16 != 4 || header_bytes < 20 || header[9] != 6 || !is_first {
        return None;
    }
    let is_jumbo = total == 0 && packet.len() > 65535;
    let own_bytes = if is_jumbo { packet.len() } else { total };
    tcp(
        header[8],
        &header[12..20],
        packet.get(header_bytes..)?,
        own_bytes.checked_sub(header_bytes)?,
        header[6] & 0x20 != 0,
    )
}

/// RFC 8200: at most eight extension headers.
fn v6(packet: &[u8]) -> Option<Parsed> {
    let header = packet.get(..40).filter(|header| header[0] / 16 == 6)?;
    let length = usize::from(header[4]) << 8 | usize::from(header[5]);
    let payload = &packet[40..];
    let own_bytes = if length == 0 && packet.len() > 65535 { payload.len() } else { length };
    let (mut next, mut at, mut has_more) = (header[6], 0, false);
    for _ in 0..8 {
        if next == 6 {
            break;
        }
        let [following, length, offset @ ..] = payload.get(at..)?.first_chunk::<4>()?;
        let bytes = match next {
            0 | 43 | 60 => 8 * (usize::from(*length) + 1),
            51 => 4 * (usize::from(*length) + 2),
            44 if offset[0] == 0 && offset[1] < 8 => {
                has_more |= offset[1] % 2 == 1;
                8
            }
            _ => return None,
        };
        (next, at) = (*following, at + bytes);
    }
    match next {
        6 => tcp(header[7], &header[8..40], payload.get(at..)?, own_bytes.checked_sub(at)?, has_more),
        0 | 43 | 44 | 51 | 60 => Some(Parsed::LongChain { source: header[8..24].to_vec() }),
        _ => None,
    }
}

/// `rest`: what there is of the frame behind the IP headers, of which `own_bytes` belong to the
/// packet.
fn tcp(hop_limit: u8, addresses: &[u8], rest: &[u8], own_bytes: usize, has_more: bool) -> Option<Parsed> {
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    if own_bytes < 20 {
        let is_short = own_bytes >= 4 && has_more;
        let short = Parsed::ShortFragment { source: source.to_vec(), destination_port: port(2)? };
        return is_short.then_some(short);
    }
    let tcp = rest.get(..20)?;
    Some(Parsed::Segment(Reference {
        source: source.to_vec(),
        destination: destination.to_vec(),
        source_port: port(0)?,
        destination_port: port(2)?,
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        acknowledgement: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
        flags: tcp[13],
        hop_limit,
        tcp_bytes: rest.len() as isize,
        data_bytes: rest.len() as isize - isize::from(tcp[12] / 16) * 4,
    }))
}
