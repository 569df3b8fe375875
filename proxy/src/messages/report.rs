use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{IdKey, Observation, Scan, Unscanned};

/// One POST that has ended. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The upstream's configured name; empty: it names none.
    pub upstream: Arc<str>,
    pub observation: Observation,
    /// Why there is no observation, if so.
    pub unscanned: Option<Unscanned>,
    /// What there is in place of an observation until [`Report::scan`].
    #[serde(skip)]
    pub body: Body,
    /// It was answered with 200, and all of the answer was written.
    pub is_delivered: bool,
    /// What it is remembered by until its events are known, if it has failed; 0: it is not.
    #[serde(skip)]
    pub failed_post: u64,
    pub arrived: i64,
    pub ended: i64,
}

/// A short body as it came, to be scanned when there are several: one by one between other work, a
/// scan costs many times as much. It is gone in a second at most.
#[derive(Clone, Default)]
pub struct Body {
    /// Whether there is one.
    pub is_whole: bool,
    pub bytes: Vec<u8>,
    /// Without query.
    pub path: Vec<u8>,
    /// The value of `X-Hub-Signature-256`; empty: there is none.
    pub signature: Vec<u8>,
}

impl Body {
    /// The most bytes of a short one.
    pub const MAX_BYTES: usize = 16 * 1024;

    pub fn signature(&self) -> Option<&[u8]> {
        Some(&*self.signature).filter(|signature| !signature.is_empty())
    }

    pub fn clear(&mut self) {
        // A person wrote them.
        self.bytes.fill(0);
        self.bytes.clear();
        self.path.clear();
        self.signature.clear();
        self.is_whole = false;
    }
}

/// What a person wrote is in it.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

impl Report {
    /// Puts what the body tells in place of it.
    pub fn scan(&mut self, scan: &mut Scan, key: &IdKey) {
        let body = &mut self.body;
        if body.is_whole {
            scan.begin(key, &self.upstream, &body.path);
            scan.feed(&body.bytes);
            match scan.end(body.signature()) {
                Ok(observation) => self.observation.copy_from(observation),
                Err(reason) => self.unscanned = Some(reason),
            }
        }
        body.clear();
    }
}
