use hookgate_ebpf::packet::{Flags, Packet, Segment, Source, parse};

#[path = "../../../proxy-ebpf/src/packet/frames.rs"]
mod cases;

/// Frames of every kind that the parser's own tests know.
pub fn frames() -> impl Iterator<Item = Vec<u8>> {
    cases::cases().into_iter().map(|(_, frame, _)| frame)
}

struct Frame<'b>(&'b [u8]);

impl Packet for Frame<'_> {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}

/// The guard's parser finds what another one finds, that has the whole frame and no verifier.
pub fn check(bytes: &[u8]) {
    let found = parse(&Frame(bytes)).map(|Segment { source, destination_port, flags }| {
        let source = match source {
            Source::V4(source) => source.to_vec(),
            Source::V6(source) => source.to_vec(),
        };
        (source, destination_port, flags.0)
    });
    assert_eq!(found, plain(bytes));
    assert!(found.is_none_or(|_| bytes.len() >= 54), "a segment in less than its headers");
}

/// Source, destination port, flags.
fn plain(frame: &[u8]) -> Option<(Vec<u8>, u16, u8)> {
    let mut rest = frame.get(12..)?;
    let is_tag = |rest: &[u8]| rest.starts_with(&[0x81, 0]) || rest.starts_with(&[0x88, 0xa8]);
    for _ in 0..2 {
        rest = if is_tag(rest) { rest.get(4..)? } else { rest };
    }
    let (source, tcp) = match rest {
        [0x08, 0x00, packet @ ..] => plain_v4(packet)?,
        [0x86, 0xdd, packet @ ..] => plain_v6(packet)?,
        _ => return None,
    };
    let tcp = tcp.get(..20)?;
    Some((source.to_vec(), u16::from_be_bytes([tcp[2], tcp[3]]), tcp[13]))
}

/// RFC 791: the source, and what follows the header within the packet's own length.
fn plain_v4(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = packet.get(..20)?;
    let header_bytes = usize::from(header[0] % 16) * 4;
    let total = usize::from(header[2]) << 8 | usize::from(header[3]);
    let is_first = header[6] & 0x1f == 0 && header[7] == 0;
    let is_tcp = header[0] / 16 == 4 && header_bytes >= 20 && header[9] == 6 && is_first;
    // A frame may be cut: what is there is all that counts.
    let within = &packet[..total.min(packet.len())];
    within.get(header_bytes..).filter(|_| is_tcp).map(|tcp| (&header[12..16], tcp))
}

/// RFC 8200: the source, and what follows at most eight extension headers within the packet's own length.
fn plain_v6(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = packet.get(..40).filter(|header| header[0] / 16 == 6)?;
    let length = usize::from(header[4]) << 8 | usize::from(header[5]);
    let payload = &packet[40..];
    let within = &payload[..length.min(payload.len())];
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
    if next == 6 { Some((&header[8..24], within.get(at..)?)) } else { None }
}
