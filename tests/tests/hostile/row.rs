//! A row of the table: webhooks before, during and after an attack, and what they showed.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Attack, Metrics, StrangerCounts, Strangers, Webhook, Webhooks, equal, pace, wait_until};
use serde_json::json;

use crate::testbed::{Testbed, UPSTREAM};

/// What a connection may take, as the automatic limit on connections plans it, in KiB.
const KIB_PER_CONNECTION: u64 = 28;
/// How long an attack may need to show that it has begun to hurt.
const SHOWS: Duration = Duration::from_secs(30);
/// To look costs the proxy time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// As many webhooks are delivered before memory at rest is read.
const WARM_UP: f64 = 15.0;
const WARM_UP_LIMIT: Duration = Duration::from_secs(10);
/// How long connections of an attack that has ended are waited for.
const SETTLES: Duration = Duration::from_secs(3);

/// How long, and how large.
pub struct Extent {
    /// How often the attack comes and goes; medians are taken over the rounds.
    rounds: u32,
    /// Of one round: before, during, and after.
    windows: [Duration; 3],
    pub connections: usize,
    pub in_flight: usize,
}

impl Extent {
    /// A look at whether it works; or, with `HOOKGATE_HOSTILE_SECONDS` (of attack, all rounds
    /// together) in the environment, a measurement on a machine as large as the plan for 512 MB
    /// makes it.
    pub fn wanted() -> Result<Self> {
        let Some(seconds) = number("HOOKGATE_HOSTILE_SECONDS")? else {
            let windows = [400, 1200, 400].map(Duration::from_millis);
            return Ok(Self { rounds: 1, windows, connections: 1200, in_flight: 128 });
        };
        let rounds = number("HOOKGATE_HOSTILE_ROUNDS")?.unwrap_or(5.0).max(1.0) as u32;
        let attack = Duration::from_secs_f64(seconds) / rounds;
        let windows = [attack * 2 / 3, attack, attack * 2 / 3];
        Ok(Self { rounds, windows, connections: 12_000, in_flight: 1024 })
    }
}

fn number(name: &str) -> Result<Option<f64>> {
    let Ok(text) = env::var(name) else { return Ok(None) };
    Ok(Some(text.parse().with_context(|| format!("{name} is a number"))?))
}

/// An attack as it is measured.
pub struct Row {
    /// Also its test's, with `_` for `-`.
    pub name: &'static str,
    /// What its actions are called.
    pub actions: &'static str,
    /// The most that p99 may be during the attack, divided by that before it.
    pub goal: f64,
    /// Whether it has done what it is for.
    pub shows: fn(&Seen<'_>) -> bool,
}

/// What can be seen of an attack.
pub struct Seen<'a> {
    pub testbed: &'a Testbed,
    pub metrics: Metrics,
    before: &'a Metrics,
    counts: [u64; 3],
}

impl Seen<'_> {
    /// How much a counter has risen since the attack began.
    pub fn rise(&self, series: &str) -> f64 {
        self.metrics.value(series) - self.before.value(series)
    }

    /// Connections or requests refused for `reason` since the attack began.
    pub fn refused(&self, reason: &str) -> f64 {
        self.rise(&format!("hookgate_refused_total{{reason=\"{reason}\"}}"))
    }

    /// Strangers' connections at the moment.
    pub fn connections(&self) -> usize {
        self.metrics.value("hookgate_connections{class=\"other\"}") as usize
    }

    /// What the attack consists of, since it began.
    pub fn actions(&self) -> u64 {
        self.counts[1]
    }
}

/// One round: when its windows were.
struct Round {
    /// The beginnings of before, during and after, and the end.
    bounds: [[Instant; 2]; 3],
    counts: [u64; 3],
}

impl Row {
    pub const fn new(name: &'static str, actions: &'static str, shows: fn(&Seen<'_>) -> bool) -> Self {
        Self { name, actions, goal: 1.5, shows }
    }

    pub const fn goal(mut self, goal: f64) -> Self {
        self.goal = goal;
        self
    }

    /// Runs `attack` beside Meta's webhooks.
    pub fn run<A: Future<Output = ()> + 'static>(
        &self,
        testbed: &Testbed,
        attack: impl Fn(Strangers) -> A + Clone + Send + 'static,
    ) -> Result<()> {
        let extent = Extent::wanted()?;
        let worker = testbed.proxy.worker()?;
        let webhooks = Webhooks::start(testbed.https, crate::testbed::NAME, &testbed.ca)?;
        // The first of them find nothing ready.
        let delivered = || {
            let series = format!("hookgate_requests_total{{upstream=\"{UPSTREAM}\",code=\"200\"}}");
            let count = testbed.metrics()?.value(&series);
            Ok((count >= WARM_UP, count))
        };
        wait_until("the first webhooks are delivered", WARM_UP_LIMIT, delivered)?;
        let at_rest = testbed.proxy.memory_kib()?.0;
        let rounds = (0..extent.rounds).map(|_| self.round(testbed, &extent, attack.clone()));
        let rounds = rounds.collect::<Result<Vec<_>>>();
        let webhooks = webhooks.stop()?;
        let rounds = rounds.with_context(|| self.name)?;
        let growth = testbed.proxy.memory_kib()?.1.saturating_sub(at_rest);
        let plan = testbed.share as u64 * KIB_PER_CONNECTION;
        self.report(&extent, &rounds, &webhooks, [at_rest, growth, plan])?;

        for Webhook { number, took, .. } in &webhooks {
            ensure!(took.is_ok(), "{}: webhook {number}: {took:?}", self.name);
        }
        ensure!(growth <= plan, "{}: {growth} KiB, and {plan} are planned for strangers", self.name);
        ensure!(testbed.proxy.worker()? == worker, "{}: another worker serves", self.name);
        self.ensure_logged(testbed, &webhooks)
    }

    fn round<A: Future<Output = ()> + 'static>(
        &self,
        testbed: &Testbed,
        extent: &Extent,
        attack: impl Fn(Strangers) -> A + Send + 'static,
    ) -> Result<Round> {
        let calm = |window: Duration| {
            let begun = Instant::now();
            pace(window);
            [begun, Instant::now()]
        };
        let before = calm(extent.windows[0]);
        let (metrics, counts) = (testbed.metrics()?, read(testbed.strangers.counts()));
        let strangers = testbed.strangers.clone();
        let begun = Instant::now();
        let attack = Attack::begin(move || Box::pin(attack(strangers)) as Pin<Box<dyn Future<Output = ()>>>);
        pace(extent.windows[1]);
        let since = || {
            let now = read(testbed.strangers.counts());
            [now[0] - counts[0], now[1] - counts[1], now[2] - counts[2]]
        };
        let deadline = Instant::now() + SHOWS;
        let shows = loop {
            let seen = Seen { testbed, metrics: testbed.metrics()?, before: &metrics, counts: since() };
            match (self.shows)(&seen) {
                false if Instant::now() < deadline => pace(LOOK_EVERY),
                shows => break shows,
            }
        };
        let during = [begun, Instant::now()];
        let counts = since();
        attack.end()?;
        let now = testbed.metrics()?;
        ensure!(
            shows,
            "the attack does not show: {counts:?} connections, {}, ends; {:?}",
            self.actions,
            ["hookgate_refused_total", "hookgate_connections", "hookgate_tls_handshakes_total"]
                .map(|family| now.family(family))
        );
        // Some are noticed only when their upstream has answered.
        let left = || Ok(equal(testbed.metrics()?.value("hookgate_connections{class=\"other\"}"), 0.0));
        wait_until("the attack's connections are closed", SETTLES, left).ok();
        Ok(Round { bounds: [before, during, calm(extent.windows[2])], counts })
    }

    /// Prints what was measured, and adds it to the file `HOOKGATE_HOSTILE_FIGURES`.
    fn report(
        &self,
        extent: &Extent,
        rounds: &[Round],
        webhooks: &[Webhook],
        [at_rest, growth, plan]: [u64; 3],
    ) -> Result<()> {
        let window = |round: &Round, index: usize| {
            let [begun, ended] = round.bounds[index];
            let due = webhooks.iter().filter(|webhook| (begun..ended).contains(&webhook.due));
            // What failed took at least as long as was waited for it.
            let took = due.map(|webhook| *webhook.took.as_ref().unwrap_or(&Webhooks::LIMIT));
            took.collect::<Vec<_>>()
        };
        let figure = |index: usize, per_mille: usize| {
            let of_rounds = rounds.iter().map(|round| rank(window(round, index), per_mille));
            median(of_rounds.map(|took| took.as_secs_f64() * 1e3).collect())
        };
        let (before, during, after) = (figure(0, 990), figure(1, 990), figure(2, 990));
        let attacked: f64 = rounds.iter().map(|round| length(round.bounds[1])).sum();
        let rate =
            |index: usize| rounds.iter().map(|round| round.counts[index] as f64).sum::<f64>() / attacked;
        let figures = json!({
            "row": self.name, "actions": self.actions, "goal": self.goal,
            "p99_ms": { "before": before, "during": during, "after": after },
            "p50_ms": { "before": figure(0, 500), "during": figure(1, 500), "after": figure(2, 500) },
            "ratio": during / before,
            "webhooks": webhooks.len(), "failed": webhooks.iter().filter(|webhook| webhook.took.is_err()).count(),
            "memory_mib": { "at_rest": mib(at_rest), "growth": mib(growth), "plan": mib(plan) },
            "per_second": { "connections": rate(0), "actions": rate(1), "ended": rate(2) },
            "rounds": extent.rounds, "attack_seconds": attacked,
        });
        eprintln!("{figures}");
        let Some(path) = env::var_os("HOOKGATE_HOSTILE_FIGURES") else { return Ok(()) };
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{figures}").context("writing the figures")
    }

    /// Strangers cannot push Meta's lines out of the log.
    fn ensure_logged(&self, testbed: &Testbed, webhooks: &[Webhook]) -> Result<()> {
        let condition = format!("{}: all webhooks are in the log", self.name);
        wait_until(condition, Duration::from_secs(5), || {
            let log = testbed.proxy.stderr();
            let numbers =
                log.split("/number-").skip(1).filter_map(|rest| rest.split('-').next()?.parse().ok());
            let logged = numbers.collect::<std::collections::HashSet<usize>>();
            let numbers = webhooks.iter().map(|webhook| webhook.number);
            let missing: Vec<_> = numbers.filter(|number| !logged.contains(number)).collect();
            Ok((missing.is_empty(), missing))
        })?;
        Ok(())
    }
}

fn read(counts: &StrangerCounts) -> [u64; 3] {
    [&counts.connections, &counts.actions, &counts.ended].map(|count| count.load(Ordering::Relaxed))
}

fn length([begun, ended]: [Instant; 2]) -> f64 {
    (ended - begun).as_secs_f64()
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The smallest value that `per_mille` in a thousand do not exceed.
fn rank(mut values: Vec<Duration>, per_mille: usize) -> Duration {
    values.sort_unstable();
    let rank = (values.len() * per_mille).div_ceil(1000).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => f64::midpoint(values[(count - 1) / 2], values[count / 2]),
    }
}
