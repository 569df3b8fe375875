//! What a process that drains reports to the one that has replaced it: a ring of bytes with one
//! writer and one reader.

use super::layout::{HEAD_INBOX_READ, HEAD_INBOX_WRITTEN, INBOX_WORDS, Layout, Mapped, word};
use crate::messages::Report;

const BYTES: u64 = INBOX_WORDS as u64 * 8;
/// Before each report: its length.
const HEAD_BYTES: u64 = 8;

/// Errors: there is no room.
pub(super) fn write(words: &Mapped, layout: Layout, report: &[u8]) -> Result<(), ()> {
    let (written, read) = (words.get(HEAD_INBOX_WRITTEN), words.get(HEAD_INBOX_READ));
    let length = HEAD_BYTES + (report.len() as u64).next_multiple_of(8);
    if written.wrapping_sub(read).saturating_add(length) > BYTES {
        return Err(());
    }
    let at = |offset: u64| layout.inbox() + ((written.wrapping_add(offset)) % BYTES / 8) as usize;
    words.set(at(0), report.len() as u64);
    for (number, bytes) in report.chunks(8).enumerate() {
        words.set(at(HEAD_BYTES + number as u64 * 8), word(bytes));
    }
    words.set(HEAD_INBOX_WRITTEN, written.wrapping_add(length));
    Ok(())
}

/// All reports that there are.
pub(super) fn read_all(words: &Mapped, layout: Layout) -> Vec<Report> {
    let texts = std::iter::from_fn(|| read(words, layout));
    texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
}

/// The next report, if there is one. What no writer can have written empties the ring.
fn read(words: &Mapped, layout: Layout) -> Option<Vec<u8>> {
    let (written, read) = (words.get(HEAD_INBOX_WRITTEN), words.get(HEAD_INBOX_READ));
    let there = written.wrapping_sub(read);
    if there == 0 {
        return None;
    }
    let at = |offset: u64| layout.inbox() + ((read.wrapping_add(offset)) % BYTES / 8) as usize;
    let bytes = words.get(at(0));
    let length = HEAD_BYTES.saturating_add(bytes.checked_next_multiple_of(8).unwrap_or(u64::MAX));
    if there > BYTES || length > there || read % 8 != 0 {
        words.set(HEAD_INBOX_READ, written);
        return None;
    }
    let count = bytes as usize;
    let text = (0..bytes.div_ceil(8)).flat_map(|word| words.get(at(HEAD_BYTES + word * 8)).to_le_bytes());
    let report = text.take(count).collect();
    words.set(HEAD_INBOX_READ, read.wrapping_add(length));
    Some(report)
}
