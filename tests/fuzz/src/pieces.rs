/// Bytes longer than this are not tried one by one.
const MOST_SINGLE: usize = 2048;

/// Ways in which `bytes` may arrive: at once, byte by byte, and in pieces whose lengths the bytes themselves say, so
/// that a finding can be repeated.
pub fn ways(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let single = bytes.chunks(if bytes.len() > MOST_SINGLE { 7 } else { 1 });
    let (mut drawn, mut rest, mut state) = (Vec::new(), bytes, bytes.len());
    while !rest.is_empty() {
        state = state.wrapping_mul(31).wrapping_add(usize::from(rest[0]));
        let (piece, after) = rest.split_at((state % 13 + 1).min(rest.len()));
        drawn.push(piece);
        rest = after;
    }
    vec![vec![bytes], single.collect(), drawn]
}
