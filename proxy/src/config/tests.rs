use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeTable;

use super::sections::{Meaning, known_keys, meaning};
use super::*;

/// The commented configuration that the package installs.
const SHIPPED: &str = include_str!("../../../packaging/hookgate.toml");
/// The one that it puts into place.
const INSTALLED: &str = include_str!("../../../packaging/debian/hookgate.toml");
/// Broken configurations, and what is said about them.
const BROKEN: &str = include_str!("../../../tests/data/broken_configs.toml");

const FILE: &str = "/etc/hookgate/hookgate.toml";

fn read(text: &str) -> (Config, Vec<String>) {
    let Meaning { config, problems, .. } = meaning(Path::new(FILE), text);
    let without_file = |problem: &Problem| problem.to_string().replacen(&format!("{FILE}:"), "", 1);
    (config, problems.iter().map(without_file).collect())
}

/// A configuration with nothing in it that has a default.
fn minimal() -> Config {
    let (config, problems) = read("[listen]\nplain = [\"127.0.0.1:8080\"]\n[guard]\ninterfaces = [\"eth0\"]");
    assert_eq!(problems, [""; 0]);
    config
}

/// Everything that is a setting, written out: `#key` becomes `key`, `# prose` stays.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| !c.is_whitespace()) => setting.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// `section.key` for every key of every table.
fn keys(path: &str, table: &DeTable<'_>) -> BTreeSet<String> {
    let of_key = |(key, value): (&toml::Spanned<_>, &toml::Spanned<toml::de::DeValue<'_>>)| {
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        let inside = value.get_ref().as_table().map(|table| keys(&path, table)).unwrap_or_default();
        std::iter::once(path).chain(inside)
    };
    table.iter().flat_map(of_key).collect()
}

#[test]
fn the_shipped_configuration_is_valid_and_needs_only_names() {
    let (config, problems) = read(SHIPPED);
    assert_eq!(problems, [""; 0]);
    assert_eq!(config.listen.https, ["0.0.0.0:443".parse().unwrap(), "[::]:443".parse().unwrap()]);
    assert!(config.tls.is_some() && config.guard.is_none());
    let names: Vec<&str> = config.upstreams.iter().map(|upstream| &*upstream.name).collect();
    assert_eq!(names, ["chatwoot.example.com"]);
}

#[test]
fn the_installed_configuration_needs_one_line() {
    let (_, problems) = read(INSTALLED);
    assert!(matches!(&problems[..], [only] if only.contains("acme.domains")), "{problems:?}");
    let (config, problems) = read(&INSTALLED.replace("domains = []", "domains = [\"proxy.example.com\"]"));
    assert_eq!(problems, [""; 0]);
    assert!(config.acme.is_some() && config.admin.is_some() && config.upstreams.is_empty());
    // It drops nothing, and resets no network card.
    let guard = config.guard.map(|guard| (guard.interfaces, guard.mode, guard.xdp));
    assert_eq!(guard, Some((Interfaces::DefaultRoutes, Mode::Observe, XdpMode::Tc)));
}

#[test]
fn the_shipped_configuration_names_every_key_and_no_other() {
    let text = uncommented(SHIPPED);
    let (_, problems) = read(&text);
    let unknown: Vec<_> = problems.iter().filter(|problem| !problem.contains("not supported")).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");

    let table = DeTable::parse(&text).unwrap();
    let (upstreams, written): (BTreeSet<_>, _) =
        keys("", table.get_ref()).into_iter().partition(|key| key.starts_with("upstreams"));
    let written: BTreeSet<_> = written.into_iter().filter(|key| key.contains('.')).collect();
    let known: BTreeSet<_> = known_keys(&text).into_iter().collect();
    let of_one: BTreeSet<_> =
        upstreams::KEYS.iter().map(|key| format!("upstreams.chatwoot.other.com.{key}")).collect();
    assert_eq!(written, known);
    assert!(upstreams.is_superset(&of_one), "{:?}", of_one.difference(&upstreams));
}

#[test]
fn what_the_shipped_configuration_shows_as_defaults_are_the_defaults() {
    let (shown, _) = read(&uncommented(SHIPPED));
    let default = minimal();
    let guard = |config: &Config| format!("{:#?}", config.guard);
    assert_eq!(guard(&shown), guard(&default));
    assert_eq!(shown.prefixes, default.prefixes);
    let rest = |c: &Config| format!("{:#?}", (&c.dns, &c.relay, &c.timeouts, &c.limits, &c.log));
    assert_eq!(rest(&shown), rest(&default));
    assert_eq!(shown.listen.plain_scheme, default.listen.plain_scheme);
}

#[test]
fn kernel_tls_is_a_matter_of_upstreams_too() {
    let plain = "[listen]\nplain = [\"127.0.0.1:8080\"]\n";
    let (config, problems) = read(&format!("{plain}[tls]\nktls = \"off\"\n"));
    assert_eq!((config.ktls, config.tls, problems), (Ktls::Off, None, vec![]));
    assert_eq!(read(plain).0.ktls, Ktls::Auto);
    let (_, problems) = read("[listen]\nhttps = [\"127.0.0.1:8080\"]\n[tls]\nktls = \"off\"\n");
    assert_eq!(problems.len(), 1, "{problems:?}");
}

/// The contract's section 2, in its order.
#[test]
fn defaults_are_the_contracts() {
    let seconds = Duration::from_secs;
    let config = minimal();
    assert_eq!(config.listen.plain_scheme, Scheme::Http);
    let Dns { servers, timeout, valid, stale } = config.dns;
    let four = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2001:4860:4860::8888"];
    assert_eq!(servers, DnsServers::These(four.map(|server| server.parse().unwrap()).into()));
    assert_eq!((timeout, valid, stale), (seconds(5), seconds(300), seconds(3600)));
    assert_eq!(&*config.relay.name, "hookgate");
    let guard = config.guard.unwrap();
    assert_eq!((guard.ports, guard.mode, guard.allow), (vec![443], Mode::Observe, vec![]));
    assert_eq!((guard.xdp, &*guard.pin), (XdpMode::Auto, "hookgate"));
    let prefixes = config.prefixes;
    assert_eq!((prefixes.source, prefixes.refresh), (PrefixSource::Builtin, Some(seconds(86400))));
    assert_eq!(prefixes.registry.to_string(), "whois.radb.net:43");
    assert_eq!(prefixes.state, Path::new("/var/lib/hookgate/prefixes"));
    let t = config.timeouts;
    assert_eq!((t.request_head, t.body_idle, t.connect), (seconds(10), seconds(30), seconds(5)));
    assert_eq!((t.response, t.keepalive), (seconds(60), seconds(75)));
    assert_eq!((t.upstream_idle, t.drain), (seconds(15), seconds(65)));
    let l = config.limits;
    assert_eq!((l.head_bytes, l.uri_bytes, l.headers), (32768, 8192, 100));
    assert_eq!((l.response_head_bytes, l.body_bytes.most()), (65536, u64::MAX));
    assert!(config.log.format == LogFormat::Text && config.log.access);
}

#[test]
fn sections_that_are_left_out_are_off() {
    let (config, problems) = read("[listen]\nplain = [\"127.0.0.1:8080\"]");
    assert_eq!(problems, [""; 0]);
    assert!(config.tls.is_none() && config.guard.is_none() && config.prefixes.refresh.is_none());
    assert!(config.listen.https.is_empty() && config.upstreams.is_empty());
}

#[test]
fn an_upstream_is_read_whole() {
    let text = r#"
        [listen]
        plain = ["127.0.0.1:8080"]
        [upstreams]
        "Chatwoot.Example.COM" = {}
        "plain.example" = { tls = false }
        "address.example" = { address = "10.0.0.5:3000", tls = false }
        "port.example" = { address = "2001:db8::5", port = 8443, ca = "ca.pem", allow_private = true }
        a_b.port = 1
        localhost = {}
    "#;
    let (config, problems) = read(text);
    assert_eq!(problems, [""; 0]);
    let find = |name: &str| config.upstreams.iter().find(|u| *u.name == *name).unwrap();
    let plainest = find("chatwoot.example.com");
    assert!(plainest.tls && plainest.address.is_none() && plainest.ca.is_none() && !plainest.allow_private);
    assert_eq!(plainest.port, 443);
    assert_eq!(find("plain.example").port, 80);
    assert_eq!(find("address.example").address, Some("10.0.0.5:3000".parse().unwrap()));
    let port = find("port.example");
    assert_eq!(port.address, Some("[2001:db8::5]:8443".parse().unwrap()));
    assert_eq!(port.ca.as_deref(), Some(Path::new("/etc/hookgate/ca.pem")));
    assert!(port.allow_private);
    assert_eq!(find("a_b").port, 1);
    assert_eq!(config.upstreams.len(), 6);
}

#[test]
fn a_broken_configuration_is_told_where_and_what_to_do() {
    let cases = DeTable::parse(BROKEN).unwrap();
    let cases = cases.get_ref().get("case").unwrap().get_ref().as_array().unwrap().clone();
    let mut wrong = Vec::new();
    for case in &cases {
        let case = case.get_ref().as_table().unwrap();
        let text = case.get("text").unwrap().get_ref().as_str().unwrap();
        let expected = case.get("problems").unwrap().get_ref().as_array().unwrap();
        let expected: Vec<&str> = expected.iter().map(|p| p.get_ref().as_str().unwrap()).collect();
        assert!(!expected.is_empty(), "what is wrong?\n{text}");
        let (_, problems) = read(text);
        if problems != expected {
            wrong.push(format!("{text}\nsays     {problems:#?}\nexpected {expected:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

#[test]
fn files_of_upstreams_d_add_to_the_allowlist_and_name_themselves_in_problems() {
    let folder = std::env::temp_dir().join(format!("hookgate-config-{}", std::process::id()));
    let beside = folder.join("upstreams.d");
    std::fs::create_dir_all(&beside).unwrap();
    let main = folder.join("hookgate.toml");
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    write(&main, "[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n\"a.example\" = {}");
    write(&beside.join("10-b.toml"), "[upstreams]\n\"b.example\" = { ca = \"ca.pem\" }");
    write(&beside.join("20-c.toml"), "[upstreams]\n\"c.example\" = {}");
    write(&beside.join("notes.txt"), "not read");
    let config = Config::load(&main).unwrap();
    let names: Vec<&str> = config.upstreams.iter().map(|upstream| &*upstream.name).collect();
    assert_eq!(names, ["a.example", "b.example", "c.example"]);
    assert_eq!(config.upstreams[1].ca.as_deref(), Some(&*folder.join("ca.pem")));

    write(&beside.join("20-c.toml"), "[upstreams]\n\"A.example\" = {}\n[listen]\n");
    let error = Config::load(&main).unwrap_err().to_string();
    let file = beside.join("20-c.toml");
    let twice =
        format!("upstreams.\"A.example\": this host is named twice, in {}:4 too; remove one", main.display());
    assert_eq!(error, format!("{0}:2:1: {twice}\n{0}:3:2: unknown key `listen`", file.display()));

    std::fs::remove_dir_all(&folder).unwrap();
    let error = Config::load(&main).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot be read: ", main.display())), "{error}");
}

#[test]
fn interfaces_are_named_or_found() {
    let guard = |interfaces: &str| {
        read(&format!("[listen]\nplain = [\"127.0.0.1:1\"]\n[guard]\ninterfaces = {interfaces}\n"))
    };
    let named = |names: &[&str]| Interfaces::Listed(names.iter().map(|name| (*name).into()).collect());
    for (written, meant, attached) in [
        ("\"auto\"", Interfaces::DefaultRoutes, true),
        ("[\"eth0\", \"eth1\"]", named(&["eth0", "eth1"]), true),
        ("[]", named(&[]), false),
    ] {
        let (config, problems) = guard(written);
        let guard = config.guard.unwrap();
        assert_eq!((&guard.interfaces, guard.is_attached()), (&meant, attached), "{written}");
        assert_eq!(problems, [""; 0], "{written}");
    }
    for (written, message) in [
        ("\"eth0\"", "must be a list such as [\"eth0\"], or the word \"auto\""),
        ("[\"eth0\", \"eth0\"]", "`eth0` is named twice"),
    ] {
        let problems = guard(written).1;
        assert!(problems.len() == 1 && problems[0].contains(message), "{written}: {problems:?}");
    }
}

#[test]
fn strict_goes_with_challenges_that_come_to_other_ports() {
    for (challenge, mode, ports) in [
        ("http-01", "strict", "[443]"),
        ("tls-alpn-01", "strict", "[8443]"),
        ("http-01", "limit", "[80, 443]"),
        ("tls-alpn-01", "observe", "[80, 443]"),
    ] {
        let text = format!(
            "[listen]\nhttps = [\"127.0.0.1:1\"]\nhttp = [\"127.0.0.1:2\"]\n[acme]\n\
             domains = [\"p.example\"]\nchallenge = \"{challenge}\"\n\
             [guard]\ninterfaces = [\"eth0\"]\nmode = \"{mode}\"\nports = {ports}\n"
        );
        assert_eq!(read(&text).1, [""; 0], "{challenge} {mode} {ports}");
    }
}
