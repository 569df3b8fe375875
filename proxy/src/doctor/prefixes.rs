//! Meta's prefixes: whether the list can be read, and how old the last refresh is.

use std::time::Duration;

use jiff::Timestamp;

use super::Finding;
use crate::check;
use crate::config::{Config, Prefixes};
use crate::observe::clock;
use crate::prefixes::PrefixState;

const SUBJECT: &str = "prefixes";
/// This number of failed refreshes in a row is no accident.
const MISSED: u32 = 3;

pub fn findings(config: &Config) -> Vec<Finding> {
    match config.prefixes.load() {
        Err(error) => vec![Finding::of(SUBJECT, check::list(&error))],
        Ok((_, Some(bad))) => vec![Finding::of(SUBJECT, check::state(&bad))],
        Ok((standing, None)) => vec![age(&config.prefixes, &standing, clock::now())],
    }
}

fn age(settings: &Prefixes, standing: &PrefixState, now: Timestamp) -> Finding {
    let rows = standing.table().len();
    let Some(refresh) = &standing.refresh else {
        return Finding::ok(SUBJECT, format!("{rows} of the list {}, never refreshed", settings.source));
    };
    let text = format!("{rows}, refreshed from {} at {}", refresh.registry, clock::rfc3339(refresh.asked));
    let age = Duration::try_from(now.duration_since(refresh.asked)).unwrap_or_default();
    if settings.refresh.is_some_and(|every| age > every.saturating_mul(MISSED)) {
        let next = "run `hookgate prefixes update`: it says what keeps it from being newer";
        return Finding::warn(SUBJECT, format!("{text}, which is long ago"), next);
    }
    Finding::ok(SUBJECT, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::prefixes::{Refresh, Table};

    #[test]
    fn an_old_refresh_is_a_warning_where_newer_ones_are_wanted() {
        let refresh = Refresh {
            asked: "2026-11-20T16:00:00Z".parse().unwrap(),
            registry: "whois.example:43".into(),
            registered: [].into(),
            removed: [].into(),
            forced: [].into(),
        };
        let standing = PrefixState { configured: Table::builtin(), refresh: Some(refresh) };
        let day = Duration::from_secs(24 * 3600);
        for (every, now, expected) in [
            (Some(day), "2026-11-23T15:59:59Z", Level::Ok),
            (Some(day), "2026-11-23T16:00:01Z", Level::Warn),
            (None, "2027-11-23T16:00:01Z", Level::Ok),
        ] {
            let settings = Prefixes { refresh: every, ..Config::absent().prefixes };
            let finding = age(&settings, &standing, now.parse().unwrap());
            assert_eq!(finding.level, expected, "{now}: {finding}");
        }
    }
}
