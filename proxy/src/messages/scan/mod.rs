//! A scan of a JSON body while it passes, in whatever pieces. It keeps no text of it.
//!
//! - A body is JSON if serde_json reads it, except that numbers may be of any size: a byte order
//!   mark, invalid UTF-8 and half a surrogate pair are refused. A body that is no object is JSON
//!   without any update.
//! - The last of several members with the same name counts. Below `errors` all of them do.
//! - An id may be a string or a whole number. An empty one is none.

mod finder;
mod found;
mod key;
mod numbers;
mod place;
mod report;
mod search;
mod strings;
#[cfg(test)]
mod tests;
mod text;
mod tokens;

use self::finder::Finder;
use self::key::Hasher;
use self::report::Report;
use self::text::Slot;
use self::tokens::Tokenizer;
use super::{Observation, Product, Unscanned};

pub use self::key::IdKey;

pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// A scan of one body after the other, in the same memory: a body that is no larger than those
/// before allocates nothing.
pub struct Scan {
    tokenizer: Tokenizer,
    finder: Finder,
    report: Report,
    /// Bytes that may still come.
    left: usize,
    over: Option<Unscanned>,
}

impl Default for Scan {
    fn default() -> Self {
        Self::new()
    }
}

impl Scan {
    pub fn new() -> Self {
        Self {
            tokenizer: Tokenizer::default(),
            finder: Finder::default(),
            report: Report::default(),
            left: 0,
            over: Some(Unscanned::Unread),
        }
    }

    /// Begins a body of a request to this upstream. The path has no query.
    pub fn begin(&mut self, key: &IdKey, upstream: &str, path: &[u8]) {
        self.tokenizer = Tokenizer::default();
        self.finder.clear();
        self.finder.hasher = Some(Hasher::new(key, upstream, path));
        self.report.clear();
        self.left = MAX_BODY_BYTES;
        self.over = None;
    }

    /// Reads the next bytes of the body. Does nothing once the scan is over.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.over.is_some() {
            return;
        }
        let (fits, rest) = bytes.split_at(bytes.len().min(self.left));
        self.left -= fits.len();
        let fed = self.tokenizer.feed(fits, &mut self.finder);
        let too_long = || if rest.is_empty() { Ok(()) } else { Err(Unscanned::TooLong) };
        if let Err(reason) = fed.and_then(|()| too_long()) {
            self.give_up(reason);
        }
    }

    /// Whether a limit was passed, or this is no JSON: no further byte matters.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// The body has ended. `signature` is the value of its `X-Hub-Signature-256`. Then the scan is
    /// over, until another body begins.
    ///
    /// # Errors
    /// The body makes no events.
    pub fn end(&mut self, signature: Option<&[u8]>) -> Result<&Observation, Unscanned> {
        let filled = match self.over {
            Some(reason) => Err(reason),
            None => self.tokenizer.end(&mut self.finder).and_then(|()| self.fill(signature)),
        };
        self.give_up(filled.err().unwrap_or(Unscanned::Unread));
        if filled.is_err() {
            self.report.clear();
        }
        filled.map(|()| &self.report.observation)
    }

    fn fill(&mut self, signature: Option<&[u8]>) -> Result<(), Unscanned> {
        let product = match self.finder.texts[Slot::Object].short().unwrap_or_default() {
            b"whatsapp_business_account" => Product::WhatsApp,
            b"page" => Product::Messenger,
            b"instagram" => Product::Instagram,
            _ => Product::Other,
        };
        self.finder.found.sort();
        let hasher = self.finder.hasher.as_ref().ok_or(Unscanned::Unread)?;
        self.report.fill(product, &self.finder.found, hasher, signature)
    }

    /// Keeps nothing of the body but the reason.
    fn give_up(&mut self, reason: Unscanned) {
        self.finder.clear();
        self.over = Some(reason);
    }
}
