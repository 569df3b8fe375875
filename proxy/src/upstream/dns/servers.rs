use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RecordType;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::Dns;
use crate::observe::clock;

/// So long an answer is taken to hold for the servers as such.
const FRESH: Duration = Duration::from_secs(10);
/// They are asked no more often than that.
const BETWEEN: Duration = Duration::from_secs(1);
/// How often they are asked in vain before it counts: one question may be lost on the way.
const TRIES: usize = 2;

/// What is known of the servers as such, whatever they answer.
#[derive(Debug)]
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The last answer of any of them.
    answer: Option<(Instant, Timestamp)>,
    /// Since when none of them answers.
    silent_since: Option<Timestamp>,
    /// When they were asked last for their own sake.
    asked: Option<Instant>,
    is_being_asked: bool,
}

/// How it stands with the configured servers.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsState {
    pub servers: Vec<SocketAddr>,
    /// `None`: none has answered yet.
    pub last_answer: Option<Timestamp>,
    /// `None`: one answers, as far as is known.
    pub silent_since: Option<Timestamp>,
}

impl Dns {
    pub fn state(&self) -> DnsState {
        let heard = self.servers.heard();
        DnsState {
            servers: self.servers.addresses.clone(),
            last_answer: heard.answer.map(|(_, time)| time),
            silent_since: heard.silent_since,
        }
    }

    /// Whether it is time for [`Dns::ask_servers`]; whoever is told so has to call it.
    pub fn is_to_be_asked(&self) -> bool {
        self.servers.heard().begin(Instant::now())
    }

    /// Finds out whether any server answers, if only that it does not know. Takes twice the configured time when none does.
    pub async fn ask_servers(self: Arc<Self>) {
        let (begun, time) = (Instant::now(), clock::now());
        for _ in 0..TRIES {
            let asked = timeout(self.settings.timeout, self.resolver.lookup(".", RecordType::NS)).await;
            if asked.is_ok_and(|asked| self.servers.note(&asked)) {
                return self.servers.heard().is_being_asked = false;
            }
        }
        let mut heard = self.servers.heard();
        heard.is_being_asked = false;
        if heard.answer.is_none_or(|(last, _)| last < begun) {
            heard.silent_since.get_or_insert(time);
        }
    }
}

impl Servers {
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses, heard: Mutex::default() }
    }

    /// What came of a question; whether it was an answer.
    pub(super) fn note<T>(&self, asked: &Result<T, NetError>) -> bool {
        let is_answer = matches!(asked, Ok(_) | Err(NetError::Dns(_)));
        if is_answer {
            let mut heard = self.heard();
            heard.answer = Some((Instant::now(), clock::now()));
            heard.silent_since = None;
        }
        is_answer
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn begin(&mut self, now: Instant) -> bool {
        let is_fresh = self.answer.is_some_and(|(at, _)| now.duration_since(at) < FRESH);
        let was_just_asked = self.asked.is_some_and(|at| now.duration_since(at) < BETWEEN);
        if is_fresh || was_just_asked || self.is_being_asked {
            return false;
        }
        (self.asked, self.is_being_asked) = (Some(now), true);
        true
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::net::DnsError;
    use hickory_resolver::proto::op::ResponseCode;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn servers_are_asked_now_and_then_while_nothing_is_heard_of_them() {
        let servers = Servers::new(Vec::new());
        let begin = || servers.heard().begin(Instant::now());
        assert!(begin());
        tokio::time::advance(FRESH).await;
        assert!(!begin(), "they are being asked");
        servers.heard().is_being_asked = false;
        assert!(begin());
        servers.heard().is_being_asked = false;
        tokio::time::advance(BETWEEN / 2).await;
        assert!(!begin(), "they were asked a moment ago");
        assert!(!servers.note(&Err::<(), _>(NetError::Timeout)));
        tokio::time::advance(BETWEEN).await;
        assert!(servers.note(&Err::<(), _>(NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)))));
        assert!(!begin(), "one has answered, if only that it cannot tell");
        tokio::time::advance(FRESH).await;
        assert!(begin());
    }
}
