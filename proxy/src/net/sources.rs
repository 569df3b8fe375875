use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much each source holds of something that is limited.
#[derive(Debug, Default)]
pub struct SourceCounts(Mutex<HashMap<IpAddr, usize>>);

/// A place in one source's count; given back when dropped.
#[derive(Debug)]
pub struct SourcePlace {
    counts: Arc<SourceCounts>,
    source: IpAddr,
}

impl SourceCounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no source holds anything.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl SourcePlace {
    /// `None` when `source` has as many as it may.
    pub fn take(counts: &Arc<SourceCounts>, source: IpAddr, most: usize) -> Option<Self> {
        let mut sources = counts.lock();
        let count = sources.get(&source).copied().unwrap_or_default();
        (count < most).then(|| {
            sources.insert(source, count.saturating_add(1));
            Self { counts: Arc::clone(counts), source }
        })
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.counts.lock().entry(self.source) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whether it is used within networks alone: RFC 1918, RFC 6598 (carrier NAT), RFC 4193.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || matches!(v4.octets(), [100, 64..=127, ..]),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// One source: an IPv4 address, or an IPv6 /64, which one machine has whole.
pub fn source_of(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}
