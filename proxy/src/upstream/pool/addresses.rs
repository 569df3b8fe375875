//! Where an upstream's name leads by now: a connection that goes on being used would stay at the
//! old place for ever.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::upstream::usage::Usage;
use crate::upstream::{ConnectError, Dns, Upstream};

/// An answer is taken to hold for so long at least, whatever its TTL says.
const MIN_VALID: Duration = Duration::from_millis(500);
/// A request waits for an answer itself when the last one ended that long ago.
const MAX_LATE: Duration = Duration::from_millis(250);

/// What one worker knows of the addresses of one upstream's name.
#[derive(Clone, Default)]
pub(super) struct Addresses(Rc<RefCell<Known>>);

#[derive(Default)]
struct Known {
    /// When they were asked for, and what they are; `None`: there was no answer yet that says
    /// anything.
    addresses: Option<(Instant, Arc<[IpAddr]>)>,
    /// When the DNS is asked again; `None`: at the next opportunity.
    ask_at: Option<Instant>,
    is_being_asked: bool,
}

impl Addresses {
    /// Whether a connection leads to where the name does, as far as is known. One that was made
    /// since they were asked for was made by an answer as new.
    pub(super) fn have(&self, usage: &Usage) -> bool {
        match (&self.0.borrow().addresses, usage.peer) {
            (Some((asked, addresses)), Some(peer)) => {
                usage.made >= *asked || addresses.iter().any(|address| address.to_canonical() == peer)
            }
            (None, _) | (_, None) => true,
        }
    }

    /// Asks for them in the background when it is time. There must be a `LocalSet`.
    pub(super) fn refresh(&self, upstream: &Arc<Upstream>, dns: &Arc<Dns>, now: Instant) {
        if self.begin(upstream, now) {
            let (addresses, upstream, dns) = (self.clone(), Arc::clone(upstream), Arc::clone(dns));
            drop(spawn_local(async move { addresses.ask(&upstream, &dns).await }));
        }
    }

    /// Waits for them where no query was begun in time.
    pub(super) async fn ensure_fresh(&self, upstream: &Upstream, dns: &Dns, now: Instant) {
        let last_time = now.checked_sub(MAX_LATE).unwrap_or(now);
        if self.begin(upstream, last_time) {
            self.ask(upstream, dns).await;
        }
    }

    /// Whether a query is due; a caller that gets `true` must make it.
    fn begin(&self, upstream: &Upstream, now: Instant) -> bool {
        let mut known = self.0.borrow_mut();
        let is_due = upstream.settings().address.is_none()
            && !known.is_being_asked
            && known.ask_at.is_none_or(|ask_at| ask_at <= now);
        known.is_being_asked |= is_due;
        is_due
    }

    async fn ask(&self, upstream: &Upstream, dns: &Dns) {
        // A request may go away while it asks.
        let (asking, asked) = (Asking(self), Instant::now());
        let (answer, valid_until) = dns.lookup_until(&upstream.name).await;
        drop(asking);
        let mut known = self.0.borrow_mut();
        known.ask_at = Some(valid_until.max(Instant::now() + MIN_VALID));
        match answer {
            Ok(addresses) => known.addresses = Some((asked, addresses)),
            Err(ConnectError::NoName(_)) => known.addresses = Some((asked, [].into())),
            // Silence and a server's failure say nothing of what was right before.
            Err(_) => {}
        }
    }
}

/// The DNS is being asked.
struct Asking<'a>(&'a Addresses);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().is_being_asked = false;
    }
}
