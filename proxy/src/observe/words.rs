//! How much of what a request says of itself is written down: a head may be much longer, and a
//! stranger may send any number.

pub(super) const MAX_ID_BYTES: usize = 128;
pub(super) const MAX_METHOD_BYTES: usize = 32;
pub(super) const MAX_PATH_BYTES: usize = 512;
pub(super) const MAX_SOURCE_BYTES: usize = 64;

/// What stands for the rest of a word that was cut.
pub(super) const CUT: &str = "…";

/// At most `max_bytes` of `word`, and [`CUT`] where that is not all of it.
pub(super) fn start_of(word: &str, max_bytes: usize) -> (&str, &'static str) {
    match word.len() <= max_bytes {
        true => (word, ""),
        false => (&word[..word.floor_char_boundary(max_bytes)], CUT),
    }
}
