//! Asks the registry by itself: soon after a start that has no recent answer, then once an
//! interval.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::{Refreshed, refresh};
use crate::access::Access;
use crate::config::{Config, Registry};
use crate::observe::{Log, clock};
use crate::prefixes::PrefixState;
use crate::upstream::Dns;
use crate::upstream::dns::BadDns;

/// The first question comes within this time after a start, so that many that start at once do not
/// ask at once.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(60);
/// After the first failure; doubled by each further one, up to [`MAX_RETRY_DELAY`] and never beyond
/// the interval.
const RETRY: Duration = Duration::from_secs(60);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(3600);

/// When the registry is asked, and what it says.
pub struct Refresher {
    every: Duration,
    registry: Registry,
    dns: Dns,
    /// In a row.
    failures: u32,
    log: Log,
}

impl Refresher {
    /// `None`: it is configured never to ask.
    ///
    /// Errors: the DNS can't be set up.
    pub fn new(config: &Config, log: Log, access: &dyn Access) -> Result<Option<Self>, BadDns> {
        let Some(every) = config.prefixes.refresh else { return Ok(None) };
        let registry = config.prefixes.registry.clone();
        Ok(Some(Self { every, registry, dns: Dns::new(&config.dns, access)?, failures: 0, log }))
    }

    /// The next good answer, once one was due; whatever fails is logged, and tried again later.
    /// `standing` tells how the prefixes stand at the moment. Cancelled, it loses only the time
    /// that it waited.
    pub async fn next(&mut self, standing: impl Fn() -> PrefixState) -> Refreshed {
        loop {
            let asked = standing().refresh.map(|refresh| refresh.asked);
            sleep(self.wait(asked, clock::now(), random_share())).await;
            match refresh(&standing(), &self.registry, &self.dns).await {
                Ok(refreshed) => {
                    self.failures = 0;
                    return refreshed;
                }
                Err(why) => {
                    self.failed();
                    self.log.note(&format!(
                        "prefixes: not refreshed, what is in force stays: {}: {why} (failure {})",
                        self.registry, self.failures
                    ));
                }
            }
        }
    }

    /// The last answer could not be put in force: the next question comes as after one without an
    /// answer.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    fn wait(&self, asked: Option<Timestamp>, now: Timestamp, random: f64) -> Duration {
        let age = asked.map(|asked| Duration::try_from(now.duration_since(asked)).unwrap_or_default());
        wait(self.every, age, self.failures, random)
    }
}

/// How long until the registry is asked again. `age`: the last good answer's; `random`: from 0 to
/// 1.
fn wait(every: Duration, age: Option<Duration>, failures: u32, random: f64) -> Duration {
    if failures > 0 {
        let doubled = RETRY.saturating_mul(1 << (failures - 1).min(16));
        return doubled.min(MAX_RETRY_DELAY).min(every).mul_f64(0.5 + random / 2.0);
    }
    let left = age.map_or(Duration::ZERO, |age| every.mul_f64(1.0 - random / 10.0).saturating_sub(age));
    left.max(FIRST_RETRY_DELAY.min(every).mul_f64(random))
}

fn random_share() -> f64 {
    // RandomState is seeded from the system's randomness; 53 bits are what an f64 holds.
    (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::access::Disk;
    use crate::observe::Format;
    use crate::prefixes::Table;

    fn answer(prefixes: &[&str]) -> String {
        let object = |prefix: &&str| {
            let class = if prefix.contains(':') { "route6" } else { "route" };
            format!("{class}: {prefix}\norigin: AS32934\nmnt-by: MAINT-AS32934\nsource: RADB\n\n")
        };
        prefixes.iter().map(object).collect::<String>() + "\n\n"
    }

    #[tokio::test]
    async fn yields_good_answers_and_goes_on_after_failures() {
        let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = format!(
            "[listen]\nplain = [\"127.0.0.1:1\"]\n[guard]\ninterfaces = [\"lo\"]\nrefresh = \"20ms\"\n\
             registry = \"{}\"\n",
            registry.local_addr().unwrap()
        );
        let config = Config::parse("hookgate.toml".as_ref(), &text).unwrap();
        let list =
            |prefixes: &[&str]| prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect::<Table>();
        let before = ["157.240.0.0/17", "2a03:2880::/32"];
        let after = ["157.240.0.0/17", "157.240.128.0/17", "2a03:2880::/32"];
        let standing = PrefixState { configured: list(&before), refresh: None };
        let mut refresher = Refresher::new(&config, Log::new(Format::Text, false), &Disk).unwrap().unwrap();

        let serve = async {
            // Broken off, refused, nothing new, then something.
            let answers = [&answer(&after)[..50], &answer(&before[..1]), &answer(&before), &answer(&after)];
            for answer in answers {
                let (mut stream, _) = registry.accept().await.unwrap();
                stream.read_exact(&mut [0; 19]).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let ask = async {
            let nothing_new = refresher.next(|| standing.clone()).await;
            assert!(nothing_new.changes.is_empty());
            refresher.next(|| nothing_new.standing.clone()).await
        };
        let (refreshed, ()) = tokio::join!(ask, serve);
        assert_eq!(refreshed.standing.table(), list(&after));
        assert_eq!(refreshed.registered, list(&after).iter().collect());
    }

    #[test]
    fn off_never_asks() {
        let mut config = Config::absent();
        config.prefixes.refresh = None;
        let refresher = Refresher::new(&config, Log::new(Format::Text, false), &Disk);
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
