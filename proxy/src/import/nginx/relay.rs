//! What hookgate can take over of one server: the hosts for which it would do the same.

use std::collections::{HashMap, HashSet};

use super::destination::{Peer, resolve};
use super::evaluate::{ClientCertificate, End, Forward, Outcome, Request, outcomes};
use super::probes::Probes;
use super::route::{self, NGINX};
use super::scope::{Scope, effective};
use super::setup::{Server, Setup};
use super::words::Word;
use crate::import::directive::Directive;
use crate::import::forward::{compare_target, shown};
use crate::import::notes::{Group, Notes};
use crate::import::plan::Route;

/// One server as it is reached by one listener.
#[derive(Clone, Copy, Debug)]
pub struct View<'s, 'd> {
    pub setup: &'s Setup<'d>,
    pub server: &'s Server<'d>,
    pub is_tls: bool,
    pub port: u16,
    /// Whether requests with other names come here too.
    pub is_default: bool,
}

/// A host that is carried over, and the blocks that its requests pass through.
#[derive(Debug)]
pub struct Carried<'s, 'd> {
    pub route: Route,
    pub scopes: Vec<Scope<'s, 'd>>,
}

/// What a server forwards.
#[derive(Debug, Default)]
pub struct Relayed<'s, 'd> {
    pub hosts: Vec<(String, Carried<'s, 'd>)>,
    /// Hosts that nginx forwards, and hookgate must not.
    pub left_out: Vec<String>,
    /// nginx forwards to hosts that nothing names.
    pub is_open: bool,
    /// Each `proxy_pass` that a request reaches, or is kept from.
    pub reached: HashSet<usize>,
}

/// How many hosts are tried behind another first segment.
const MAX_MISPLACED_HOSTS: usize = 1000;
/// A host that no configuration names.
const UNLISTED: &str = "unlisted.example";

impl<'s, 'd> View<'s, 'd> {
    /// Every host that is carried over, in order.
    pub fn relayed(&self, probes: &Probes<'d>, notes: &mut Notes) -> Relayed<'s, 'd> {
        let (mut hosts, mut left_out) = (Vec::new(), Vec::new());
        let mut reached = HashSet::new();
        let mut blockers = HashMap::new();
        let seen = Seen::new(self, UNLISTED, probes);
        reached.extend(seen.reached());
        for (directive, why) in &seen.undecided {
            notes.add(Group::Elsewhere, directive, format!("left out: {why}"));
        }
        let unlisted = self.forwards(UNLISTED, probes);
        let open = unlisted.iter().filter(|forward| self.note_unlisted(forward, notes));
        let open: Vec<&Directive> = open.map(|forward| forward.pass).collect();
        let is_in =
            |passes: &[&Directive], pass: &Directive| passes.iter().any(|known| std::ptr::eq(*known, pass));
        let for_all: Vec<&Directive> = unlisted.iter().map(|forward| forward.pass).collect();
        for host in &probes.hosts {
            let seen = Seen::new(self, host, probes);
            reached.extend(seen.reached());
            // Where any path is forwarded, one that begins with this host is no request for it.
            let is_for_all = |forward: &Forward<'s, 'd>| {
                let keeps_host =
                    forward.target.strip_prefix('/').is_some_and(|rest| rest.starts_with(&**host));
                is_in(&open, forward.pass) || keeps_host && is_in(&for_all, forward.pass)
            };
            if !seen.forwards.is_empty() && seen.forwards.iter().all(|seen| is_for_all(&seen.forward)) {
                continue;
            }
            if seen.forwards.is_empty() {
                seen.note_refusal(host, notes);
            } else if let Some(carried) = self.carried(host, &seen, &mut blockers, notes) {
                hosts.push((host.clone(), carried));
            } else {
                left_out.push(host.clone());
            }
        }
        let own = hosts.iter().map(|(host, _)| &**host).collect();
        self.note_misplaced(probes, &own, &mut reached, notes);
        self.note_invented(&for_all, probes, &mut reached, notes);
        Relayed { hosts, left_out, is_open: !open.is_empty(), reached }
    }

    /// `ssl_verify_client`, where there is TLS.
    pub fn verify_client(&self) -> &'d str {
        let setting = self.is_tls.then(|| effective(self.setup, &[&self.server.level], "ssl_verify_client"));
        setting.flatten().and_then(|directive| directive.arguments.first()).map_or("off", String::as_str)
    }

    fn certificate(&self) -> ClientCertificate {
        match self.verify_client() {
            "on" | "optional" | "optional_no_ca" => ClientCertificate::Verified,
            _ => ClientCertificate::NotAsked,
        }
    }

    /// All that may become of a request.
    pub fn outcomes(&self, target: &str, certificate: ClientCertificate) -> Vec<Outcome<'s, 'd>> {
        let is_plain =
            |name: &&str| !name.is_empty() && !name.starts_with(['~', '.', '*']) && !name.ends_with('*');
        let host = match &*self.server.names {
            [name] if !self.is_default => Some(*name).filter(is_plain),
            _ => None,
        };
        let (is_tls, port) = (self.is_tls, self.port);
        outcomes(self.setup, self.server, Request { target, is_tls, port, certificate, host })
    }

    fn carried(
        &self,
        host: &str,
        seen: &Seen<'s, 'd>,
        blockers: &mut HashMap<usize, Option<&'d Directive>>,
        notes: &mut Notes,
    ) -> Option<Carried<'s, 'd>> {
        let first = &seen.forwards.first()?.forward;
        let mut leave_out = |directive: &'d Directive, why: &str| {
            notes.add_for(Group::Elsewhere, directive, host, format!("left out: {why}"));
        };
        if let Some((directive, why)) = seen.undecided.first() {
            leave_out(directive, why);
            return None;
        }
        let prefix = format!("/{host}/");
        if !seen.forwards.iter().any(|seen| seen.target.starts_with(&prefix)) {
            leave_out(
                first.pass,
                "nginx forwards /HOST itself, and hookgate what begins with /HOST/: write the whole path at Meta, and the host \
                 under [upstreams] by hand",
            );
            return None;
        }
        let mut scopes: Vec<Scope<'s, 'd>> = Vec::new();
        for SeenForward { forward, .. } in &seen.forwards {
            let scope = Scope { pass: forward.pass, levels: forward.levels.clone() };
            let blocker = blockers.entry(scope.key()).or_insert_with(|| route::blocker(self.setup, &scope));
            if let Some(directive) = blocker {
                leave_out(directive, "hookgate sends a request as it came, and shows no client certificate");
                return None;
            }
            if scopes.iter().all(|known| known.key() != scope.key()) {
                scopes.push(scope);
            }
        }
        let reached = match route::reach(self.setup, host, first) {
            Ok(reached) => reached,
            Err(why) => {
                leave_out(first.pass, &why);
                return None;
            }
        };
        for SeenForward { target, forward, .. } in &seen.forwards {
            let is_same = forward.url.is_https == first.url.is_https
                && (&forward.url.host, forward.url.port) == (&first.url.host, first.url.port)
                && (&forward.host_field, &forward.server_name) == (&first.host_field, &first.server_name);
            let compared = match is_same {
                true => compare_target(NGINX, host, target, &forward.target),
                false => Err(format!("{} goes elsewhere than other paths", shown(target, host))),
            };
            if let Err(why) = compared {
                leave_out(forward.pass, &why);
                return None;
            }
        }
        let (require_client_cert, client_names) = self.client_requirement(host, seen, notes);
        reached.notes.iter().for_each(|(group, directive, why)| notes.add(*group, directive, *why));
        seen.note_differences(host, self.setup, notes);
        Some(Carried { route: Route { require_client_cert, client_names, ..reached.route }, scopes })
    }

    /// Whether a client certificate is needed, and which names it may have.
    fn client_requirement(&self, host: &str, seen: &Seen<'s, 'd>, notes: &mut Notes) -> (bool, Vec<String>) {
        if self.certificate() == ClientCertificate::NotAsked {
            return (false, Vec::new());
        }
        let forwards_without = |target: &str| {
            let outcomes = self.outcomes(target, ClientCertificate::Missing);
            outcomes.iter().any(|outcome| matches!(outcome.end, End::Forwarded(_)))
        };
        let (mut with, mut without) = (0, 0);
        if self.verify_client() == "on" {
            with = 1;
        } else if self.setup.variables.has_client_certificate() {
            for SeenForward { target, .. } in &seen.forwards {
                *(if forwards_without(target) { &mut without } else { &mut with }) += 1;
            }
        }
        let pass = seen.forwards[0].forward.pass;
        if with > 0 && without > 0 {
            let why =
                "nginx asks for a client certificate on some paths; here require_client_cert holds for all";
            notes.add_for(Group::Elsewhere, pass, host, why);
        }
        let mut names = seen.forwards.iter().map(|seen| seen.client_names.clone().unwrap_or_default());
        let first = names.next().unwrap_or_default();
        if names.any(|names| names != first) {
            let why =
                "nginx compares the client certificate's name on some paths alone, and hookgate on none";
            notes.add_for(Group::Open, pass, host, why);
            return (with > 0, Vec::new());
        }
        (with > 0, first)
    }

    /// Hosts that nginx reads from another segment than the first. `own`: hosts that are first
    /// segments.
    fn note_misplaced(
        &self,
        probes: &Probes<'d>,
        own: &HashSet<&str>,
        reached: &mut HashSet<usize>,
        notes: &mut Notes,
    ) {
        let mut told: Option<&Directive> = None;
        for (path, directive) in &probes.misplaced {
            let first = path[1..].split('/').next().unwrap_or_default();
            if own.contains(first) || told.is_some_and(|told| std::ptr::eq(told, *directive)) {
                continue;
            }
            let forwards = |host: &str| -> Vec<Box<Forward<'s, 'd>>> {
                let outcomes = self.outcomes(&Word::with_host(path, host), self.certificate());
                let forward = |outcome: Outcome<'s, 'd>| match outcome.end {
                    End::Forwarded(forward) => Some(forward),
                    _ => None,
                };
                outcomes.into_iter().filter_map(forward).collect()
            };
            let unlisted = forwards(UNLISTED);
            // A path that is forwarded whatever stands there is a server's own.
            let mut is_forwarded = |host: &str| {
                let mut found = forwards(host);
                found.retain(|found| unlisted.is_empty() || leads_to_listed(self.setup, host, found));
                reached.extend(found.iter().map(|found| std::ptr::from_ref(found.pass).addr()));
                !found.is_empty()
            };
            let why = || {
                format!(
                    "left out: nginx forwards {}, and hookgate reads the host from the first segment: change the URLs at \
                     Meta to /HOST/…, and write the hosts under [upstreams] by hand",
                    Word::with_host(path, "HOST")
                )
            };
            if is_forwarded(UNLISTED) {
                notes.add(Group::Elsewhere, directive, why());
                told = Some(directive);
                continue;
            }
            let invented = probes.invented.iter().take(MAX_MISPLACED_HOSTS).map(|(host, _)| host);
            let hosts = probes.hosts.iter().take(MAX_MISPLACED_HOSTS).chain(invented);
            let hosts = hosts.filter(|host| first != *host);
            for host in hosts {
                if is_forwarded(host) {
                    notes.add_for(Group::Elsewhere, directive, host, why());
                    told = Some(directive);
                }
            }
        }
    }

    /// Where requests for a host go, one for each `proxy_pass`.
    fn forwards(&self, host: &str, probes: &Probes<'d>) -> Vec<Forward<'s, 'd>> {
        let mut forwards: Vec<Forward<'s, 'd>> = Vec::new();
        for target in probes.paths(host) {
            for outcome in self.outcomes(&target, self.certificate()) {
                let End::Forwarded(forward) = outcome.end else { continue };
                if forwards.iter().all(|known| !std::ptr::eq(known.pass, forward.pass)) {
                    forwards.push(*forward);
                }
            }
        }
        forwards
    }

    /// Requests for a host that nothing names are forwarded; whether to that host.
    fn note_unlisted(&self, forward: &Forward<'s, 'd>, notes: &mut Notes) -> bool {
        let is_open = leads_to_listed(self.setup, UNLISTED, forward);
        let why = if is_open {
            "left out: nginx forwards to any host that a URL names, and hookgate to those under [upstreams] alone: write \
             each that is meant"
        } else if forward.target.contains(UNLISTED) {
            "left out: nginx forwards paths here that begin with no host, and hookgate answers them 403 or 404"
        } else {
            "left out: nginx forwards paths here whatever they begin with, and hookgate those that begin with a host under \
             [upstreams]: write each that is meant"
        };
        notes.add(Group::Elsewhere, forward.pass, why);
        is_open
    }

    /// Patterns that stand for more hosts than they name. `for_all`: where any path is forwarded.
    fn note_invented(
        &self,
        for_all: &[&'d Directive],
        probes: &Probes<'d>,
        reached: &mut HashSet<usize>,
        notes: &mut Notes,
    ) {
        for directive in &probes.too_many {
            let why = "this stands for more texts than can be tried: compare [upstreams] with it by hand";
            notes.add(Group::Elsewhere, directive, why);
        }
        for (host, directive) in probes.invented.iter().filter(|(host, _)| !probes.hosts.contains(host)) {
            let forwards = self.forwards(host, probes);
            reached.extend(forwards.iter().map(|forward| std::ptr::from_ref(forward.pass).addr()));
            let is_for_all = |pass| for_all.iter().any(|known| std::ptr::eq(*known, pass));
            if forwards.iter().any(|forward| !is_for_all(forward.pass)) {
                let why = "left out: this stands for more hosts than it names, and hookgate compares whole names: write \
                           each under [upstreams]";
                notes.add(Group::Elsewhere, directive, why);
            }
        }
    }
}

/// Whether a request for `host` behind another first segment is one for a tenant, not for a
/// server's own path.
fn leads_to_listed(setup: &Setup<'_>, host: &str, forward: &Forward<'_, '_>) -> bool {
    let is_host = |text: &str| text.eq_ignore_ascii_case(host);
    match resolve(&forward.url, &setup.groups).0 {
        Ok(Peer::Name { name, .. }) if is_host(&name) => true,
        _ => forward.host_field.as_deref().is_some_and(is_host),
    }
}

/// What was seen of one host.
struct Seen<'s, 'd> {
    forwards: Vec<SeenForward<'s, 'd>>,
    /// Paths that are not forwarded, and why.
    closed: Vec<(String, End<'s, 'd>)>,
    /// Conditions that stop some requests for a path, and whether they refuse them.
    guards: Vec<(&'d Directive, bool)>,
    undecided: Vec<(&'d Directive, &'static str)>,
}

struct SeenForward<'s, 'd> {
    target: String,
    forward: Box<Forward<'s, 'd>>,
    /// The names that the client's certificate must have.
    client_names: Option<Vec<String>>,
}

impl<'s, 'd> Seen<'s, 'd> {
    fn new(view: &View<'s, 'd>, host: &str, probes: &Probes<'d>) -> Self {
        let mut seen =
            Self { forwards: Vec::new(), closed: Vec::new(), guards: Vec::new(), undecided: Vec::new() };
        for target in probes.paths(host) {
            let outcomes = view.outcomes(&target, view.certificate());
            seen.add(&target, outcomes);
        }
        seen
    }

    /// Each `proxy_pass` that a request reaches, or is kept from.
    fn reached(&self) -> impl Iterator<Item = usize> {
        let address = |directive: &Directive| std::ptr::from_ref(directive).addr();
        let forwarded = self.forwards.iter().map(move |seen| address(seen.forward.pass));
        let undecided = self.undecided.iter().map(move |(directive, _)| address(directive));
        let refused = self.closed.iter().filter_map(move |(_, end)| match end {
            End::Refused(refusal) => {
                let location = refusal.before_pass_in?;
                location.block.iter().flatten().find(|inside| inside.name == "proxy_pass").map(address)
            }
            _ => None,
        });
        forwarded.chain(undecided).chain(refused)
    }

    fn add(&mut self, target: &str, outcomes: Vec<Outcome<'s, 'd>>) {
        let has_forward = outcomes.iter().any(|outcome| matches!(outcome.end, End::Forwarded(_)));
        for Outcome { end, assumed } in outcomes {
            let named = assumed.iter().rev().find(|assumed| assumed.certificate_names.is_some());
            let target = target.to_owned();
            match end {
                End::Forwarded(forward) => {
                    let client_names = named.filter(|named| named.holds);
                    let client_names = client_names.and_then(|named| named.certificate_names.clone());
                    self.forwards.push(SeenForward { target, forward, client_names });
                }
                End::Undecided { directive, why } => self.undecided.push((directive, why)),
                // Another name's certificate is refused here too.
                _ if named.is_some_and(|named| !named.holds) => {}
                end if has_forward => {
                    let is_refusal = matches!(end, End::Refused(_));
                    self.guards.extend(assumed.last().map(|assumed| (assumed.directive, is_refusal)));
                }
                end => self.closed.push((target, end)),
            }
        }
    }

    /// Why nothing is forwarded, where that is worth telling.
    fn note_refusal(&self, host: &str, notes: &mut Notes) {
        if let Some((directive, why)) = self.undecided.first() {
            return notes.add_for(Group::Elsewhere, directive, host, format!("left out: {why}"));
        }
        let is_named = |location: &Directive| {
            location
                .arguments
                .last()
                .is_some_and(|name| name.replace('\\', "").to_ascii_lowercase().contains(host))
        };
        let refusal = self.closed.iter().find_map(|(_, end)| match end {
            End::Refused(refusal) if refusal.before_pass_in.is_some_and(is_named) => refusal.directive,
            _ => None,
        });
        if let Some(directive) = refusal {
            let why = "left out: nginx refuses these requests here, before its proxy_pass";
            notes.add_for(Group::Elsewhere, directive, host, why);
        }
    }

    /// What is otherwise for a host that is carried over.
    fn note_differences(&self, host: &str, setup: &Setup<'d>, notes: &mut Notes) {
        let pass = self.forwards[0].forward.pass;
        for (directive, is_refusal) in &self.guards {
            let (group, why) = match is_refusal {
                true => (Group::Open, route::open_guard(setup, directive)),
                false => (
                    Group::Elsewhere,
                    "nginx answers some requests here by itself; hookgate forwards them".into(),
                ),
            };
            notes.add_for(group, directive, host, why);
        }
        let prefix = format!("/{host}/");
        let mut told: Vec<Option<usize>> = Vec::new();
        for (target, end) in self.closed.iter().filter(|(target, _)| target.starts_with(&prefix)) {
            let (group, directive, what) = match end {
                End::Refused(refusal) => (Group::Open, refusal.directive, "refuses"),
                End::Redirected { directive, .. } => (Group::Elsewhere, Some(*directive), "redirects"),
                End::Answered { directive } => (Group::Elsewhere, Some(*directive), "answers by itself"),
                End::Forwarded(_) | End::Undecided { .. } => continue,
            };
            let key = directive.map(|directive| std::ptr::from_ref(directive).addr());
            if told.contains(&key) {
                continue;
            }
            told.push(key);
            let why =
                format!("nginx {what} {}; hookgate forwards every path below /HOST/", shown(target, host));
            notes.add_for(group, directive.unwrap_or(pass), host, why);
        }
        for SeenForward { target, forward, .. } in &self.forwards {
            // One that differs in more was left out.
            let compared = compare_target(NGINX, host, target, &forward.target);
            if let Ok(Some((group, why))) = compared {
                notes.add_for(group, forward.pass, host, why);
            }
        }
    }
}
