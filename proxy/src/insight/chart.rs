use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::minute::MINUTE;
use super::period::Period;
use super::query::Query;
use super::row::{Field, Row};
use super::stage::Unit;
use super::sums::Sums;
use crate::observe::clock;

/// `/history.json`, version 1: a window in equal steps, for drawing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    pub version: u32,
    /// RFC 3339 in UTC.
    pub from: String,
    pub to: String,
    pub step_seconds: i64,
    /// Each step that there are figures of, oldest first.
    pub points: Vec<Point>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it begins, RFC 3339 in UTC.
    pub start: String,
    pub attempts: u64,
    /// Lost and late together, as for posts.
    pub attempts_lost: u64,
    pub posts: u64,
    pub posts_lost: u64,
    pub messages: MessagesPoint,
}

/// What messages tell of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MessagesPoint {
    /// At their first sight.
    pub events: u64,
    /// The mean, where it is known.
    pub lag_seconds: Option<f64>,
    /// How many events it is the mean of.
    #[serde(default)]
    pub lagged: u64,
    pub delivered: u64,
    pub recovered: u64,
    pub lost: u64,
    pub unknown: u64,
    pub duplicate: u64,
    /// The mean over the step.
    pub outstanding: f64,
    pub quiet_numbers: f64,
    pub chains_complete: u64,
    pub chains_sent_missing: u64,
}

impl MessagesPoint {
    fn new(row: &Row) -> Self {
        let mean = |sum: Field, of: Field| (row[of] > 0).then(|| row[sum] as f64 / row[of] as f64);
        Self {
            events: row[Field::Events],
            lag_seconds: mean(Field::EventsLagMilliseconds, Field::EventsLagged).map(|lag| lag / 1000.0),
            lagged: row[Field::EventsLagged],
            delivered: row[Field::EventsDelivered],
            recovered: row[Field::EventsRecovered],
            lost: row[Field::EventsLost],
            unknown: row[Field::EventsUnknown],
            duplicate: row[Field::EventsDuplicate],
            outstanding: mean(Field::EventsOutstanding, Field::EventSamples).unwrap_or(0.0),
            quiet_numbers: mean(Field::NumbersQuiet, Field::EventSamples).unwrap_or(0.0),
            chains_complete: row[Field::ChainsComplete],
            chains_sent_missing: row[Field::ChainsSentMissing],
        }
    }
}

/// The most steps.
const MAX_POINTS: i64 = 144;

impl Chart {
    pub const VERSION: u32 = 1;

    /// `periods`: as for [`super::Report::new`].
    pub fn new(periods: &[Period], query: &Query, now: Timestamp) -> Self {
        let from = query.from(now.as_second());
        let step = (query.minutes + 1).max(MAX_POINTS).div_euclid(MAX_POINTS) * MINUTE;
        let step_of = |period: &Period| (period.start - from).div_euclid(step);
        let within: Vec<_> = periods.iter().filter(|period| period.start >= from).collect();
        let point = |periods: &[&Period]| {
            let mut sums = Sums::default();
            periods.iter().for_each(|period| sums.add(period, query));
            let lost = |unit| {
                sums.causes
                    .keys()
                    .filter(|(_, of)| *of == unit)
                    .map(|(stage, _)| sums.fate(*stage, unit).sum())
                    .sum()
            };
            Point {
                start: clock::date(from + periods.first().map_or(0, |period| step_of(period)) * step),
                attempts: sums.of(Unit::Attempts),
                attempts_lost: lost(Unit::Attempts),
                posts: sums.of(Unit::Posts),
                posts_lost: lost(Unit::Posts),
                messages: MessagesPoint::new(&sums.messages),
            }
        };
        Self {
            version: Self::VERSION,
            from: clock::date(from),
            to: clock::rfc3339(now),
            step_seconds: step,
            points: within.chunk_by(|one, next| step_of(one) == step_of(next)).map(point).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::Stage;

    #[test]
    fn a_window_is_drawn_in_equal_steps() {
        let now = 1_800_000_000 / MINUTE * MINUTE;
        let minute = |ago: i64| {
            let mut period = Period::starting(now - ago * MINUTE);
            period.meta.row[Field::Posts] = 10;
            period.meta.lose(Unit::Posts, Stage::Dns, "dns_error", 1);
            period
        };
        let periods: Vec<_> = [2000, 500, 59, 58, 0].map(minute).into();
        let chart = |minutes| {
            Chart::new(&periods, &Query { minutes, ..Query::default() }, Timestamp::from_second(now).unwrap())
        };
        let hour = chart(60);
        assert_eq!((hour.step_seconds, hour.points.len()), (60, 3));
        assert_eq!((hour.points[0].posts, hour.points[0].posts_lost), (10, 1));
        assert_eq!(hour.points[0].start, clock::date(now - 59 * MINUTE));
        let days = chart(48 * 60);
        assert_eq!((days.step_seconds, days.points.len()), (1200, 4));
        assert_eq!(days.points[2].posts, 20, "two minutes of one step");
        assert!(days.points.len() <= MAX_POINTS as usize);
    }
}
