use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that are signed as Meta's are, from private addresses of strangers: a NAT before the
/// proxy has put its own address in the place of Meta's.
#[derive(Debug, Default)]
pub struct HiddenSources {
    requests: AtomicU64,
    /// The first of them.
    source: OnceLock<IpAddr>,
}

/// From here on it is no test of the operator's.
pub const MANY_HIDDEN: u64 = 10;

impl HiddenSources {
    /// Counts one. Whether it is time to say so, which it is once.
    pub fn count(&self, source: IpAddr) -> bool {
        let _first = self.source.set(source);
        // Counts order nothing else.
        self.requests.fetch_add(1, Ordering::Relaxed) + 1 == MANY_HIDDEN
    }

    /// How many there were, and where the first one came from.
    pub fn seen(&self) -> Option<(u64, IpAddr)> {
        Some((self.requests.load(Ordering::Relaxed), *self.source.get()?))
    }
}
