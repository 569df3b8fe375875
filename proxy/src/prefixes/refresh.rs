use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cover::{Cover, Family};
use super::{Network, Registered, Table};

/// Rows that the guard has counters for, but for some that stay free for prefixes that come and go.
const MOST_ROWS: usize = 3000;

/// What the last good refresh found, in relation to the configured list: that list may change in the meantime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    pub asked: Timestamp,
    /// Whom, as configured.
    pub registry: String,
    /// Registered, now or at an earlier refresh whose row is still covered.
    pub registered: BTreeSet<Network>,
    /// Configured, but covered by nothing that is registered.
    pub removed: BTreeSet<Network>,
}

/// Meta's prefixes as they stand: the configured list, and the last good refresh if there was one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub configured: Table,
    pub refresh: Option<Refresh>,
}

/// What a refresh that was checked must not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRefresh {
    #[error(
        "only {percent} % of the {family} addresses that are in force would stay, and at least half of them must",
        family = family_name(.0), percent = .1
    )]
    TooFew(Family, u8),
    #[error("{0} prefixes are more than the {MOST_ROWS} that a guard has room for")]
    TooMany(usize),
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

impl Standing {
    /// The prefixes in force.
    pub fn table(&self) -> Table {
        let Some(Refresh { registered, removed, .. }) = &self.refresh else { return self.configured.clone() };
        let configured = self.configured.iter().filter(|network| !removed.contains(network));
        configured.chain(registered.iter().copied()).collect()
    }

    /// What the answer to a refresh makes of it: whatever is registered comes in, and what was there before goes only
    /// where nothing registered covers it, alone or together with others.
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
        };
        let next = Self { configured: self.configured.clone(), refresh: Some(refresh) };
        check(&self.table(), &next.table())?;
        Ok(next)
    }
}

fn check(before: &Table, after: &Table) -> Result<(), BadRefresh> {
    if after.len() > MOST_ROWS {
        return Err(BadRefresh::TooMany(after.len()));
    }
    let (old, new) = (Cover::of(before), Cover::of(after));
    for family in [Family::V4, Family::V6] {
        let (were, stay) = (old.addresses(family), old.shared(&new, family));
        if stay < were.div_ceil(2) {
            // Rounded down: less than half never shows as 50.
            let percent = stay as f64 / were as f64 * 100.0;
            return Err(BadRefresh::TooFew(family, percent as u8));
        }
    }
    Ok(())
}

impl Table {
    pub fn changes_to(&self, next: &Self) -> Changes {
        Changes {
            added: next.iter().filter(|network| !self.has(*network)).collect(),
            removed: self.iter().filter(|network| !next.has(*network)).collect(),
        }
    }
}

fn family_name(family: &Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks<C: FromIterator<Network>>(list: &str) -> C {
        list.split_whitespace().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    fn refreshed(standing: &Standing, registered: &str) -> Result<Standing, BadRefresh> {
        let answer = Registered { networks: networks(registered), left_out: Vec::new() };
        standing.refreshed(&answer, Timestamp::UNIX_EPOCH, "whois.example:43")
    }

    fn shown(table: &Table) -> String {
        table.iter().map(|network| network.to_string()).collect::<Vec<_>>().join(" ")
    }

    const V6: &str = "2a03:2880::/32";

    fn standing(configured: &str) -> Standing {
        Standing { configured: networks(&format!("{configured} {V6}")), refresh: None }
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
        let new = Standing { configured: networks("31.13.24.0/21 57.144.0.0/14"), ..old };
        assert_eq!(shown(&new.table()), format!("57.144.0.0/14 157.240.0.0/16 {V6}"));
    }

    #[test]
    fn half_of_the_addresses_must_stay_in_each_family() {
        let both = "157.240.0.0/17 157.240.128.0/17 2a03:2880::/33 2a03:2880:8000::/33";
        let standing = Standing { configured: networks(both), refresh: None };
        let outcome = |registered| refreshed(&standing, registered).map(|_| ());
        assert_eq!(outcome("157.240.0.0/17 2a03:2880::/33"), Ok(()));
        let less = "157.240.0.0/18 157.240.64.0/19 157.240.96.0/20 157.240.112.0/24 2a03:2880::/32";
        assert_eq!(outcome(less), Err(BadRefresh::TooFew(Family::V4, 44)));
        assert_eq!(outcome("157.240.0.0/16"), Err(BadRefresh::TooFew(Family::V6, 0)));
        assert_eq!(outcome("157.240.0.0/16 2a03:2880::/34"), Err(BadRefresh::TooFew(Family::V6, 25)));
        // As many addresses, but others.
        assert_eq!(outcome("57.144.0.0/16 2a03:2880::/32"), Err(BadRefresh::TooFew(Family::V4, 0)));
        let message = outcome("157.240.0.0/16").unwrap_err().to_string();
        let expected =
            "only 0 % of the IPv6 addresses that are in force would stay, and at least half of them must";
        assert_eq!(message, expected);
    }

    fn v6(bits: u128) -> std::net::IpAddr {
        std::net::Ipv6Addr::from_bits(bits).into()
    }

    #[test]
    fn rows_are_bounded() {
        let many: BTreeSet<Network> =
            (0..=MOST_ROWS as u128).map(|n| Network::around(v6(0x2a03_2880 << 96 | n << 64), 64)).collect();
        let answer = Registered { networks: many, left_out: Vec::new() };
        let standing = Standing { configured: networks(V6), refresh: None };
        let outcome = standing.refreshed(&answer, Timestamp::UNIX_EPOCH, "");
        assert!(matches!(outcome, Err(BadRefresh::TooMany(rows)) if rows == MOST_ROWS + 1));
    }
}
