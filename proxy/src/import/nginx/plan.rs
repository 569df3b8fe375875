//! From listeners and what they forward to one configuration, with what cannot be in it told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use super::certificates;
use super::challenges;
use super::directives;
use super::idle::{self, Idle};
use super::listeners::Listener;
use super::probes::Probes;
use super::relay::{Carried, View};
use super::route::NGINX;
use super::scope::{Scope, all_effective};
use super::settings::{Settings, merge, settings};
use super::setup::{Level, Location, Server, Setup, Step};
use crate::import::amount::{Amount, BODY_BYTES, CA, Key};
use crate::import::notes::{Group, Notes};
use crate::import::plan::{Plan, Upstream};
use crate::prefixes::Network;

/// What one listener forwards.
struct Table<'s, 'd> {
    hosts: BTreeMap<String, Carried<'s, 'd>>,
    relays: Vec<&'s Server<'d>>,
    is_open: bool,
    /// Each `proxy_pass` that a request reaches, or is kept from.
    reached: HashSet<usize>,
    notes: Notes,
}

/// Makes a file's path absolute.
pub type Base<'b> = &'b dyn Fn(&str) -> String;

impl Plan {
    /// What becomes of an nginx configuration.
    pub fn of_nginx<'d>(setup: &Setup<'d>, base: Base<'_>) -> Self {
        let mut plan = Self::new(NGINX);
        for (name, directive) in setup.variables.undefined() {
            let why = format!(
                "`${name}` is set nowhere in what was read; in a template, it is filled in before nginx reads the file: \
                 import that file"
            );
            plan.notes.add(Group::Elsewhere, directive, why);
        }
        let probes = Probes::new(setup);
        for directive in &probes.not_ascii {
            let why = "left out: this name is not ASCII, as hosts in URLs are";
            plan.notes.add(Group::Elsewhere, directive, why);
        }
        let listeners = Listener::all(setup, &mut plan.notes);
        let mut tables: Vec<Table<'_, 'd>> =
            listeners.iter().map(|listener| Table::new(setup, listener, &probes)).collect();
        let reached = tables.iter().flat_map(|table| &table.reached).copied().collect();
        for server in &setup.servers {
            let is_here = |listener: &Listener<'_, '_>| {
                listener.servers.iter().any(|other| std::ptr::eq(*other, server))
            };
            if listeners.iter().any(is_here) {
                note_unreached(&server.level, &reached, &mut plan.notes);
            }
        }
        let Some(main) = main_listener(&listeners, &tables) else {
            // Why each host was left out.
            tables
                .into_iter()
                .for_each(|table| plan.notes.extend(table.notes, |group| group == Group::Elsewhere));
            plan.take_idle(setup, &listeners, base);
            return plan;
        };
        let is_kept: Vec<bool> = tables.iter().map(|table| table.is_like(&tables[main])).collect();
        let mut relays = Vec::<(&Server<'d>, bool)>::new();
        for ((listener, table), is_kept) in listeners.iter().zip(&tables).zip(&is_kept) {
            if *is_kept {
                plan.listen(listener);
                relays.extend(table.relays.iter().map(|server| (*server, listener.is_tls)));
            } else if !table.hosts.is_empty() {
                plan.note_dropped(listener, table, &listeners[main], &tables[main]);
            }
        }
        let relaying: HashSet<usize> = relays.iter().map(|(server, _)| address_of(*server)).collect();
        for (table, is_kept) in tables.iter_mut().zip(&is_kept) {
            let is_for_all = |group| *is_kept || group == Group::Elsewhere;
            plan.notes.extend(std::mem::take(&mut table.notes), is_for_all);
        }
        let hosts = std::mem::take(&mut tables[main].hosts);
        plan.take_names(&relays);
        plan.take_proxy_protocol(setup, &listeners, &is_kept, &relays);
        for (server, is_tls) in &relays {
            if *is_tls {
                certificates::take(setup, server, base, &mut plan.pairs, &mut plan.notes);
            }
        }
        plan.take_hosts(setup, hosts, &relays, base);
        plan.note_refusing(setup, &listeners, &is_kept, &relaying);
        plan.take_idle(setup, &listeners, base);
        plan.take_unlike_headers(&listeners);
        if plan.https.is_empty() && plan.plain.is_empty() {
            plan.blocked
                .push("no listener is carried over that forwards requests: write [listen]".to_owned());
        }
        plan
    }

    fn listen(&mut self, listener: &Listener<'_, '_>) {
        let list = if listener.is_tls { &mut self.https } else { &mut self.plain };
        list.extend(&listener.addresses);
        // The kernel gives a port to all addresses of a family, or to single ones.
        let all: Vec<SocketAddr> =
            list.iter().filter(|address| address.ip().is_unspecified()).copied().collect();
        list.retain(|address| {
            let covers =
                |other: &SocketAddr| other.port() == address.port() && other.is_ipv4() == address.is_ipv4();
            address.ip().is_unspecified() || !all.iter().any(covers)
        });
    }

    fn take_names(&mut self, relays: &[(&Server<'_>, bool)]) {
        for name in relays.iter().flat_map(|(server, _)| &server.names) {
            if !matches!(*name, "" | "_") && !self.names.iter().any(|known| known == name) {
                self.names.push((*name).to_owned());
            }
        }
    }

    fn note_dropped(
        &mut self,
        listener: &Listener<'_, '_>,
        table: &Table<'_, '_>,
        main: &Listener<'_, '_>,
        main_table: &Table<'_, '_>,
    ) {
        let why = format!(
            "left out: this listener does not forward the same as {}, and hookgate has one list for all listeners: a second \
             hookgate with a configuration of its own could serve it",
            main.addresses[0]
        );
        let others = table.hosts.keys().filter(|host| !main_table.hosts.contains_key(*host));
        let mut is_told = false;
        for host in others {
            self.notes.add_for(Group::Elsewhere, listener.directive, host, &*why);
            is_told = true;
        }
        if !is_told {
            self.notes.add(Group::Elsewhere, listener.directive, why);
        }
    }

    fn take_proxy_protocol(
        &mut self,
        setup: &Setup<'_>,
        listeners: &[Listener<'_, '_>],
        is_kept: &[bool],
        relays: &[(&Server<'_>, bool)],
    ) {
        let kept =
            || listeners.iter().zip(is_kept).filter(|(_, is_kept)| **is_kept).map(|(listener, _)| listener);
        let with_header: Vec<SocketAddr> =
            kept().flat_map(|listener| &listener.with_proxy_header).copied().collect();
        let mut networks = Vec::new();
        for (server, _) in relays {
            for directive in all_effective(setup, &[&server.level], "set_real_ip_from") {
                match directive.arguments.first().map(|network| network.parse::<Network>()) {
                    Some(Ok(network)) if networks.contains(&network) => {}
                    Some(Ok(network)) => networks.push(network),
                    _ => self.notes.add(Group::Different, directive, "left out: it is no network"),
                }
            }
        }
        if with_header.is_empty() {
            self.has_forwarded_addresses = !networks.is_empty();
            return;
        }
        if networks.is_empty() {
            let why = "[listen] proxy_protocol_from must name the load balancers that send PROXY headers: nginx takes them \
                       from any address";
            self.blocked.push(why.to_owned());
        }
        self.proxy_protocol_from = networks;
    }

    /// Listeners at which PROXY headers are expected here, and were not in nginx.
    fn take_unlike_headers(&mut self, listeners: &[Listener<'_, '_>]) {
        if self.proxy_protocol_from.is_empty() {
            return;
        }
        let has_header = |address: &SocketAddr| {
            listeners.iter().any(|listener| listener.with_proxy_header.contains(address))
        };
        let all = self.https.iter().chain(&self.http).chain(&self.plain);
        self.without_proxy_header = all.filter(|address| !has_header(address)).copied().collect();
    }

    /// The hosts, and the settings that hold where they are forwarded.
    fn take_hosts<'s, 'd>(
        &mut self,
        setup: &Setup<'d>,
        hosts: BTreeMap<String, Carried<'s, 'd>>,
        relays: &[(&'s Server<'d>, bool)],
        base: Base<'_>,
    ) {
        let mut by_scope = HashMap::<usize, Settings<'d>>::new();
        for scope in hosts.values().flat_map(|carried| &carried.scopes) {
            by_scope.entry(scope.key()).or_insert_with(|| {
                let in_force = scope.directives(setup);
                in_force
                    .values()
                    .flatten()
                    .for_each(|directive| directives::note(directive, &mut self.notes));
                settings(&in_force, base, &mut self.notes)
            });
        }
        self.settings = merge(&by_scope, &mut self.notes);
        let authority = certificates::ClientAuthority::new(setup, relays, base, &mut self.notes);
        let mut client_names = None;
        let mut has_unlike_names = false;
        for (host, carried) in hosts {
            let Carried { route, scopes } = carried;
            if route.require_client_cert && !authority.is_for(&scopes) {
                let why = match authority.file() {
                    Some(_) => {
                        "left out: its client certificates have another authority than other hosts', and [tls] client_ca is \
                         one"
                    }
                    None => {
                        "left out: nothing names the authority of its client certificates: write [tls] client_ca"
                    }
                };
                self.notes.add_for(Group::Elsewhere, scopes[0].pass, &host, why);
                continue;
            }
            if route.require_client_cert {
                let known = client_names.get_or_insert_with(|| route.client_names.clone());
                has_unlike_names |= *known != route.client_names;
            }
            let own = |key: Key| {
                let set = scopes.iter().filter_map(|scope| by_scope.get(&scope.key())?.get(&key));
                set.map(|setting| &setting.value).max()
            };
            let body_bytes = match own(BODY_BYTES) {
                Some(Amount::Number(bytes)) if !self.settings.contains_key(&BODY_BYTES) => Some(*bytes),
                _ => None,
            };
            let ca = match own(CA) {
                Some(Amount::File(path)) if route.is_https => Some(path.clone()),
                _ => None,
            };
            self.note_unlike_paths(&host, &scopes, &by_scope);
            self.upstreams.insert(host, Upstream { route, body_bytes, ca });
        }
        if has_unlike_names {
            let why = "nginx compares the names of client certificates for some hosts alone; [tls] client_names holds for all: \
                       write it by hand";
            let server = relays.first().map(|(server, _)| server.directive);
            server.into_iter().for_each(|directive| self.notes.add(Group::Open, directive, why));
        } else {
            self.client_names = client_names.unwrap_or_default();
        }
        self.client_ca = authority.file().filter(|_| !self.https.is_empty()).map(str::to_owned);
    }

    /// Paths of one host for which nginx has unlike limits.
    fn note_unlike_paths(
        &mut self,
        host: &str,
        scopes: &[Scope<'_, '_>],
        by_scope: &HashMap<usize, Settings<'_>>,
    ) {
        for key in [BODY_BYTES, CA] {
            let mut values =
                scopes.iter().map(|scope| by_scope.get(&scope.key()).and_then(|settings| settings.get(&key)));
            let first = values.next().flatten();
            let other =
                values.find(|other| other.map(|other| &other.value) != first.map(|first| &first.value));
            if let Some(setting) = other.and_then(|other| other.or(first)) {
                let why = format!(
                    "it holds for some paths of the host alone; the upstream's {} holds for all",
                    key.1
                );
                self.notes.add_for(Group::Different, setting.directive, host, why);
            }
        }
    }

    /// Servers that refuse every request, beside those that forward.
    fn note_refusing(
        &mut self,
        setup: &Setup<'_>,
        listeners: &[Listener<'_, '_>],
        is_kept: &[bool],
        relaying: &HashSet<usize>,
    ) {
        let kept =
            listeners.iter().zip(is_kept).filter(|(_, is_kept)| **is_kept).map(|(listener, _)| listener);
        for listener in kept {
            for server in listener.servers.iter().filter(|server| !relaying.contains(&address_of(**server))) {
                if idle::kind(setup, listener, server) == Idle::Refuses {
                    let why = "nginx refuses requests for names that lead here; hookgate takes any name and forwards them";
                    self.notes.add(Group::Open, server.directive, why);
                }
            }
        }
    }

    /// Servers that forward nothing: redirects to https, answers to challenges, and what has no
    /// place here.
    fn take_idle(&mut self, setup: &Setup<'_>, listeners: &[Listener<'_, '_>], base: Base<'_>) {
        for listener in listeners {
            let mut is_http = false;
            for server in &listener.servers {
                let webroot = challenges::webroot(server, base, &mut self.notes);
                match (&webroot, &self.webroot) {
                    (Some((folder, directive)), Some(known)) if folder != known => {
                        let why = format!("[acme] webroot is one folder: {known} is carried over");
                        self.notes.add(Group::Elsewhere, directive, why);
                    }
                    (Some((folder, _)), None) => self.webroot = Some(folder.clone()),
                    _ => {}
                }
                let kind = idle::kind(setup, listener, server);
                is_http |= kind == Idle::Redirects || webroot.is_some();
                if server.level.has_pass() {
                    idle::note_answers(server, &mut self.notes);
                } else if kind == Idle::Serves {
                    let why = "left out: this server forwards nothing to a host in the path";
                    self.notes.add(Group::Elsewhere, server.directive, why);
                }
            }
            let is_known =
                |address: &SocketAddr| self.https.contains(address) || self.plain.contains(address);
            if is_http && !listener.is_tls && !listener.addresses.iter().any(is_known) {
                self.http.extend(&listener.addresses);
            }
        }
    }
}

/// What forwards, and was reached by no request that was tried.
fn note_unreached(level: &Level<'_>, reached: &HashSet<usize>, notes: &mut Notes) {
    let in_steps = level.steps.iter().filter_map(|step| match step {
        Step::If { level, .. } => Some(&**level),
        _ => None,
    });
    let is_public =
        |location: &&Location<'_>| location.level.internal.is_none() && !location.name.starts_with('@');
    let in_locations = level.locations.all.iter().filter(is_public).map(|location| &location.level);
    in_steps.chain(in_locations).for_each(|inside| note_unreached(inside, reached, notes));
    if let Some(pass) = level.pass.as_ref().filter(|pass| !reached.contains(&address_of(pass.directive))) {
        let why = "left out: none of the requests that were tried is forwarded here: compare it by hand";
        notes.add(Group::Elsewhere, pass.directive, why);
    }
}

/// The same for the same value.
fn address_of<T>(value: &T) -> usize {
    std::ptr::from_ref(value).addr()
}

/// The listener whose hosts are carried over: one on the Internet, with TLS, with most hosts.
fn main_listener(listeners: &[Listener<'_, '_>], tables: &[Table<'_, '_>]) -> Option<usize> {
    let with_hosts = (0..listeners.len()).filter(|position| !tables[*position].hosts.is_empty());
    with_hosts.max_by_key(|position| {
        let (listener, table) = (&listeners[*position], &tables[*position]);
        let order = std::cmp::Reverse(*position);
        (!table.is_open, listener.is_public(), listener.is_tls, table.hosts.len(), order)
    })
}

impl<'s, 'd> Table<'s, 'd> {
    fn new(setup: &'s Setup<'d>, listener: &Listener<'s, 'd>, probes: &Probes<'d>) -> Self {
        let mut table = Self {
            hosts: BTreeMap::new(),
            relays: Vec::new(),
            is_open: false,
            reached: HashSet::new(),
            notes: Notes::default(),
        };
        let mut conflicts = HashSet::new();
        for (number, server) in listener.servers.iter().enumerate() {
            if !server.level.has_pass() {
                continue;
            }
            let (is_tls, port) = (listener.is_tls, listener.port);
            let view = View { setup, server, is_tls, port, is_default: number == 0 };
            let relayed = view.relayed(probes, &mut table.notes);
            table.is_open |= relayed.is_open;
            table.reached.extend(relayed.reached);
            conflicts.extend(relayed.left_out);
            if !relayed.hosts.is_empty() {
                table.relays.push(server);
            }
            for (host, carried) in relayed.hosts {
                table.add(host, carried, &mut conflicts);
            }
        }
        table.hosts.retain(|host, _| !conflicts.contains(host));
        table.note_names(setup, listener);
        table
    }

    fn add(&mut self, host: String, carried: Carried<'s, 'd>, conflicts: &mut HashSet<String>) {
        match self.hosts.get_mut(&host) {
            None => drop(self.hosts.insert(host, carried)),
            Some(known) if known.route == carried.route => known.scopes.extend(carried.scopes),
            Some(known) => {
                let why = format!(
                    "left out: another server forwards this host elsewhere, or under another condition ({})",
                    known.scopes[0].pass.place
                );
                self.notes.add_for(Group::Elsewhere, carried.scopes[0].pass, &host, why);
                conflicts.insert(host);
            }
        }
    }

    /// Hosts that nginx forwards under the names of some servers alone.
    fn note_names(&mut self, setup: &Setup<'d>, listener: &Listener<'s, 'd>) {
        let why = "nginx forwards these hosts under the names of this server alone, hookgate under every name of the relay";
        let serves = |server: &Server<'d>| {
            server.level.has_pass() || idle::kind(setup, listener, server) == Idle::Serves
        };
        for server in &self.relays {
            let others: Vec<usize> = listener
                .servers
                .iter()
                .filter(|other| !std::ptr::eq(**other, *server) && serves(other))
                .map(|other| address_of(&other.level))
                .collect();
            for (host, carried) in &self.hosts {
                let levels: Vec<usize> = carried
                    .scopes
                    .iter()
                    .filter_map(|scope| Some(address_of(*scope.levels.first()?)))
                    .collect();
                let is_here = levels.contains(&address_of(&server.level));
                if is_here && others.iter().any(|other| !levels.contains(other)) {
                    self.notes.add_for(Group::Different, server.directive, host, why);
                }
            }
        }
    }

    /// Whether it forwards the same hosts to the same places.
    fn is_like(&self, other: &Self) -> bool {
        let routes = |table: &Self| table.hosts.len();
        routes(self) == routes(other)
            && self.hosts.iter().all(|(host, carried)| {
                other.hosts.get(host).is_some_and(|other| other.route == carried.route)
            })
    }
}
