//! Takes samples of all counts, and keeps what has happened in between.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::generation::Generation;
use super::ledger::LedgerKeeper;
use crate::guard::Detail;
use crate::insight::{
    Chart, Damage, Field, Group, History, KernelSample, LimitCode, MINUTE, Period, Query, Report, Row, Stage,
    Unit, Window, attribute,
};
use crate::observe::{Failed, Interrupted, Log, Loss, LostAt, MANY_HIDDEN, Metrics, OpenPosts, clock, grown};
use crate::prefixes::{CounterIndex, Network};
use crate::server::ipc::{SupervisorClient, SupervisorError};
use crate::upstream::Upstream;

/// When samples are taken, in seconds after a minute's begin: when it is over, and when the
/// attempts that began in it have ended. A coarse timer is late rather than early.
const SAMPLES: [i64; 2] = [0, 11];

/// The figures of this process, and of those before it.
pub(super) struct Insight {
    now: watch::Receiver<Arc<Generation>>,
    supervisor: SupervisorClient,
    /// `None`: nothing is kept.
    history: Option<History>,
    /// Why the figures are gone with the process, if so.
    without_disk: Option<String>,
    taken: Mutex<Taken>,
    log: Log,
    /// `None`: bodies are not looked at.
    ledger: Option<Arc<LedgerKeeper>>,
}

/// What this process had counted when the last sample was taken.
#[derive(Default)]
struct Taken {
    /// By counter.
    carried: HashMap<CounterIndex, (u64, u64)>,
    /// Without a guard.
    funnel: HashMap<Option<Network>, Row>,
    posts: HashMap<Box<str>, u64>,
    /// Why the last sample was not kept.
    fault: Option<String>,
}

impl Insight {
    pub(super) fn open(
        now: watch::Receiver<Arc<Generation>>,
        supervisor: SupervisorClient,
        ledger: Option<Arc<LedgerKeeper>>,
        interrupted: &[Interrupted],
        log: Log,
    ) -> Self {
        let (history, without_disk) = match open(&supervisor, &log) {
            Ok((history, without_disk)) => (Some(history), without_disk),
            Err(error) => (None, Some(error)),
        };
        if let Some(why) = &without_disk {
            log.note(&format!("insight: figures are gone when hookgate ends: {why}"));
        }
        if let Some(history) = &history {
            for left in interrupted {
                let posts = left.meta + left.other;
                let period = Period::of_interrupted(left, clock::now().as_second());
                let lost = history.add(period.start, &period).err();
                let lost =
                    lost.map(|error| format!("; the figures do not tell: {error}")).unwrap_or_default();
                log.note(&format!("insight: {posts} POSTs were under way when hookgate was killed{lost}"));
            }
        }
        Self { now, supervisor, history, without_disk, taken: Mutex::default(), log, ledger }
    }

    /// Takes samples for ever. One at once: the minute of a kill needs to say what can be seen.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let insight = Arc::clone(&self);
            // An error: the process ends.
            if spawn_blocking(move || insight.sample()).await.is_err() {
                return;
            }
            sleep(until_next(clock::now())).await;
        }
    }

    /// Keeps what has happened since the last sample. May block for a moment.
    pub(super) fn sample(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = self.keep(&mut taken).err();
        if fault.is_some() && fault != taken.fault {
            self.log.note(&format!("insight: figures are lost: {}", fault.as_deref().unwrap_or_default()));
        }
        taken.fault = fault;
    }

    /// Where messages were lost; `None`: there are no figures.
    pub(super) fn lost(&self, query: &Query) -> io::Result<Option<Report>> {
        self.sample();
        let Some(history) = &self.history else { return Ok(None) };
        let now = clock::now();
        let mut report = Report::new(&history.before(query, now.as_second())?, query, now);
        if let (Some(report), Some(why)) = (&mut report, &self.without_disk) {
            report.add_limit(LimitCode::NoHistory, format!("figures are gone when hookgate ends: {why}"));
        }
        Ok(report)
    }

    /// A window in equal steps.
    pub(super) fn chart(&self, query: &Query) -> io::Result<Chart> {
        let now = clock::now();
        let periods = self.history.as_ref().map(|history| history.within(query, now.as_second()));
        Ok(Chart::new(&periods.transpose()?.unwrap_or_default(), query, now))
    }

    /// All that happened in a window; `None`: there are no figures.
    pub(super) fn window(&self, query: &Query) -> io::Result<Option<Window>> {
        self.sample();
        let Some(history) = &self.history else { return Ok(None) };
        let now = clock::now();
        Ok(Window::new(&history.within(query, now.as_second())?, query, now))
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.now.borrow().context.metrics)
    }

    fn keep(&self, taken: &mut Taken) -> Result<(), String> {
        let Some(history) = &self.history else { return Ok(()) };
        let generation = Arc::clone(&self.now.borrow());
        let now = clock::now().as_second();
        generation.context.metrics.losses.open_posts.set_seen(now);
        let failed = |error: io::Error| error.to_string();
        let stats = match self.supervisor.stats(Detail::Prefixes) {
            Ok(stats) => stats,
            Err(SupervisorError::Refused(_)) => None,
            Err(error @ SupervisorError::Gone(_)) => return Err(error.to_string()),
        };
        let mut kernel =
            KernelSample::new(stats.as_ref(), self.supervisor.kernel_counters().unwrap_or_default(), now);
        let funnel = &generation.context.metrics.funnel;
        let limits = [
            (LimitCode::Snat, hides_sources(&generation)),
            (LimitCode::Proxy, !generation.context.proxy_protocol_from.is_empty()),
            (LimitCode::NoMessages, self.ledger.is_none()),
        ];
        kernel.limits.extend(limits.into_iter().filter(|(_, applies)| *applies).map(|(code, _)| code));
        let before = history.baseline().map_err(failed)?;
        let [mut at_once, timed_out] = attribute(&before, &kernel);
        self.add_own(&generation, taken, &mut at_once, !funnel.is_in_guard());
        if [&at_once, &timed_out].iter().any(|period| period.meta.row.failed_attempts() > 0) {
            generation.context.metrics.losses.note(now);
        }
        self.add_messages(&generation, &mut at_once);
        // First, since a loss that is counted twice would be a false accusation.
        history.set_baseline(&kernel.counts).map_err(failed)?;
        history.add(at_once.start, &at_once).map_err(failed)?;
        for (minute, period) in self.made_good(&generation, now) {
            history.add(minute, &period).map_err(failed)?;
        }
        match timed_out.is_quiet() {
            true => Ok(()),
            false => history.add(timed_out.start, &timed_out).map_err(failed),
        }
    }

    /// POSTs whose events have got their 200 since, by the minutes in which they failed.
    fn made_good(&self, generation: &Generation, now: i64) -> BTreeMap<i64, Period> {
        let mut minutes = BTreeMap::new();
        let made_good = generation.context.metrics.losses.failed_posts.take_made_good(now);
        if made_good.is_empty() {
            return minutes;
        }
        let prefixes = prefixes(generation);
        for (Failed { minute, loss }, count) in made_good {
            let period = minutes.entry(minute).or_insert_with(|| Period::starting(minute));
            let mut group = Group::default();
            group.make_good(Unit::Posts, loss.lost_at.into(), &loss.cause.to_string(), count);
            add(period, prefixes.get(&loss.counter).copied(), &group);
            if let Some(upstream) = loss.upstream {
                period.upstreams.entry(upstream.into()).or_default().add(&group);
            }
        }
        minutes
    }

    /// Adds what messages have told since.
    fn add_messages(&self, generation: &Generation, period: &mut Period) {
        let Some(changes) =
            self.ledger.as_ref().and_then(|ledger| ledger.take_changes(&generation.context.metrics))
        else {
            return;
        };
        for (name, mut of_upstream) in changes.upstreams {
            // No lag is evidence then.
            of_upstream.late = if changes.doubts_clock { 0 } else { of_upstream.late };
            let mut row = Row::default();
            row.set_messages(&of_upstream);
            period.meta.row += &row;
            period.upstreams.entry(name.into()).or_default().row += &row;
        }
        let row = &mut period.meta.row;
        row[Field::EventSamples] += 1;
        row[Field::EventsOutstanding] += changes.outstanding;
        row[Field::NumbersQuiet] += changes.quiet;
        // Told, though it may be right all the same.
        let is_unsynchronised = self.supervisor.clock_is_synchronised().is_ok_and(|is| !is);
        period.limits.extend((changes.doubts_clock || is_unsynchronised).then_some(LimitCode::Clock));
        period.limits.extend((changes.numbers == 1).then_some(LimitCode::OneNumber));
    }

    /// Adds what this process has counted since.
    fn add_own(&self, generation: &Generation, taken: &mut Taken, period: &mut Period, with_funnel: bool) {
        let context = &generation.context;
        let metrics = &context.metrics;
        let prefixes = prefixes(generation);
        let counters = prefixes.keys().copied().chain([CounterIndex::OTHER, CounterIndex::ALLOWED]);
        for counter in counters {
            let carried = metrics.losses.carried(counter);
            let before = taken.carried.insert(counter, carried).unwrap_or_default();
            let mut row = Row::default();
            row[Field::Posts] = carried.0.saturating_sub(before.0);
            row[Field::Connections] = carried.1.saturating_sub(before.1);
            add(period, prefixes.get(&counter).copied(), &Group { row, ..Group::default() });
        }
        if with_funnel {
            let (by_prefix, other) = metrics.funnel.counts(&context.classifier);
            let by_prefix = by_prefix.into_iter().map(|(network, counts)| (Some(network), counts));
            for (whose, counts) in by_prefix.chain([(None, other)]) {
                let mut row = Row::default();
                row.set_funnel(counts);
                let before = taken.funnel.insert(whose, row).unwrap_or_default();
                add(period, whose, &Group { row: row.since(&before), ..Group::default() });
            }
        }
        let mut upstreams: BTreeMap<String, Group> = BTreeMap::new();
        for used in context.directory.iter().filter_map(Upstream::used_metrics) {
            let posts = used.posts();
            let before = match taken.posts.get_mut(used.name()) {
                Some(before) => std::mem::replace(before, posts),
                None => taken.posts.insert(used.name().into(), posts).unwrap_or(0),
            };
            // An upstream that was removed and has come back begins anew.
            let more = grown(posts, before);
            if more > 0 {
                upstreams.entry(used.name().to_owned()).or_default().row[Field::Posts] = more;
            }
        }
        for (Loss { counter, upstream, lost_at, cause }, count) in metrics.losses.take() {
            if lost_at == LostAt::Machine {
                // Before the history has it: a kill in between must not let it count twice.
                metrics.losses.open_posts.end(counter, count);
            }
            let stage = Stage::from(lost_at);
            let unit = if stage == Stage::Tls { Unit::Attempts } else { Unit::Posts };
            let mut group = Group::default();
            group.lose(unit, stage, &cause.to_string(), count);
            add(period, prefixes.get(&counter).copied(), &group);
            if let Some(upstream) = upstream {
                upstreams.entry(upstream.into()).or_default().add(&group);
            }
        }
        period.upstreams = upstreams;
    }
}

/// From now on POSTs under way are counted where they outlive this process. Returns what processes
/// left that were killed.
pub(super) fn count_open_posts(
    metrics: &mut Metrics,
    supervisor: &SupervisorClient,
    log: &Log,
) -> Vec<Interrupted> {
    let opened = supervisor.open_posts().map_err(io::Error::from).and_then(|(slots, file)| {
        let now = clock::now().as_second();
        Ok((OpenPosts::open(&file, slots.own, &slots.ended, now)?, slots.without_disk))
    });
    let (interrupted, why) = match opened {
        Ok(((open_posts, interrupted), without_disk)) => {
            metrics.losses.open_posts = open_posts;
            (interrupted, without_disk)
        }
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    if let Some(why) = why {
        log.note(&format!(
            "insight: POSTs that are under way when all of hookgate is killed are not counted: {why}"
        ));
    }
    metrics.interrupted(interrupted.iter().map(|left| left.meta + left.other).sum());
    interrupted
}

/// By counter.
fn prefixes(generation: &Generation) -> HashMap<CounterIndex, Network> {
    let prefixes = generation.context.classifier.prefixes();
    prefixes.into_iter().map(|(network, counter)| (counter, network)).collect()
}

/// Whether requests that look like Meta's came from addresses that Meta can't have.
fn hides_sources(generation: &Generation) -> bool {
    let seen = generation.context.metrics.hidden_sources.seen();
    seen.is_some_and(|(requests, _)| requests >= MANY_HIDDEN)
}

fn add(period: &mut Period, whose: Option<Network>, group: &Group) {
    if group.is_empty() {
        return;
    }
    match whose {
        None => period.other.add(group),
        Some(network) => {
            period.meta.add(group);
            period.prefixes.entry(network).or_default().add(group);
        }
    }
}

/// The history, of this process's or of those before it. A damaged one is set aside.
fn open(supervisor: &SupervisorClient, log: &Log) -> Result<(History, Option<String>), String> {
    let (without_disk, file) = supervisor.history().map_err(|error| error.to_string())?;
    match History::open(file) {
        Ok(history) => Ok((history, without_disk)),
        Err(Damage::Io(error)) => Err(error.to_string()),
        Err(damage) => {
            let aside = supervisor.set_history_aside().map_err(|error| format!("{damage}; {error}"))?;
            log.note(&format!(
                "insight: the history begins anew, the old one is {}: {damage}",
                aside.display()
            ));
            let (without_disk, file) = supervisor.history().map_err(|error| error.to_string())?;
            Ok((History::open(file).map_err(|damage| damage.to_string())?, without_disk))
        }
    }
}

fn until_next(now: Timestamp) -> Duration {
    let into = now.as_second().rem_euclid(MINUTE);
    let next = SAMPLES.into_iter().chain([MINUTE]).find(|second| *second > into).unwrap_or(MINUTE);
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    let whole = Duration::from_secs((next - into).unsigned_abs());
    whole.saturating_sub(Duration::from_nanos(u64::from(nanoseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_when_a_minute_is_over_and_when_its_attempts_have_ended() {
        for (second, expected) in [("00", 11), ("10", 1), ("11", 49), ("59", 1)] {
            let now: Timestamp = format!("2026-11-24T16:00:{second}Z").parse().unwrap();
            assert_eq!(until_next(now), Duration::from_secs(expected), "{second}");
        }
        let now: Timestamp = "2026-11-24T16:00:59.250Z".parse().unwrap();
        assert_eq!(until_next(now), Duration::from_millis(750));
    }
}
