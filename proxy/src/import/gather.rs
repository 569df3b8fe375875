//! What listeners forward, gathered into one configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::amount::{Amount, BODY_BYTES, Key, refusal};
use super::directive::Directive;
use super::follow::{Assumption, Assumptions, End, Outcome, Request, outcomes};
use super::forward::{Forward, compare_target, reach, shown};
use super::notes::{Group, Notes};
use super::plan::{Origin, Plan, Route, Upstream};
use super::probes::Probes;

/// What handles the requests of a listener.
pub trait Relay<'d> {
    /// Where it is written.
    fn directive(&self) -> &'d Directive;

    fn follow(&self, request: &Request<'_>, assumptions: &mut Assumptions<'d>) -> End<'d>;
}

/// A relay, and where its requests come in. Several may share their addresses.
pub struct Entrance<'r, 'd> {
    pub relay: &'r dyn Relay<'d>,
    pub addresses: Vec<SocketAddr>,
    pub is_tls: bool,
}

/// A host that is carried over.
struct Carried<'d> {
    pass: &'d Directive,
    route: Route,
    ca: Option<String>,
    settings: BTreeMap<Key, (Amount, &'d Directive)>,
}

/// What one listener forwards.
struct Table<'d> {
    addresses: Vec<SocketAddr>,
    is_tls: bool,
    directive: &'d Directive,
    hosts: BTreeMap<String, Carried<'d>>,
    /// The relays that forward any of them.
    relays: Vec<&'d Directive>,
    conflicts: BTreeSet<String>,
    redirects: bool,
    notes: Notes,
}

/// A host that no configuration names.
const UNLISTED: &str = "unlisted.example";

/// The relays that are carried over, by their directives.
pub type Kept<'d> = Vec<(&'d Directive, bool)>;

/// Adds what `entrances` forward to `plan`, and returns the relays that are carried over, each with
/// whether it speaks TLS.
pub fn gather<'d>(plan: &mut Plan, entrances: &[Entrance<'_, 'd>], probes: &Probes) -> Kept<'d> {
    let mut tables = Vec::<Table<'d>>::new();
    for entrance in entrances {
        let is_same = |table: &&mut Table<'_>| {
            (&table.addresses, table.is_tls) == (&entrance.addresses, entrance.is_tls)
        };
        match tables.iter_mut().find(is_same) {
            Some(table) => table.add(plan.origin, entrance, probes),
            None => {
                let mut table = Table::new(entrance);
                table.add(plan.origin, entrance, probes);
                tables.push(table);
            }
        }
    }
    tables.iter_mut().for_each(|table| table.finish(plan.origin));
    let order = |position: &usize| {
        let table = &tables[*position];
        (table.is_tls, table.hosts.len(), std::cmp::Reverse(*position))
    };
    let with_hosts = (0..tables.len()).filter(|position| !tables[*position].hosts.is_empty());
    let main = with_hosts.max_by_key(order);
    let mut kept = Kept::new();
    for position in 0..tables.len() {
        let notes = std::mem::take(&mut tables[position].notes);
        let table = &tables[position];
        let main = main.map(|main| &tables[main]);
        let is_kept = main.is_some_and(|main| !table.hosts.is_empty() && table.is_like(main));
        plan.notes.extend(notes, |group| is_kept || group == Group::Elsewhere);
        if is_kept {
            let list = if table.is_tls { &mut plan.https } else { &mut plan.plain };
            list.extend(&table.addresses);
            kept.extend(table.relays.iter().map(|relay| (*relay, table.is_tls)));
        } else if let Some(main) = main.filter(|_| !table.hosts.is_empty()) {
            let why = format!(
                "left out: this listener does not forward the same as {}, and hookgate has one list for all listeners: a \
                 second hookgate with a configuration of its own could serve it",
                main.directive.place
            );
            plan.notes.add(Group::Elsewhere, table.directive, why);
        } else if table.redirects && !table.is_tls {
            plan.http.extend(&table.addresses);
        }
    }
    if let Some(main) = main {
        take_hosts(plan, std::mem::take(&mut tables[main].hosts));
    }
    if probes.is_cut() {
        let why = "there are more conditions on paths than were tried: compare what they refuse by hand";
        entrances.iter().for_each(|entrance| plan.notes.add(Group::Open, entrance.relay.directive(), why));
    }
    kept
}

impl<'d> Table<'d> {
    fn new(entrance: &Entrance<'_, 'd>) -> Self {
        Self {
            addresses: entrance.addresses.clone(),
            is_tls: entrance.is_tls,
            directive: entrance.relay.directive(),
            hosts: BTreeMap::new(),
            relays: Vec::new(),
            conflicts: BTreeSet::new(),
            redirects: false,
            notes: Notes::default(),
        }
    }

    fn add(&mut self, origin: Origin, entrance: &Entrance<'_, 'd>, probes: &Probes) {
        let relay = entrance.relay;
        let follow = |target: &str| {
            let request = Request::new(target, entrance.is_tls);
            outcomes(|assumptions| relay.follow(&request, assumptions))
        };
        let root = follow("/").into_iter().chain(follow("/x/y"));
        self.redirects |=
            root.map(|outcome| outcome.end).any(|end| matches!(end, End::Redirected { to_https: true, .. }));
        let unlisted = probes.targets(UNLISTED).iter().flat_map(|target| follow(target)).collect::<Vec<_>>();
        let mut open = Vec::<&Directive>::new();
        for outcome in &unlisted {
            match &outcome.end {
                End::Forwarded(forward) if !open.contains(&forward.directive) => open.push(forward.directive),
                End::Undecided { directive, why } => {
                    self.notes.add(Group::Elsewhere, directive, format!("left out: {why}"));
                }
                _ => {}
            }
        }
        for directive in &open {
            let why = format!(
                "left out: {} forwards paths here that begin with no host of a list; hookgate forwards only to hosts under \
                 [upstreams]",
                origin.name
            );
            self.notes.add(Group::Elsewhere, directive, why);
        }
        let mut has_host = false;
        for host in &probes.hosts {
            let ways: Vec<(String, Vec<Outcome<'d>>)> = probes
                .targets(host)
                .into_iter()
                .map(|target| {
                    let outcomes = follow(&target);
                    (target, outcomes)
                })
                .collect();
            match carried(origin, host, &ways, &open, &mut self.notes) {
                Some(carried) => {
                    has_host = true;
                    self.insert(host, carried);
                }
                None if forwards(&ways).next().is_some() => drop(self.conflicts.insert(host.clone())),
                None => {}
            }
        }
        if has_host {
            self.relays.push(relay.directive());
        }
    }

    fn insert(&mut self, host: &str, carried: Carried<'d>) {
        match self.hosts.get(host) {
            None => drop(self.hosts.insert(host.to_owned(), carried)),
            Some(known) if (&known.route, &known.ca) == (&carried.route, &carried.ca) => {}
            Some(known) => {
                let why = format!(
                    "left out: this host is forwarded elsewhere too, or under another condition ({})",
                    known.pass.place
                );
                self.notes.add_for(Group::Elsewhere, carried.pass, host, why);
                self.conflicts.insert(host.to_owned());
            }
        }
    }

    fn finish(&mut self, origin: Origin) {
        let conflicts = std::mem::take(&mut self.conflicts);
        self.hosts.retain(|host, _| !conflicts.contains(host));
        if self.relays.len() > 1 {
            let why = format!(
                "{} forwards these hosts under the names of this server alone, hookgate under every name of the relay",
                origin.name
            );
            self.relays.iter().for_each(|relay| self.notes.add(Group::Different, relay, &*why));
        }
    }

    /// Whether it forwards the same hosts to the same places.
    fn is_like(&self, other: &Self) -> bool {
        self.hosts.len() == other.hosts.len()
            && self.hosts.iter().all(|(host, carried)| {
                other
                    .hosts
                    .get(host)
                    .is_some_and(|other| (&other.route, &other.ca) == (&carried.route, &carried.ca))
            })
    }
}

/// The requests of `ways` that are forwarded.
fn forwards<'w, 'd>(
    ways: &'w [(String, Vec<Outcome<'d>>)],
) -> impl Iterator<Item = (&'w str, &'w Outcome<'d>, &'w Forward<'d>)> {
    ways.iter().flat_map(|(target, outcomes)| {
        outcomes.iter().filter_map(move |outcome| match &outcome.end {
            End::Forwarded(forward) => Some((&**target, outcome, &**forward)),
            _ => None,
        })
    })
}

/// The host's entry, if every way of its requests was decided and hookgate does the same.
fn carried<'d>(
    origin: Origin,
    host: &str,
    ways: &[(String, Vec<Outcome<'d>>)],
    open: &[&'d Directive],
    notes: &mut Notes,
) -> Option<Carried<'d>> {
    let ends = || ways.iter().flat_map(|(_, outcomes)| outcomes).map(|outcome| &outcome.end);
    // Where any path is forwarded, one that begins with this host is no request for it.
    let is_for_all =
        forwards(ways).all(|(_, _, forward)| open.iter().any(|pass| std::ptr::eq(*pass, forward.directive)));
    let is_forwarded = forwards(ways).next().is_some();
    if is_forwarded && is_for_all {
        return None;
    }
    let undecided = ends().find_map(|end| match end {
        End::Undecided { directive, why } => Some((*directive, why)),
        _ => None,
    });
    if let Some((directive, why)) = undecided {
        notes.add_for(Group::Elsewhere, directive, host, format!("left out: {why}"));
        return None;
    }
    let mut carried: Option<Carried<'d>> = None;
    let mut told = Vec::new();
    for (target, outcome, forward) in forwards(ways) {
        let compared = compare_target(origin, host, target, &forward.target)
            .and_then(|note| Ok((note, reach(origin, host, forward)?)));
        let (note, (route, more)) = match compared {
            Ok(compared) => compared,
            Err(why) => {
                notes.add_for(Group::Elsewhere, forward.directive, host, format!("left out: {why}"));
                return None;
            }
        };
        if let Some(known) = &carried
            && (&known.route, &known.ca) != (&route, &forward.ca)
        {
            let directive =
                outcome.assumed.last().map_or(forward.directive, |assumption| assumption.directive);
            let why = "left out: some requests for this host are forwarded elsewhere, and hookgate has one destination for all";
            notes.add_for(Group::Elsewhere, directive, host, why);
            return None;
        }
        told.extend(note.into_iter().chain(more).map(|(group, why)| (group, forward.directive, why)));
        told.extend(forward.notes.iter().cloned());
        carried.get_or_insert_with(|| Carried {
            pass: forward.directive,
            route,
            ca: forward.ca.clone(),
            settings: forward
                .settings
                .iter()
                .map(|(key, amount, at)| (*key, (amount.clone(), *at)))
                .collect(),
        });
    }
    let carried = carried?;
    told.into_iter().for_each(|(group, directive, why)| notes.add_for(group, directive, host, why));
    // One path is enough to show what a directive does.
    let mut seen = Vec::new();
    // What was assumed of requests that are forwarded refuses none.
    let harmless: Vec<&Assumption<'d>> =
        forwards(ways).flat_map(|(_, outcome, _)| &outcome.assumed).collect();
    for (target, outcome) in
        ways.iter().flat_map(|(target, outcomes)| outcomes.iter().map(move |o| (target, o)))
    {
        note_closed(origin, host, (target, outcome), carried.pass, &harmless, &mut seen, notes);
    }
    Some(carried)
}

/// Tells why a request is not forwarded, where hookgate forwards it.
fn note_closed<'d>(
    origin: Origin,
    host: &str,
    (target, outcome): (&str, &Outcome<'d>),
    pass: &'d Directive,
    harmless: &[&Assumption<'d>],
    seen: &mut Vec<&'d Directive>,
    notes: &mut Notes,
) {
    // hookgate does not forward what has no slash behind the host either.
    if !target.get(1 + host.len()..).is_some_and(|rest| rest.starts_with('/')) {
        return;
    }
    let (name, shown) = (origin.name, shown(target, host));
    let (group, directive, what) = match &outcome.end {
        End::Forwarded(_) => return,
        End::Answered(directive) => (Group::Elsewhere, *directive, "answers"),
        End::Redirected { directive, .. } => (Group::Elsewhere, *directive, "redirects"),
        End::Refused(directive) => (Group::Open, *directive, "refuses"),
        End::Unhandled | End::Undecided { .. } => (Group::Open, pass, "does not forward"),
    };
    let is_reason = |assumption: &&Assumption<'d>| !harmless.iter().any(|other| other.is_same(assumption));
    let mut reasons = outcome.assumed.iter().filter(is_reason).peekable();
    if group == Group::Elsewhere || reasons.peek().is_none() {
        if !seen.iter().any(|known| std::ptr::eq(*known, directive)) {
            seen.push(directive);
            let when = if outcome.assumed.is_empty() { "" } else { ", at least under a condition" };
            let why = format!("{name} {what} {shown}{when}; hookgate forwards it");
            notes.add_for(group, directive, host, why);
        }
        return;
    }
    for reason in reasons {
        let why =
            format!("{name} refuses requests by this condition, hookgate forwards them: {}", reason.advice);
        notes.add_for(Group::Open, reason.directive, host, why);
    }
}

/// The hosts, and the settings that hold where they are forwarded.
fn take_hosts(plan: &mut Plan, hosts: BTreeMap<String, Carried<'_>>) {
    let keys: BTreeSet<Key> = hosts.values().flat_map(|carried| carried.settings.keys().copied()).collect();
    let mut refused = BTreeSet::new();
    for key in keys {
        let all: Vec<&(Amount, &Directive)> =
            hosts.values().filter_map(|carried| carried.settings.get(&key)).collect();
        let values: BTreeSet<&Amount> = all.iter().map(|(amount, _)| amount).collect();
        let Some(longest) = values.last() else { continue };
        let is_everywhere = all.len() == hosts.len() && values.len() == 1;
        if let Some(why) = values.iter().find_map(|amount| refusal(key, amount)) {
            let why = format!("[{}] {}: {why}", key.0, key.1);
            all.iter().for_each(|(_, directive)| plan.notes.add(Group::Different, directive, &*why));
            refused.insert(key);
            continue;
        }
        if !is_everywhere && key == BODY_BYTES {
            continue;
        }
        if !is_everywhere {
            let why = format!(
                "unlike values where requests are forwarded, and [{}] {} holds for all: {} is taken",
                key.0,
                key.1,
                longest.toml()
            );
            all.iter().for_each(|(_, directive)| plan.notes.add(Group::Different, directive, &*why));
        }
        plan.settings.insert(key, (*longest).clone());
    }
    for (host, carried) in hosts {
        let body_bytes = match carried.settings.get(&BODY_BYTES) {
            Some((Amount::Number(bytes), _))
                if !plan.settings.contains_key(&BODY_BYTES) && !refused.contains(&BODY_BYTES) =>
            {
                Some(*bytes)
            }
            _ => None,
        };
        let ca = carried.ca.filter(|_| carried.route.is_https);
        plan.upstreams.insert(host, Upstream { route: carried.route, body_bytes, ca });
    }
}
