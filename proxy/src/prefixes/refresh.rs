use std::collections::BTreeSet;
use std::{fmt, iter};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cover::{Cover, Family};
use super::{Network, Registered, Table};

/// Rows that the guard has counters for, without some that stay free for prefixes that come and go.
const MAX_ROWS: usize = 3000;

/// The shortest row that refreshes may add.
const MIN_LENGTH_V4: u8 = 14;
const MIN_LENGTH_V6: u8 = 32;

/// What the last good refresh found, in relation to the configured list: that list may change in
/// the meantime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    pub asked: Timestamp,
    /// The registry, as configured.
    pub registry: String,
    /// Registered, now or at an earlier refresh whose row is still covered.
    pub registered: BTreeSet<Network>,
    /// Configured, but covered by nothing that is registered.
    pub removed: BTreeSet<Network>,
    /// The table that an operator has put in force against the bounds. Refreshes are measured
    /// against it, as against the configured list, for as long as they need it. Empty: the bounds
    /// hold without it.
    pub forced: BTreeSet<Network>,
}

/// Meta's prefixes as they stand: the configured list, and the last good refresh if there was one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixState {
    pub configured: Table,
    pub refresh: Option<Refresh>,
}

/// Why a refresh is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", joined(.violations))]
pub struct BadRefresh {
    /// Never empty.
    pub violations: Vec<Violation>,
    /// What an operator may put in force nevertheless; `None`: it can't be used at all.
    pub forced: Option<Box<PrefixState>>,
}

/// A bound that a refresh exceeds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error(
        "only {} % of the {family} addresses that are {before} would stay ({} of {}), and at least half of them must",
        percent(*stay, *of), amount(*family, *stay), amount(*family, *of)
    )]
    TooFew { family: Family, before: Before, stay: u128, of: u128 },
    #[error(
        "{} would be added to {}, and all refreshes together may add at most half as many as are built in ({})",
        amount(*family, *added), amount(*family, *built_in), amount(*family, *built_in / 2)
    )]
    TooMuch { family: Family, added: u128, built_in: u128 },
    #[error("a refresh may add no {family} row shorter than /{min_length}: {}", some(.rows))]
    TooShort { family: Family, min_length: u8, rows: Vec<Network> },
    #[error("{0} prefixes are more than the {MAX_ROWS} that a guard has room for")]
    TooMany(usize),
}

/// A table of which half must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Configured,
    Forced,
    Active,
}

/// From one table to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<Network>,
    pub removed: Vec<Network>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl PrefixState {
    /// The prefixes in force.
    pub fn table(&self) -> Table {
        let Some(Refresh { registered, removed, .. }) = &self.refresh else { return self.configured.clone() };
        let configured = self.configured.iter().filter(|network| !removed.contains(network));
        configured.chain(registered.iter().copied()).collect()
    }

    /// What the answer to a refresh makes of it: whatever is registered comes in, and what was
    /// there before goes only where nothing registered covers it, alone or together with others.
    ///
    /// Errors: the answer would take away too much, or bring too much.
    pub fn refreshed(
        &self,
        answer: &Registered,
        asked: Timestamp,
        registry: &str,
    ) -> Result<Self, BadRefresh> {
        let cover = Cover::of(&answer.networks.iter().copied().collect());
        let former = self.refresh.iter().flat_map(|refresh| refresh.registered.iter().copied());
        let still_covered = former.filter(|network| cover.holds(*network));
        let refresh = Refresh {
            asked,
            registry: registry.to_owned(),
            registered: answer.networks.iter().copied().chain(still_covered).collect(),
            removed: self.configured.iter().filter(|network| !cover.holds(*network)).collect(),
            forced: BTreeSet::new(),
        };
        let measured_against = |forced: BTreeSet<Network>| Self {
            configured: self.configured.clone(),
            refresh: Some(Refresh { forced, ..refresh.clone() }),
        };
        // What was forced counts only while it is needed: a row that has gone does not come back
        // unseen.
        let forced = self.refresh.as_ref().map(|refresh| &refresh.forced).filter(|forced| !forced.is_empty());
        let bounds = iter::once(BTreeSet::new()).chain(forced.cloned());
        let (table, mut violations) = (self.table(), Vec::new());
        for next in bounds.map(measured_against) {
            violations = next.violations(&table);
            if violations.is_empty() {
                return Ok(next);
            }
        }
        let fits = !violations.iter().any(|violation| matches!(violation, Violation::TooMany(_)));
        let forced = fits.then(|| {
            let rows = measured_against(BTreeSet::new()).table().iter().collect();
            Box::new(measured_against(rows))
        });
        Err(BadRefresh { violations, forced })
    }

    /// The same refresh with another configured list; without it, and why, where both together
    /// exceed the bounds.
    pub fn with_list(&self, configured: Table) -> (Self, Option<BadRefresh>) {
        let next = Self { configured, refresh: self.refresh.clone() };
        match next.ensure_bounded() {
            Ok(()) => (next, None),
            Err(bad) => (Self { refresh: None, ..next }, Some(bad)),
        }
    }

    /// Checks a refresh that was made earlier, maybe with another configured list.
    ///
    /// Errors: it takes away too much, or brings too much.
    pub fn ensure_bounded(&self) -> Result<(), BadRefresh> {
        let violations = match self.refresh {
            Some(_) => self.violations(&self.table()),
            None => Vec::new(),
        };
        if violations.is_empty() { Ok(()) } else { Err(BadRefresh { violations, forced: None }) }
    }

    /// The bounds that the prefixes exceed when they follow `former`. Growth is measured against
    /// what no refresh has added, so that many small steps lead no further than one.
    fn violations(&self, former: &Table) -> Vec<Violation> {
        let after = self.table();
        let mut violations = Vec::new();
        if after.len() > MAX_ROWS {
            violations.push(Violation::TooMany(after.len()));
        }
        let (built_in, forced) = (Table::builtin(), self.forced());
        let known = self.configured.iter().chain(built_in.iter()).chain(forced.iter().flat_map(Table::iter));
        let known: Table = known.collect();
        let begin = match &forced {
            Some(forced) => (Before::Forced, Cover::of(forced)),
            None => (Before::Configured, Cover::of(&self.configured)),
        };
        let (former, known_cover) = (Cover::of(former), Cover::of(&known));
        let (built_in, next) = (Cover::of(&built_in), Cover::of(&after));
        for (family, min_length) in [(Family::V4, MIN_LENGTH_V4), (Family::V6, MIN_LENGTH_V6)] {
            let is_larger = former.addresses(family) > begin.1.addresses(family);
            let in_force = is_larger.then_some((Before::Active, &former));
            for (before, cover) in in_force.into_iter().chain([(begin.0, &begin.1)]) {
                let (stay, of) = (cover.shared(&next, family), cover.addresses(family));
                if stay < of.div_ceil(2) {
                    violations.push(Violation::TooFew { family, before, stay, of });
                }
            }
            let added = next.addresses(family) - next.shared(&known_cover, family);
            let built_in = built_in.addresses(family);
            if added > built_in / 2 {
                violations.push(Violation::TooMuch { family, added, built_in });
            }
            let added = after.iter().filter(|row| Family::of(*row) == family && !known.has(*row));
            let rows: Vec<Network> = added.filter(|row| row.length() < min_length).collect();
            if !rows.is_empty() {
                violations.push(Violation::TooShort { family, min_length, rows });
            }
        }
        violations
    }

    fn forced(&self) -> Option<Table> {
        let forced = self.refresh.as_ref().map(|refresh| &refresh.forced);
        forced.filter(|rows| !rows.is_empty()).map(|rows| rows.iter().copied().collect())
    }
}

impl Table {
    pub fn changes_to(&self, next: &Self) -> Changes {
        Changes {
            added: next.iter().filter(|network| !self.has(*network)).collect(),
            removed: self.iter().filter(|network| !next.has(*network)).collect(),
        }
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "configured",
            Self::Forced => "forced",
            Self::Active => "in force",
        })
    }
}

/// Rounded down: less than half never shows as 50.
fn percent(part: u128, of: u128) -> u8 {
    (part as f64 / of as f64 * 100.0) as u8
}

/// A number of addresses, in words.
fn amount(family: Family, addresses: u128) -> String {
    match family {
        Family::V4 => format!("{addresses} addresses"),
        // Numbers of IPv6 addresses have up to 39 digits.
        Family::V6 => format!("{} /64 networks", addresses.div_ceil(1 << 64)),
    }
}

fn some(rows: &[Network]) -> String {
    const SHOWN: usize = 10;
    let mut text = rows.iter().take(SHOWN).map(Network::to_string).collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = rows.len().checked_sub(SHOWN) {
        text += &format!(" and {more} more");
    }
    text
}

fn joined(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks<C: FromIterator<Network>>(list: &str) -> C {
        list.split_whitespace().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    fn refreshed(standing: &PrefixState, registered: &str) -> Result<PrefixState, BadRefresh> {
        let answer = Registered { networks: networks(registered), left_out: Vec::new() };
        standing.refreshed(&answer, Timestamp::UNIX_EPOCH, "whois.example:43")
    }

    fn shown(table: &Table) -> String {
        table.iter().map(|network| network.to_string()).collect::<Vec<_>>().join(" ")
    }

    const V6: &str = "2a03:2880::/32";

    fn standing(configured: &str) -> PrefixState {
        PrefixState { configured: networks(&format!("{configured} {V6}")), refresh: None }
    }

    #[test]
    fn adds_what_is_registered_and_removes_what_nothing_covers() {
        for (configured, registered, expected) in [
            // Nothing changes.
            ("157.240.0.0/17", "157.240.0.0/17", "157.240.0.0/17"),
            // Comes in; what it covers stays, finer rows have counters of their own.
            (
                "157.240.0.0/17 157.240.3.0/24",
                "157.240.0.0/16",
                "157.240.0.0/16 157.240.0.0/17 157.240.3.0/24",
            ),
            // Covered by two together.
            (
                "157.240.0.0/16",
                "157.240.0.0/17 157.240.128.0/17",
                "157.240.0.0/16 157.240.0.0/17 157.240.128.0/17",
            ),
            // Covered in part only: what is not registered is no longer Meta's.
            ("157.240.0.0/16", "157.240.0.0/17", "157.240.0.0/17"),
            ("157.240.0.0/16 31.13.24.0/21", "157.240.0.0/16", "157.240.0.0/16"),
        ] {
            let next = refreshed(&standing(configured), &format!("{registered} {V6}")).unwrap();
            assert_eq!(shown(&next.table()), format!("{expected} {V6}"), "{configured} + {registered}");
        }
    }

    #[test]
    fn prefixes_that_were_withdrawn_come_back() {
        let first = standing("157.240.0.0/16 31.13.24.0/21");
        let second = refreshed(&first, &format!("157.240.0.0/16 {V6}")).unwrap();
        let third = refreshed(&second, &format!("157.240.0.0/16 31.13.24.0/21 {V6}")).unwrap();
        assert_eq!(third.table(), first.table());
        assert_eq!(third.refresh.unwrap().removed, BTreeSet::new());
    }

    #[test]
    fn rows_of_an_earlier_refresh_stay_while_they_are_covered() {
        let first = standing("157.240.0.0/16");
        let second = refreshed(&first, &format!("157.240.0.0/16 157.240.9.0/24 57.144.0.0/23 {V6}")).unwrap();
        let third = refreshed(&second, &format!("157.240.0.0/16 {V6}")).unwrap();
        assert_eq!(shown(&third.table()), format!("157.240.0.0/16 157.240.9.0/24 {V6}"));
    }

    #[test]
    fn a_newer_configured_list_counts_whatever_the_refresh_said_before_it() {
        let old =
            refreshed(&standing("157.240.0.0/16 31.13.24.0/21"), &format!("157.240.0.0/16 {V6}")).unwrap();
        let new = PrefixState { configured: networks("31.13.24.0/21 57.144.0.0/14"), ..old };
        assert_eq!(shown(&new.table()), format!("57.144.0.0/14 157.240.0.0/16 {V6}"));
    }

    /// What exceeds the bounds, in words.
    fn refusals(standing: &PrefixState, registered: &str) -> Vec<String> {
        let outcome = refreshed(standing, registered);
        outcome.map_or_else(|bad| bad.violations.iter().map(Violation::to_string).collect(), |_| Vec::new())
    }

    /// What `--force` makes of an answer that is refused.
    fn forced(standing: &PrefixState, registered: &str) -> PrefixState {
        *refreshed(standing, registered).unwrap_err().forced.unwrap()
    }

    #[test]
    fn half_of_the_addresses_must_stay_in_each_family() {
        let both = "157.240.0.0/17 157.240.128.0/17 2a03:2880::/33 2a03:2880:8000::/33";
        let standing = PrefixState { configured: networks(both), refresh: None };
        let outcome = |registered| refusals(&standing, registered);
        assert_eq!(outcome("157.240.0.0/17 2a03:2880::/33"), [""; 0]);
        let less = "157.240.0.0/18 157.240.64.0/19 157.240.96.0/20 157.240.112.0/24 2a03:2880::/32";
        let v4 = "only 44 % of the IPv4 addresses that are configured would stay (28928 addresses of 65536 \
                  addresses), and at least half of them must";
        assert_eq!(outcome(less), [v4]);
        let v6 = |percent, stay| {
            format!(
                "only {percent} % of the IPv6 addresses that are configured would stay ({stay} /64 networks of \
                 4294967296 /64 networks), and at least half of them must"
            )
        };
        assert_eq!(outcome("157.240.0.0/16"), [v6(0, 0)]);
        assert_eq!(outcome("157.240.0.0/16 2a03:2880::/34"), [v6(25, 1 << 30)]);
        // As many addresses, but others.
        let none = "only 0 % of the IPv4 addresses that are configured would stay (0 addresses of 65536 \
                    addresses), and at least half of them must";
        assert_eq!(outcome("57.144.0.0/16 2a03:2880::/32"), [none]);
    }

    #[test]
    fn steps_of_half_do_not_multiply() {
        let first = standing("157.240.0.0/17 157.240.128.0/17");
        let second = refreshed(&first, &format!("157.240.0.0/17 {V6}")).unwrap();
        let third = refusals(&second, &format!("157.240.0.0/18 {V6}"));
        assert!(
            matches!(&third[..], [one] if one.starts_with("only 25 % of the IPv4 addresses that are conf"))
        );
        // What comes back may replace what stayed: half of the configured list is there.
        refreshed(&second, &format!("157.240.128.0/17 {V6}")).unwrap();

        // Of a table that has grown, half of the larger one, and the configured half.
        let grown = refreshed(&first, &format!("157.240.0.0/16 57.144.0.0/14 {V6}")).unwrap();
        let lost = refusals(&grown, &format!("157.240.0.0/16 {V6}"));
        assert!(
            matches!(&lost[..], [one] if one.contains("% of the IPv4 addresses that are in force would"))
        );
        let lost = refusals(&grown, &format!("57.144.0.0/14 {V6}"));
        assert!(
            matches!(&lost[..], [one] if one.contains("only 0 % of the IPv4 addresses that are configured"))
        );
    }

    /// The built-in list and `count` rows of /14 that are in none of its rows.
    fn builtin_and_14s(range: std::ops::Range<u32>) -> String {
        let rows = range.map(|n| format!("{}/14", std::net::Ipv4Addr::from_bits(0x1800_0000 + (n << 18))));
        let builtin = Table::builtin().iter().map(|row| row.to_string()).collect::<Vec<_>>();
        builtin.into_iter().chain(rows).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_refreshes_together_may_add_half_of_what_is_built_in() {
        let first = PrefixState { configured: Table::builtin(), refresh: None };
        let built_in = Cover::of(&first.configured).addresses(Family::V4);
        let most = u32::try_from((built_in / 2) >> 18).unwrap();
        let second = refreshed(&first, &builtin_and_14s(0..most)).unwrap();
        let expected = format!(
            "{} addresses would be added to {built_in} addresses, and all refreshes together may add at most \
             half as many as are built in ({} addresses)",
            u128::from(most + 1) << 18,
            built_in / 2
        );
        for before in [&first, &second] {
            assert_eq!(refusals(before, &builtin_and_14s(0..most + 1)), [&*expected]);
        }
        // Other rows in place of the former ones.
        refreshed(&second, &builtin_and_14s(1..most + 1)).unwrap();
        // Rows of the built-in list are no addition to another list.
        refreshed(&standing("157.240.0.0/17"), &builtin_and_14s(0..0)).unwrap();

        let v6 =
            refusals(&first, &(builtin_and_14s(0..0) + " 2600::/32 2600:1::/32 2600:2::/32 2600:3::/32"));
        assert!(matches!(&v6[..], [one] if one.contains("/64 networks would be added to")), "{v6:?}");
    }

    #[test]
    fn short_rows_are_only_the_configured_ones() {
        let first = standing("157.240.0.0/17 57.144.0.0/13");
        let list = "157.240.0.0/17 57.144.0.0/13";
        assert_eq!(refusals(&first, &format!("{list} {V6}")), [""; 0]);
        let row = refusals(&first, &format!("{list} 24.0.0.0/13 2600::/31 {V6}"));
        // One row of that length holds more than half of the built-in addresses.
        assert!(row[0].contains("addresses would be added to"), "{row:?}");
        let expected = [
            "a refresh may add no IPv4 row shorter than /14: 24.0.0.0/13",
            "a refresh may add no IPv6 row shorter than /32: 2600::/31",
        ];
        assert_eq!(row[1..], expected);
        let many = (0..12).map(|n| format!("24.{}.0.0/13", n * 8)).collect::<Vec<_>>().join(" ");
        let many = refusals(&first, &format!("{list} {many} {V6}"));
        assert!(many.iter().any(|one| one.ends_with("24.72.0.0/13 and 2 more")), "{many:?}");
    }

    #[test]
    fn what_was_forced_is_measured_against_and_only_while_it_is_needed() {
        let first = standing("157.240.0.0/17 157.240.128.0/17");
        let short = format!("157.240.0.0/16 24.0.0.0/13 {V6}");
        let second = forced(&first, &short);
        second.ensure_bounded().unwrap();
        // The same answer again, and a little more or less.
        let third = refreshed(&second, &short).unwrap();
        assert_eq!(third.refresh.as_ref().unwrap().forced, second.refresh.as_ref().unwrap().forced);
        let fourth = refreshed(&third, &format!("{short} 57.144.0.0/14")).unwrap();
        // Not a further one, and not half.
        assert_eq!(refusals(&fourth, &format!("{short} 24.16.0.0/13")).len(), 2);
        assert_eq!(refusals(&fourth, &format!("157.240.0.0/16 {V6}")).len(), 2);

        // Few rows: the forced table is the one of which half must stay.
        let few = format!("157.240.0.0/18 {V6}");
        let second = forced(&first, &few);
        let third = refreshed(&second, &few).unwrap();
        let less = refusals(&third, &format!("157.240.0.0/20 {V6}"));
        assert!(matches!(&less[..], [one] if one.contains("that are forced would stay")), "{less:?}");
        // Once the bounds hold without it, it is forgotten.
        let whole = refreshed(&third, &format!("157.240.0.0/16 {V6}")).unwrap();
        assert_eq!(whole.refresh.as_ref().unwrap().forced, BTreeSet::new());
        assert_eq!(refusals(&whole, &few).len(), 1);
    }

    #[test]
    fn another_list_stands_without_a_refresh_that_does_not_fit_it() {
        let first = standing("157.240.0.0/17");
        let second = refreshed(&first, &format!("157.240.0.0/17 24.0.0.0/14 {V6}")).unwrap();
        let list: Table = networks(&format!("157.240.0.0/16 {V6}"));
        let (fits, bad) = second.with_list(list);
        assert_eq!(
            (shown(&fits.table()), bad),
            (format!("24.0.0.0/14 157.240.0.0/16 157.240.0.0/17 {V6}"), None)
        );
        let removing =
            refreshed(&standing("157.240.0.0/17 31.13.24.0/21"), &format!("157.240.0.0/17 {V6}")).unwrap();
        let (alone, bad) = removing.with_list(networks(&format!("31.13.24.0/21 {V6}")));
        assert_eq!(shown(&alone.table()), format!("31.13.24.0/21 {V6}"));
        assert!(bad.unwrap().to_string().starts_with("only 0 % of the IPv4 addresses that are configured"));
    }

    fn v6(bits: u128) -> std::net::IpAddr {
        std::net::Ipv6Addr::from_bits(bits).into()
    }

    #[test]
    fn rows_are_bounded() {
        let many: BTreeSet<Network> =
            (0..=MAX_ROWS as u128).map(|n| Network::around(v6(0x2a03_2880 << 96 | n << 64), 64)).collect();
        let answer = Registered { networks: many, left_out: Vec::new() };
        let standing = PrefixState { configured: networks(V6), refresh: None };
        let outcome = standing.refreshed(&answer, Timestamp::UNIX_EPOCH, "");
        let BadRefresh { violations, forced } = outcome.unwrap_err();
        assert!(violations.contains(&Violation::TooMany(MAX_ROWS + 1)), "{violations:?}");
        assert_eq!(forced, None, "a guard has no room for them");
    }
}
