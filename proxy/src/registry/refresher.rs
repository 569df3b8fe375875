//! Asks the registry by itself: soon after a start that has no recent answer, then once an interval.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::{Refreshed, refresh};
use crate::config::{Config, Prefixes};
use crate::observe::{Log, clock};
use crate::prefixes::{Standing, Table};
use crate::upstream::Dns;
use crate::upstream::dns::BadDns;

/// The first question comes within this time after a start, so that many that start at once do not ask at once.
const START: Duration = Duration::from_secs(60);
/// After the first failure; doubled by each further one, up to [`LONGEST`] and never beyond the interval.
const RETRY: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// Keeps Meta's prefixes as the registry has them.
pub struct Refresher {
    every: Duration,
    settings: Prefixes,
    dns: Dns,
    standing: Standing,
    /// In a row.
    failures: u32,
    log: Log,
}

impl Refresher {
    /// `None`: it is configured never to ask.
    ///
    /// Errors: the DNS can't be set up.
    pub fn new(config: &Config, standing: Standing, log: Log) -> Result<Option<Self>, BadDns> {
        let Some(every) = config.prefixes.refresh else { return Ok(None) };
        let settings = config.prefixes.clone();
        let dns = Dns::new(&config.dns)?;
        Ok(Some(Self { every, settings, dns, standing, failures: 0, log }))
    }

    /// The next table, once a refresh that is due has changed something. It is stored for the next start by then;
    /// whatever fails is logged, and tried again later. Cancelled, it loses only the time that it waited.
    pub async fn next(&mut self) -> Table {
        loop {
            sleep(self.wait(clock::now(), random_share())).await;
            let registry = &self.settings.registry;
            match refresh(&self.standing, registry, &self.dns).await {
                Ok(refreshed) => {
                    self.failures = 0;
                    let is_new = !refreshed.changes.is_empty();
                    self.keep(refreshed);
                    if is_new {
                        return self.standing.table();
                    }
                }
                Err(why) => {
                    self.failures = self.failures.saturating_add(1);
                    self.log.note(&format!(
                        "prefixes: not refreshed, what is in force stays: {registry}: {why} (failure {})",
                        self.failures
                    ));
                }
            }
        }
    }

    fn keep(&mut self, refreshed: Refreshed) {
        let Refreshed { standing, changes, registered, .. } = refreshed;
        self.standing = standing;
        self.log.note(&format!(
            "prefixes: {} has {registered} of Meta's own: {} added, {} removed, {} in force",
            self.settings.registry,
            changes.added.len(),
            changes.removed.len(),
            self.standing.table().len()
        ));
        let stored = self.standing.refresh.as_ref().map(|refresh| refresh.store(&self.settings.state));
        if let Some(Err(error)) = stored {
            self.log.note(&format!("prefixes: in force, but forgotten at the next start: {error}"));
        }
    }

    fn wait(&self, now: Timestamp, random: f64) -> Duration {
        let asked = self.standing.refresh.as_ref().map(|refresh| refresh.asked);
        let age = asked.map(|asked| Duration::try_from(now.duration_since(asked)).unwrap_or_default());
        wait(self.every, age, self.failures, random)
    }
}

/// How long until the registry is asked again. `age`: the last good answer's; `random`: from 0 to 1.
fn wait(every: Duration, age: Option<Duration>, failures: u32, random: f64) -> Duration {
    if failures > 0 {
        let doubled = RETRY.saturating_mul(1 << (failures - 1).min(16));
        return doubled.min(LONGEST).min(every).mul_f64(0.5 + random / 2.0);
    }
    let left = age.map_or(Duration::ZERO, |age| every.mul_f64(1.0 - random / 10.0).saturating_sub(age));
    left.max(START.min(every).mul_f64(random))
}

fn random_share() -> f64 {
    // RandomState is seeded from the system's randomness; 53 bits are what an f64 holds.
    (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::observe::Format;
    use crate::prefixes::Refresh;

    fn answer(prefixes: &[&str]) -> String {
        let object = |prefix: &&str| {
            let class = if prefix.contains(':') { "route6" } else { "route" };
            format!("{class}: {prefix}\norigin: AS32934\nmnt-by: MAINT-AS32934\nsource: RADB\n\n")
        };
        prefixes.iter().map(object).collect::<String>() + "\n\n"
    }

    #[tokio::test]
    async fn yields_a_table_when_something_has_changed_and_goes_on_after_failures() {
        let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = std::env::temp_dir().join(format!("hookgate-refresher-{}", std::process::id()));
        let text = format!(
            "[listen]\nplain = [\"127.0.0.1:1\"]\n[guard]\ninterfaces = [\"lo\"]\nrefresh = \"20ms\"\n\
             registry = \"{}\"\nstate = \"prefixes\"\n",
            registry.local_addr().unwrap()
        );
        let config = Config::parse(&folder.join("hookgate.toml"), &text).unwrap();
        let list =
            |prefixes: &[&str]| prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect::<Table>();
        let before = ["157.240.0.0/17", "2a03:2880::/32"];
        let after = ["157.240.0.0/17", "157.240.128.0/17", "2a03:2880::/32"];
        let standing = Standing { configured: list(&before), refresh: None };
        let mut refresher =
            Refresher::new(&config, standing, Log::new(Format::Text, false)).unwrap().unwrap();

        let serve = async {
            // Broken off, refused, nothing new, then something.
            let answers = [&answer(&after)[..50], &answer(&before[..1]), &answer(&before), &answer(&after)];
            for answer in answers {
                let (mut stream, _) = registry.accept().await.unwrap();
                stream.read_exact(&mut [0; 19]).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let (table, ()) = tokio::join!(refresher.next(), serve);
        assert_eq!(table, list(&after));
        let stored = Refresh::load(Path::new(&config.prefixes.state)).unwrap().unwrap();
        assert_eq!(stored.registered, after.iter().map(|prefix| prefix.parse().unwrap()).collect());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn off_never_asks() {
        let mut config = Config::absent();
        config.prefixes.refresh = None;
        let refresher = Refresher::new(&config, Standing::default(), Log::new(Format::Text, false));
        assert!(refresher.unwrap().is_none());
    }

    #[test]
    fn when_the_registry_is_asked() {
        const HOUR: u64 = 3600;
        for (every, age, failures, random, expected) in [
            // Nothing is known yet: soon.
            (24 * HOUR, None, 0, 0.0, 0),
            (24 * HOUR, None, 0, 1.0, 60),
            (10, None, 0, 1.0, 10),
            // Just asked: an interval later, or up to a tenth earlier.
            (24 * HOUR, Some(0), 0, 0.0, 24 * HOUR),
            (100 * HOUR, Some(0), 0, 1.0, 90 * HOUR),
            // A start long after the last answer, and one shortly after.
            (24 * HOUR, Some(240 * HOUR), 0, 0.5, 30),
            (24 * HOUR, Some(23 * HOUR), 0, 0.0, HOUR),
            // Failures.
            (24 * HOUR, None, 1, 1.0, 60),
            (24 * HOUR, Some(25 * HOUR), 1, 0.0, 30),
            (24 * HOUR, None, 2, 1.0, 120),
            (24 * HOUR, None, 6, 1.0, 1920),
            (24 * HOUR, None, 7, 1.0, HOUR),
            (24 * HOUR, None, u32::MAX, 1.0, HOUR),
            (90, None, 5, 1.0, 90),
        ] {
            let seconds = Duration::from_secs;
            let waits = wait(seconds(every), age.map(seconds), failures, random);
            assert_eq!(waits, seconds(expected), "{every} {age:?} {failures} {random}");
        }
        let share = random_share();
        assert!((0.0..1.0).contains(&share) && share != random_share());
    }
}
