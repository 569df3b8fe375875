/// Meta's proxy that fetches from others.
const FWDPROXY: &[u8] = b"fwdproxy";

/// Looks for [`FWDPROXY`] in a text that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// Number of its bytes that the text so far ends with.
    matched: usize,
}

impl Search {
    /// Whether it ends in these bytes, or has ended before.
    pub fn finds(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.matched = match FWDPROXY.get(self.matched) {
                None => return true,
                Some(expected) if expected == byte => self.matched + 1,
                // Its first byte comes in it only once.
                Some(_) => usize::from(*byte == FWDPROXY[0]),
            };
        }
        self.matched == FWDPROXY.len()
    }
}
