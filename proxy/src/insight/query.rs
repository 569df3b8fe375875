use super::minute::MINUTE;
use crate::prefixes::Network;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// How far back, in whole minutes.
    pub minutes: i64,
    pub upstream: Option<String>,
    /// This prefix, and those within it.
    pub prefix: Option<Network>,
}

/// 60 days.
const MAX_MINUTES: i64 = 60 * 24 * 60;

impl Query {
    /// The end of the minute that is not over.
    pub fn to(now: i64) -> i64 {
        (now + MINUTE - 1).div_euclid(MINUTE) * MINUTE
    }

    /// Of `?minutes=60&upstream=HOST&prefix=CIDR`; the last two may be missing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut query = Self::default();
        for part in text.strip_prefix('?')?.split('&') {
            match part.split_once('=')? {
                ("minutes", minutes) => query.minutes = minutes.parse().ok()?,
                ("upstream", upstream) => query.upstream = Some(upstream.to_ascii_lowercase()),
                ("prefix", prefix) => query.prefix = Some(prefix.parse().ok()?),
                _ => return None,
            }
        }
        (1..=MAX_MINUTES).contains(&query.minutes).then_some(query)
    }

    /// As [`Query::parse`] reads it.
    pub fn to_text(&self) -> String {
        let mut text = format!("?minutes={}", self.minutes);
        for (key, value) in
            [("upstream", self.upstream.clone()), ("prefix", self.prefix.map(|prefix| prefix.to_string()))]
        {
            if let Some(value) = value {
                text = format!("{text}&{key}={value}");
            }
        }
        text
    }

    /// The first minute of the window that ends now.
    pub fn from(&self, now: i64) -> i64 {
        (now - self.minutes * MINUTE).div_euclid(MINUTE) * MINUTE
    }
}
