//! A look at the body of a POST of Meta's while it passes: a short one is kept for a moment, a long
//! one is scanned as it comes.

use std::fmt;

use crate::http::fields::Fields;
use crate::messages::{Body, IdKey, Intake, Scan, Unscanned};
use crate::observe::Request;

/// The longest signature that is kept; Meta's are 71 bytes long.
const MAX_SIGNATURE_BYTES: usize = 128;

/// What has passed of a body, and what its head says for it.
#[derive(Default)]
pub(super) struct Observed {
    body: Body,
    upstream: String,
    /// Of a body that is too long to be kept.
    scan: Option<Box<Scan>>,
    is_long: bool,
    key: Option<IdKey>,
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
        self.body.clear();
        self.is_long = false;
        self.key.get_or_insert_with(|| messages.key().clone());
        self.upstream.clear();
        self.upstream.push_str(upstream);
        self.body.path.extend_from_slice(path.split(|byte| *byte == b'?').next().unwrap_or_default());
        let signature = fields.values("x-hub-signature-256").next().unwrap_or_default();
        if signature.len() <= MAX_SIGNATURE_BYTES {
            self.body.signature.extend_from_slice(signature);
        }
        let mut codings = fields.values("content-encoding");
        self.is_compressed = codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    }

    /// Whether it holds more memory than is worth keeping.
    pub(super) fn is_large(&self, most_bytes: usize) -> bool {
        self.scan.is_some() || self.body.bytes.capacity() > most_bytes
    }

    /// Whether more of the body matters.
    pub(super) fn is_looking(&self) -> bool {
        let is_over = self.is_long && self.scan.as_ref().is_none_or(|scan| scan.is_over());
        !self.is_compressed && !is_over
    }

    pub(super) fn look_at(&mut self, content: &[u8]) {
        if !self.is_looking() {
            return;
        }
        let kept = &mut self.body.bytes;
        if !self.is_long && kept.len().saturating_add(content.len()) <= Body::MAX_BYTES {
            kept.extend_from_slice(content);
            return;
        }
        let scan = self.scan.get_or_insert_default();
        if let (false, Some(key)) = (self.is_long, &self.key) {
            scan.begin(key, &self.upstream, &self.body.path);
            scan.feed(kept);
            kept.fill(0);
            // Most long bodies are slow ones, and hold what they have for long.
            *kept = Vec::new();
            self.is_long = true;
        }
        scan.feed(content);
    }

    /// Tells the request what the body tells. `is_complete`: all of it has passed.
    pub(super) fn end(&mut self, is_complete: bool, request: &mut Request<'_>) {
        if self.is_compressed {
            return request.scanned(Err(Unscanned::Compressed));
        }
        let scan = self.scan.as_mut().filter(|_| self.is_long);
        match scan {
            Some(scan) if is_complete || scan.is_over() => {
                request.scanned(scan.end(self.body.signature()));
            }
            None if is_complete => request.keep_body(&mut self.body),
            Some(_) | None => request.scanned(Err(Unscanned::Unread)),
        }
        self.body.clear();
    }
}
