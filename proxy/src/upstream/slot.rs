use std::net::IpAddr;
use std::sync::Arc;

use super::directory::Upstream;
use super::in_flight::StrangerSlot;

/// A request's place among those under way to its upstream; given back when dropped.
pub struct InFlightSlot {
    upstream: Arc<Upstream>,
    _stranger: Option<StrangerSlot>,
}

impl InFlightSlot {
    /// `stranger`: the source address of a request that may not use what is reserved. `reserved`:
    /// that share of all slots, from 0 to 1.
    ///
    /// `None` when as many are under way as may be.
    pub fn take(upstream: &Arc<Upstream>, stranger: Option<IpAddr>, reserved: f64) -> Option<Self> {
        let (is_free, stranger) =
            upstream.counts().take(upstream.settings().in_flight, stranger, reserved)?;
        let slot = Self { upstream: Arc::clone(upstream), _stranger: stranger };
        is_free.then_some(slot)
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for InFlightSlot {
    fn drop(&mut self) {
        self.upstream.counts().give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Disk;
    use crate::config::Config;
    use crate::upstream::Directory;

    fn upstream(in_flight: usize) -> Arc<Upstream> {
        let text = format!(
            "[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n\"a.example\" = {{ tls = false, in_flight = {in_flight} }}\n"
        );
        let config = Config::parse("hookgate.toml".as_ref(), &text).unwrap();
        let directory = Directory::new(&config.upstreams, &Disk).unwrap();
        Arc::clone(directory.find(b"a.example").unwrap())
    }

    /// As many slots as that source gets.
    fn all(upstream: &Arc<Upstream>, stranger: Option<&str>, reserved: f64) -> Vec<InFlightSlot> {
        let source = stranger.map(|source| source.parse().unwrap());
        std::iter::from_fn(|| InFlightSlot::take(upstream, source, reserved)).collect()
    }

    #[test]
    fn strangers_leave_the_reserved_share() {
        let upstream = upstream(17);
        let strangers = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"];
        let held: Vec<_> = strangers.iter().map(|source| all(&upstream, Some(source), 0.5)).collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [2, 2, 2, 2, 1, 0], "9 are not reserved, and a quarter of them is for one source");
        let others = all(&upstream, None, 0.5);
        assert_eq!((others.len(), upstream.in_flight()), (8, 17));
        drop(held);
        assert_eq!(all(&upstream, None, 0.5).len(), 9, "what strangers leave is for all");
        drop(others);
        assert_eq!(upstream.in_flight(), 0);
        assert!(upstream.counts().sources.is_empty());
        assert_eq!(all(&upstream, Some(strangers[0]), 0.5).len(), 2);
    }

    #[test]
    fn one_slot_is_for_anybody_unless_all_is_reserved() {
        assert_eq!(all(&upstream(1), Some("192.0.2.1"), 0.5).len(), 1);
        assert_eq!(all(&upstream(1), Some("192.0.2.1"), 1.0).len(), 0);
        assert_eq!(all(&upstream(3), Some("192.0.2.1"), 0.0).len(), 1);
        assert_eq!(all(&upstream(1), None, 1.0).len(), 1);
    }
}
