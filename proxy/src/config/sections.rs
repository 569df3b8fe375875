//! One function a section: reads its keys, checks them, fills in the contract's defaults.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::document::{Document, Problem, Section};
use super::host_lines::HostLines;
use super::key::Key;
use super::upstream_names::UpstreamNames;
use super::value::{
    again, auto_or_number, boolean, checked, duration, free_address, network, number, one_of, path, port,
    share, text,
};
use super::{
    Acme, Admin, BodyLimit, Config, Confine, Dns, Guard, Insight, Interfaces, Ktls, Limit, Limits, Listen,
    Log, LogFormat, Mode, Pair, Prefixes, Process, Relay, Scheme, Timeouts, Tls, XdpMode, acme, dns,
    prefixes, upstreams,
};

const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;
const INSIGHT_STATE: &str = "/var/lib/hookgate/insight";

/// What a main file means.
pub(super) struct Meaning {
    /// What could not be read stands at its default, and is among the problems.
    pub(super) config: Config,
    /// Where each of the certificate pairs is written: the table of its `cert` and `key`.
    pub(super) pairs: Vec<Key>,
    /// The upstreams that are named.
    pub(super) named: UpstreamNames,
    pub(super) problems: Vec<Problem>,
    /// False: nothing of the configuration can be relied on.
    pub(super) is_toml: bool,
}

/// The whole of `text`.
pub(super) fn meaning(file: &Path, text: &str) -> Meaning {
    repeated_lines_apart(file, text).unwrap_or_else(|| of_tree(file, text))
}

/// The same with a tree of less. `None`: there is nothing to save, or something is wrong, which the
/// whole tree tells exactly.
fn repeated_lines_apart(file: &Path, text: &str) -> Option<Meaning> {
    let lines = HostLines::of(text)?;
    let mut meaning = of_tree(file, &lines.rest);
    if !meaning.problems.is_empty() {
        return None;
    }
    let upstreams = std::mem::take(&mut meaning.config.upstreams);
    meaning.config.upstreams = lines.add_to(file, upstreams, &mut meaning.named)?;
    Some(meaning)
}

pub(super) fn of_tree(file: &Path, text: &str) -> Meaning {
    let document = Document::new(file, text);
    let table = document.parse();
    let (config, pairs, named) = Reading::of(&document, file, &table).config();
    Meaning { config, pairs, named, is_toml: document.is_toml(), problems: document.into_problems() }
}

/// The keys that the code knows, as `section.key`.
#[cfg(test)]
pub(super) fn known_keys(text: &str) -> Vec<String> {
    let file = Path::new("hookgate.toml");
    let document = Document::new(file, text);
    let table = document.parse();
    let mut reading = Reading::of(&document, file, &table);
    reading.read();
    reading.known
}

struct Reading<'d> {
    top: Section<'d>,
    /// What relative paths count from.
    base: &'d Path,
    known: Vec<String>,
    /// Where https is listened on, if it is.
    https_at: Option<Range<usize>>,
    /// Where each of the certificate pairs is written.
    pairs_at: Vec<Key>,
    /// The upstreams that are named.
    named: UpstreamNames,
    /// What was read so far of all addresses to listen on.
    listened: RefCell<Vec<SocketAddr>>,
}

impl<'d> Reading<'d> {
    fn of(
        document: &'d Document<'d>,
        file: &'d Path,
        table: &'d toml::Spanned<toml::de::DeTable<'d>>,
    ) -> Self {
        let base = file.parent().unwrap_or(Path::new(""));
        Self {
            top: Section::top(document, table),
            base,
            known: Vec::new(),
            https_at: None,
            pairs_at: Vec::new(),
            named: UpstreamNames::default(),
            listened: RefCell::default(),
        }
    }

    fn config(mut self) -> (Config, Vec<Key>, UpstreamNames) {
        let config = self.read();
        self.top.finish();
        (config, self.pairs_at, self.named)
    }

    fn read(&mut self) -> Config {
        let listen = self.listen();
        let acme = self.acme(&listen);
        let (tls, ktls) = self.tls(acme.as_ref());
        let (guard, prefixes) = self.guard(acme.as_ref(), &listen);
        Config {
            tls,
            ktls,
            acme,
            dns: self.dns(),
            upstreams: upstreams::section(self.top.section("upstreams"), self.base, &mut self.named),
            relay: self.relay(),
            prefixes,
            guard,
            insight: self.insight(),
            admin: self.admin(),
            process: self.process(),
            timeouts: self.timeouts(),
            limits: self.limits(),
            log: self.log(),
            listen,
        }
    }

    fn finish(&mut self, section: Section<'_>) {
        self.known.extend(section.finish());
    }

    fn listen(&mut self) -> Listen {
        let mut section = self.top.section("listen");
        let https = section.list("https", free_address(&self.listened));
        let plain = section.list("plain", free_address(&self.listened));
        let http = section.list("http", free_address(&self.listened));
        let proxy_protocol_from = section.list("proxy_protocol_from", network).unwrap_or_default();
        let scheme = one_of(&[("http", Scheme::Http), ("https", Scheme::Https)]);
        let plain_scheme = section.value("plain_scheme", scheme).unwrap_or_default();
        let is_off = |(key, list): (&str, &Option<Vec<SocketAddr>>)| {
            !section.seems_to_have(key) || list.as_ref().is_some_and(Vec::is_empty)
        };
        if [("https", &https), ("plain", &plain), ("http", &http)].into_iter().all(is_off)
            && (section.is_present() || !self.top.seems_to_have("listen"))
        {
            section.problem("https", "no listener at all: write https = [\"0.0.0.0:443\", \"[::]:443\"]");
        }
        let https = https.unwrap_or_default();
        self.https_at = (!https.is_empty()).then(|| section.span_of("https"));
        let plain = plain.unwrap_or_default();
        let http = http.unwrap_or_default();
        let listen = Listen { https, http, plain, plain_scheme, proxy_protocol_from };
        self.finish(section);
        listen
    }

    fn tls(&mut self, acme: Option<&Acme>) -> (Option<Tls>, Ktls) {
        let is_automatic = acme.is_some_and(|acme| !acme.domains.is_empty());
        let mut section = self.top.section("tls");
        let wants_automatic = is_automatic || section.document().is_wrong("acme.domains");
        let mut pairs = Vec::new();
        let mut add = |pair, at: fn(usize) -> Key, number| {
            self.pairs_at.extend(Option::is_some(&pair).then(|| at(number)));
            pairs.extend(pair);
        };
        add(pair(&mut section, self.base), |_| Key::new("tls"), 0);
        for (number, mut more) in section.tables("certs").into_iter().enumerate() {
            add(pair(&mut more, self.base), |number| Key::new("tls.certs").element(number), number);
            if !(more.has("cert") && more.has("key")) {
                more.problem("cert", "a pair needs both cert and key");
            }
            more.finish();
        }
        let tls = Tls {
            pairs,
            client_ca: section.value("client_ca", path(self.base)),
            client_crl: section.value("client_crl", path(self.base)),
            client_names: section.list("client_names", certificate_name).unwrap_or_default(),
        };
        let ktls = section
            .value("ktls", one_of(&[("auto", Ktls::Auto), ("always", Ktls::Always), ("off", Ktls::Off)]))
            .unwrap_or_default();
        let missing = ["cert", "key"].into_iter().find(|key| !section.seems_to_have(key));
        let needs_no_pair = section.has("certs") || wants_automatic;
        let has_none = !section.has("cert") && !section.has("key");
        // For upstreams it matters without a certificate of our own, too.
        let only_ktls = self.https_at.is_none()
            && section.has("ktls")
            && !["cert", "key", "certs", "client_ca"].iter().any(|key| section.has(key));
        let needs_pair = section.is_present() && !(needs_no_pair && has_none) && !only_ktls;
        if let Some(missing) = missing.filter(|_| needs_pair) {
            section.problem(missing, "missing: [tls] needs both cert and key");
        } else if let Some(https_at) =
            self.https_at.clone().filter(|_| !section.is_present() && !self.top.has("acme"))
        {
            let message = "needs a certificate: add [tls] with cert and key, or [acme] with domains";
            section.document().problem(https_at, Some("listen.https".into()), message.into());
        }
        for key in ["client_names", "client_crl"] {
            if section.has(key) && !section.has("client_ca") {
                section.problem(key, "client certificates are only asked for with client_ca; write it");
            }
        }
        self.finish(section);
        ((is_automatic || !tls.pairs.is_empty()).then_some(tls), ktls)
    }

    fn acme(&mut self, listen: &Listen) -> Option<Acme> {
        let mut section = self.top.section("acme");
        let acme = acme::keys(&mut section, self.base, listen);
        let present = section.is_present();
        self.finish(section);
        present.then_some(acme)
    }

    fn dns(&mut self) -> Dns {
        let mut section = self.top.section("dns");
        let dns = dns::keys(&mut section);
        self.finish(section);
        dns
    }

    fn relay(&mut self) -> Relay {
        let mut section = self.top.section("relay");
        let name = section.value("name", checked);
        self.finish(section);
        Relay { name: name.unwrap_or_default() }
    }

    fn guard(&mut self, acme: Option<&Acme>, listen: &Listen) -> (Option<Guard>, Prefixes) {
        let mut section = self.top.section("guard");
        let interfaces = interfaces(&mut section);
        let ports = section.list("ports", port);
        if ports.as_ref().is_some_and(Vec::is_empty) {
            section.problem("ports", "at least one");
        }
        let mut limit = section.section("limit");
        let guard = Guard {
            interfaces,
            ports: ports.unwrap_or_else(|| vec![443]),
            mode: section
                .value(
                    "mode",
                    one_of(&[("observe", Mode::Observe), ("limit", Mode::Limit), ("strict", Mode::Strict)]),
                )
                .unwrap_or(Mode::Observe),
            limit: Limit {
                syn_per_second: limit.value("syn_per_second", number(1..=1_000_000)).unwrap_or(20),
                burst: limit.value("burst", number(1..=1_000_000)).unwrap_or(40),
            },
            allow: section.list("allow", network).unwrap_or_default(),
            xdp: section
                .value(
                    "xdp",
                    one_of(&[
                        ("auto", XdpMode::Auto),
                        ("native", XdpMode::Native),
                        ("tc", XdpMode::Tc),
                        ("generic", XdpMode::Generic),
                    ]),
                )
                .unwrap_or(XdpMode::Auto),
            pin: section.value("pin", checked).unwrap_or_default(),
        };
        if let Some(acme) = acme.filter(|_| guard.mode == Mode::Strict)
            && let Some(port) =
                acme.challenge.ports(listen).into_iter().find(|port| guard.ports.contains(port))
        {
            let message = format!(
                "\"strict\" would drop the certificate authority, whose {} challenge comes to port {port}: \
                 take that out of ports, or use \"limit\"",
                acme.challenge
            );
            section.problem("mode", &message);
        }
        let prefixes = prefixes::keys(&mut section, self.base);
        if section.is_present() && !section.seems_to_have("interfaces") {
            let message = "which interfaces shall be guarded? write interfaces = \"auto\" (those of the default \
                           routes), or [\"eth0\"]";
            section.problem("interfaces", message);
        }
        let present = section.is_present();
        self.finish(limit);
        self.finish(section);
        (present.then_some(guard), prefixes)
    }

    fn insight(&mut self) -> Insight {
        let mut section = self.top.section("insight");
        let state = section.value("state", path(self.base)).unwrap_or_else(|| INSIGHT_STATE.into());
        let messages = section.value("messages", boolean).unwrap_or(true);
        let ledger = section.value("ledger", number(100..=20_000_000)).unwrap_or(1_000_000);
        self.finish(section);
        Insight { state, messages, ledger: usize::try_from(ledger).unwrap_or(usize::MAX) }
    }

    fn process(&mut self) -> Process {
        let mut section = self.top.section("process");
        let user = section.value("user", |user| text(user).map(str::to_owned));
        let watch = section.value("watch", boolean).unwrap_or(false);
        let confine = one_of(&[("auto", Confine::Auto), ("required", Confine::Required)]);
        let confine = section.value("confine", confine).unwrap_or_default();
        self.finish(section);
        Process { user: user.filter(|user| !user.is_empty()), watch, confine }
    }

    fn admin(&mut self) -> Option<Admin> {
        let mut section = self.top.section("admin");
        let host = upstreams::host("leave it out: addresses of this machine need no entry");
        let admin = Admin {
            listen: section.value("listen", free_address(&self.listened)),
            hosts: section.list("hosts", host).unwrap_or_default(),
            socket: section.value("socket", path(self.base)),
        };
        let present = section.is_present();
        self.finish(section);
        present.then_some(admin)
    }

    fn timeouts(&mut self) -> Timeouts {
        let mut section = self.top.section("timeouts");
        let mut read = |key, default| section.value(key, duration).unwrap_or(default);
        let timeouts = Timeouts {
            request_head: read("request_head", 10 * SECOND),
            body_idle: read("body_idle", 30 * SECOND),
            connect: read("connect", 5 * SECOND),
            response: read("response", 60 * SECOND),
            keepalive: read("keepalive", 75 * SECOND),
            upstream_idle: read("upstream_idle", 15 * SECOND),
            drain: read("drain", 65 * SECOND),
        };
        self.finish(section);
        timeouts
    }

    fn limits(&mut self) -> Limits {
        let mut section = self.top.section("limits");
        let mut read = |key, range, default: u64| section.value(key, number(range)).unwrap_or(default);
        let limits = Limits {
            head_bytes: read("head_bytes", 512..=MIB, 32768) as usize,
            uri_bytes: read("uri_bytes", 64..=MIB, 8192) as usize,
            headers: read("headers", 4..=crate::http::MAX_FIELD_LINES as u64, 100) as usize,
            response_head_bytes: read("response_head_bytes", 512..=MIB, 65536) as usize,
            body_bytes: BodyLimit::from(read("body_bytes", 0..=u64::MAX, 0)),
            connections: count(section.value("connections", auto_or_number(1..=10_000_000))),
            reserved_for_meta: section.value("reserved_for_meta", share).unwrap_or(0.5),
            per_source: count(section.value("per_source", auto_or_number(1..=10_000_000))),
        };
        self.finish(section);
        limits
    }

    fn log(&mut self) -> Log {
        let mut section = self.top.section("log");
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log = Log {
            format: section.value("format", one_of(&formats)).unwrap_or(LogFormat::Text),
            access: section.value("access", boolean).unwrap_or(true),
        };
        self.finish(section);
        log
    }
}

/// A number of connections that is written; `None`: absent, or `"auto"`.
fn count(written: Option<Option<u64>>) -> Option<usize> {
    written.flatten().and_then(|number| usize::try_from(number).ok())
}

/// `cert` and `key`, if both are written.
fn pair(section: &mut Section<'_>, base: &Path) -> Option<Pair> {
    let (cert, key) = (section.value("cert", path(base)), section.value("key", path(base)));
    cert.zip(key).map(|(cert, key)| Pair { cert, key })
}

/// A name as certificates have it, common names too: it is compared whole.
fn certificate_name(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    if name.trim().is_empty() {
        Err("must not be empty: write the name that the certificate has; without client_names any will do"
            .into())
    } else if name.trim() != name {
        Err(format!("`{name}`: no certificate has a name with spaces around it; take them away"))
    } else {
        Ok(name.to_owned())
    }
}

/// `"auto"`, or a list of names.
fn interfaces(section: &mut Section<'_>) -> Interfaces {
    if section.value("interfaces", |value| Ok(value.is_str())).unwrap_or(false) {
        let auto = section.value("interfaces", |value| match value.as_str() {
            Some("auto") => Ok(Interfaces::DefaultRoutes),
            _ => Err("must be a list such as [\"eth0\"], or the word \"auto\"".into()),
        });
        return auto.unwrap_or(Interfaces::DefaultRoutes);
    }
    let named = section.list("interfaces", interface).unwrap_or_default();
    if let Some(twice) = again(&named) {
        section.problem("interfaces", &format!("`{twice}` is named twice; remove one"));
    }
    Interfaces::Listed(named)
}

/// A network interface's name as the kernel allows it (`dev_valid_name`).
fn interface(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    let valid = (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid { Ok(name.to_owned()) } else { Err(format!("`{name}` is not an interface's name")) }
}
