//! Asks all configured servers at once, and remembers whether any of them answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RecordType};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::routes::{self, SendError};
use super::server::{QueryError, Records, Server};
use crate::config::DnsServer;
use crate::observe::clock;

/// How long the other servers are waited for once one has answered with an error.
const OTHER_SERVERS_LIMIT: Duration = Duration::from_secs(2);
/// So long an answer is taken to hold for the servers as such.
const ANSWER_LIFETIME: Duration = Duration::from_secs(10);
/// They are asked no more often than that.
const QUERY_INTERVAL: Duration = Duration::from_secs(1);
/// How often they are asked in vain before it counts: one question may be lost on the way.
const TRIES: usize = 2;

/// What is known of the servers as such, whatever they answer.
pub(super) struct Servers {
    servers: Vec<Arc<Server>>,
    heard: Mutex<LatestAnswer>,
}

#[derive(Debug, Default)]
struct LatestAnswer {
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
    /// Each with its port.
    pub servers: Vec<String>,
    /// `None`: none has answered yet.
    pub last_answer: Option<Timestamp>,
    /// `None`: one answers, as far as is known.
    pub silent_since: Option<Timestamp>,
}

impl Servers {
    /// `limit`: how long a question may take.
    pub(super) fn new(written: Vec<DnsServer>, limit: Duration) -> Self {
        let servers = written.into_iter().map(|server| Arc::new(Server::new(server, limit)));
        Self { servers: servers.collect(), heard: Mutex::default() }
    }

    pub(super) fn written(&self) -> impl Iterator<Item = &DnsServer> {
        self.servers.iter().map(|server| &*server.written)
    }

    pub(super) fn state(&self) -> DnsState {
        let heard = self.heard();
        DnsState {
            servers: self.written().map(DnsServer::with_port).collect(),
            last_answer: heard.answer.map(|(_, time)| time),
            silent_since: heard.silent_since,
        }
    }

    /// Whether it is time for [`Servers::ask`]; a caller that gets `true` must call it.
    pub(super) fn begin_query(&self) -> bool {
        self.heard().begin(Instant::now())
    }

    /// Finds out whether any server answers, if only that it does not know. Takes twice the `limit`
    /// when none does.
    pub(super) async fn ask(&self, limit: Duration) {
        let (begun, time) = (Instant::now(), clock::now());
        for _ in 0..TRIES {
            if timeout(limit, self.any_answers()).await == Ok(true) {
                return self.heard().is_being_asked = false;
            }
        }
        let mut heard = self.heard();
        heard.is_being_asked = false;
        if heard.answer.is_none_or(|(last, _)| last < begun) {
            heard.silent_since.get_or_insert(time);
        }
    }

    /// The addresses of `name`, by the first server that knows whether there are any.
    pub(super) async fn addresses(
        &self,
        name: &Name,
        family: RecordType,
        mut deadline: Instant,
    ) -> Result<Records, QueryError<String>> {
        let mut asking = JoinSet::new();
        for (index, server) in self.servers.iter().enumerate() {
            let (server, name) = (Arc::clone(server), name.clone());
            asking.spawn(async move { (index, server.addresses(&name, family).await) });
        }
        let (mut failures, mut unreachable) = (Vec::new(), Vec::new());
        // A task that panicked was reported; its server counts as silent.
        while let Ok(Some(ended)) = timeout_at(deadline, asking.join_next()).await {
            let Ok((index, outcome)) = ended else { continue };
            let is_answer = outcome.as_ref().map_or_else(QueryError::is_answer, |_| true);
            if is_answer {
                self.heard().note_answer();
            }
            match outcome {
                Ok(records) => return Ok(records),
                Err(QueryError::No(why, ttl)) => return Err(QueryError::No(why, ttl)),
                Err(QueryError::Failure(why)) => {
                    failures.push(why);
                    deadline = deadline.min(Instant::now() + OTHER_SERVERS_LIMIT);
                }
                Err(QueryError::Unreachable(why)) => unreachable.push((index, why)),
                Err(QueryError::Silence(_)) => {}
            }
        }
        Err(self.unanswered(&failures, unreachable))
    }

    /// The result when no server knows.
    fn unanswered(
        &self,
        failures: &[String],
        mut unreachable: Vec<(usize, SendError)>,
    ) -> QueryError<String> {
        if !failures.is_empty() {
            return QueryError::Failure(failures.join("; "));
        }
        unreachable.sort_by_key(|(index, _)| *index);
        let servers = unreachable.into_iter().map(|(index, why)| (&*self.servers[index].written, why));
        let servers: Vec<_> = servers.collect();
        if servers.len() == self.servers.len() {
            return QueryError::Unreachable(routes::explain_with_remedy(&servers));
        }
        QueryError::Silence((!servers.is_empty()).then(|| routes::explain(&servers)))
    }

    /// Whether any server answers; returns with the first answer.
    async fn any_answers(&self) -> bool {
        let mut asking = JoinSet::new();
        for server in &self.servers {
            let server = Arc::clone(server);
            asking.spawn(async move { server.answers().await });
        }
        while let Some(ended) = asking.join_next().await {
            if matches!(ended, Ok(true)) {
                self.heard().note_answer();
                return true;
            }
        }
        false
    }

    fn heard(&self) -> MutexGuard<'_, LatestAnswer> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LatestAnswer {
    fn note_answer(&mut self) {
        self.answer = Some((Instant::now(), clock::now()));
        self.silent_since = None;
    }

    fn begin(&mut self, now: Instant) -> bool {
        let is_fresh = self.answer.is_some_and(|(at, _)| now.duration_since(at) < ANSWER_LIFETIME);
        let was_just_asked = self.asked.is_some_and(|at| now.duration_since(at) < QUERY_INTERVAL);
        if is_fresh || was_just_asked || self.is_being_asked {
            return false;
        }
        (self.asked, self.is_being_asked) = (Some(now), true);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn servers_are_asked_now_and_then_while_nothing_is_heard_of_them() {
        let servers = Servers::new(Vec::new(), Duration::from_secs(1));
        let begin = || servers.heard().begin(Instant::now());
        assert!(begin());
        tokio::time::advance(ANSWER_LIFETIME).await;
        assert!(!begin(), "they are being asked");
        servers.heard().is_being_asked = false;
        assert!(begin());
        servers.heard().is_being_asked = false;
        tokio::time::advance(QUERY_INTERVAL / 2).await;
        assert!(!begin(), "they were asked a moment ago");
        tokio::time::advance(QUERY_INTERVAL).await;
        servers.heard().note_answer();
        assert!(!begin(), "one has answered, if only that it cannot tell");
        tokio::time::advance(ANSWER_LIFETIME).await;
        assert!(begin());
    }

    #[test]
    fn what_the_servers_say_together() {
        let written = ["192.0.2.1", "192.0.2.2"].map(|server| server.parse().unwrap());
        let servers = Servers::new(written.into(), Duration::from_secs(1));
        let unreachable = |indices: &[usize]| {
            indices.iter().map(|index| (*index, SendError::Other("refused".into()))).collect::<Vec<_>>()
        };
        let together = servers.unanswered(&["one says SERVFAIL".into()], unreachable(&[1]));
        assert!(matches!(together, QueryError::Failure(why) if why == "one says SERVFAIL"));
        let silence = servers.unanswered(&[], unreachable(&[1]));
        assert!(
            matches!(silence, QueryError::Silence(Some(why)) if why == "192.0.2.2 can't be asked: refused")
        );
        let QueryError::Unreachable(why) = servers.unanswered(&[], unreachable(&[1, 0])) else {
            panic!("no server could be asked")
        };
        let expected = "192.0.2.1 can't be asked: refused; 192.0.2.2 can't be asked: refused; ";
        assert!(why.starts_with(expected), "{why}");
    }
}
