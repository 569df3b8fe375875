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
    pub flags: u8,
}

pub fn parse(frame: &[u8]) -> Option<Reference> {
    let mut rest = frame.get(12..)?;
    let is_tag = |rest: &[u8]| rest.starts_with(&[0x81, 0]) || rest.starts_with(&[0x88, 0xa8]);
    for _ in 0..2 {
        rest = if is_tag(rest) { rest.get(4..)? } else { rest };
    }
    let (addresses, tcp) = match rest {
        [0x08, 0x00, packet @ ..] => v4(packet)?,
        [0x86, 0xdd, packet @ ..] => v6(packet)?,
        _ => return None,
    };
    let tcp = tcp.get(..20)?;
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    Some(Reference {
        source: source.to_vec(),
        destination: destination.to_vec(),
        source_port: u16::from_be_bytes([tcp[0], tcp[1]]),
        destination_port: u16::from_be_bytes([tcp[2], tcp[3]]),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        flags: tcp[13],
    })
}

/// RFC 791: the addresses, and what follows the header within the packet's own length.
fn v4(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = packet.get(..20)?;
    let header_bytes = usize::from(header[0] % 16) * 4;
    let total = usize::from(header[2]) << 8 | usize::from(header[3]);
    let is_first = header[6] & 0x1f == 0 && header[7] == 0;
    let is_tcp = header[0] / 16 == 4 && header_bytes >= 20 && header[9] == 6 && is_first;
    // A frame may be cut: what is there is all that counts.
    let is_jumbo = total == 0 && packet.len() > 65535;
    let within = if is_jumbo { packet } else { &packet[..total.min(packet.len())] };
    within.get(header_bytes..).filter(|_| is_tcp).map(|tcp| (&header[12..20], tcp))
}

/// RFC 8200: the addresses, and what follows at most eight extension headers within the packet's own length.
fn v6(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = packet.get(..40).filter(|header| header[0] / 16 == 6)?;
    let length = usize::from(header[4]) << 8 | usize::from(header[5]);
    let payload = &packet[40..];
    let is_jumbo = length == 0 && packet.len() > 65535;
    let within = if is_jumbo { payload } else { &payload[..length.min(payload.len())] };
    let (mut next, mut at) = (header[6], 0);
    for _ in 0..8 {
        let [following, length, offset @ ..] = payload.get(at..)?.first_chunk::<4>()?;
        let bytes = match next {
            6 => break,
            0 | 43 | 60 => 8 * (usize::from(*length) + 1),
            51 => 4 * (usize::from(*length) + 2),
            44 if offset[0] == 0 && offset[1] < 8 => 8,
            _ => return None,
        };
        (next, at) = (*following, at + bytes);
    }
    if next == 6 { Some((&header[8..40], within.get(at..)?)) } else { None }
}
