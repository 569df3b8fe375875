use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes longer than this are not tried one by one.
const MAX_SINGLE: usize = 2048;

/// Ways in which `bytes` may arrive: at once, byte by byte, and in pieces whose lengths the bytes
/// themselves say, so that a finding can be repeated.
pub fn ways(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let single = bytes.chunks(if bytes.len() > MAX_SINGLE { 7 } else { 1 });
    let (mut drawn, mut rest, mut state) = (Vec::new(), bytes, bytes.len());
    while !rest.is_empty() {
        state = state.wrapping_mul(31).wrapping_add(usize::from(rest[0]));
        let (piece, after) = rest.split_at((state % 13 + 1).min(rest.len()));
        drawn.push(piece);
        rest = after;
    }
    vec![vec![bytes], single.collect(), drawn]
}

/// Gives one piece a read.
pub struct Pieces<'b>(std::vec::IntoIter<&'b [u8]>, &'b [u8]);

impl<'b> Pieces<'b> {
    pub fn new(pieces: Vec<&'b [u8]>) -> Self {
        Self(pieces.into_iter(), b"")
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self(pieces, rest) = self.get_mut();
        if rest.is_empty() {
            *rest = pieces.next().unwrap_or_default();
        }
        let (now, later) = rest.split_at(rest.len().min(to.remaining()));
        to.put_slice(now);
        *rest = later;
        Poll::Ready(Ok(()))
    }
}
