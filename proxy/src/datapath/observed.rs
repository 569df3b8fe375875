//! A look at the body of a POST of Meta's while it passes.

use std::fmt;

use crate::http::fields::Fields;
use crate::messages::{Intake, Observation, Scan, Unscanned};

/// The longest signature that is kept; Meta's are 71 bytes long.
const MAX_SIGNATURE_BYTES: usize = 128;

/// A scan of a body, and what its head says for it.
#[derive(Default)]
pub(super) struct Observed {
    scan: Scan,
    signature: Vec<u8>,
    is_compressed: bool,
}

/// What a person wrote may be in it.
impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
}

impl Observed {
    /// Another body. `path`: the path and query that travel on.
    pub(super) fn begin(&mut self, messages: &Intake, upstream: &str, path: &[u8], fields: &Fields<'_, '_>) {
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        self.scan.begin(messages.key(), upstream, path);
        self.signature.clear();
        let signature = fields.values("x-hub-signature-256").next().unwrap_or_default();
        if signature.len() <= MAX_SIGNATURE_BYTES {
            self.signature.extend_from_slice(signature);
        }
        let mut codings = fields.values("content-encoding");
        self.is_compressed = codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    }

    /// Whether more of the body matters.
    pub(super) fn is_looking(&self) -> bool {
        !self.is_compressed && !self.scan.is_over()
    }

    pub(super) fn look_at(&mut self, content: &[u8]) {
        if self.is_looking() {
            self.scan.feed(content);
        }
    }

    /// What the body tells. `is_complete`: all of it has passed.
    pub(super) fn end(&mut self, is_complete: bool) -> Result<&Observation, Unscanned> {
        if self.is_compressed {
            return Err(Unscanned::Compressed);
        }
        if !is_complete && !self.scan.is_over() {
            return Err(Unscanned::Unread);
        }
        self.scan.end(Some(&*self.signature).filter(|signature| !signature.is_empty()))
    }
}
