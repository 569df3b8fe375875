//! Other prefixes come into force while the guard counts and the proxy serves: nothing is lost of
//! what stays.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Need, NetNs, Proxy, Running, Stopped, TempDir, require, run};
use serde_json::Value;

const ADDRESS: &str = "127.0.0.1:8443";
const REGISTRY: &str = "127.0.0.1:4343";
const META: &str = "157.240.1.1";
const LIST: [&str; 3] = ["31.13.24.0/21", "157.240.0.0/17", "2a03:2880::/32"];
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Answers each query with the content of a file.
const WHOIS: &str = "
import socketserver, sys
class Whois(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        self.wfile.write(open(sys.argv[1], 'rb').read())
socketserver.TCPServer.allow_reuse_address = True
with socketserver.TCPServer(('127.0.0.1', 4343), Whois) as server:
    print('ready', file=sys.stderr, flush=True)
    server.serve_forever()
";

/// A machine that has one of Meta's addresses itself, with a routing registry.
struct Testbed {
    ns: NetNs,
    dir: TempDir,
    _whois: Running,
}

impl Testbed {
    fn new() -> Result<Self> {
        let (ns, dir) = (NetNs::new()?, TempDir::new("in-force")?);
        ns.address("lo", &format!("{META}/32"))?;
        let mut whois = ns.command("python3");
        whois.args(["-c", WHOIS]).arg(dir.write("answer", "")?);
        let mut whois = Running::start(whois)?;
        whois.wait_for_stderr("ready", MAX_WAIT)?;
        dir.write("list", LIST.join("\n"))?;
        Ok(Self { ns, dir, _whois: whois })
    }

    fn config(&self, guard: &str, more: &str) -> String {
        let path = |name: &str| self.dir.path().join(name);
        format!(
            "[listen]\nplain = [\"{ADDRESS}\"]\n[admin]\nsocket = {:?}\n[guard]\ninterfaces = [\"lo\"]\nports = [8443]\n\
             prefixes = {:?}\nstate = {:?}\nregistry = \"{REGISTRY}\"\n{guard}\n{more}\n",
            path("admin.sock"),
            path("list"),
            path("state/prefixes"),
        )
    }

    /// What the registry has from now on.
    fn register(&self, prefixes: &[&str]) -> Result<PathBuf> {
        let object = |prefix: &&str| {
            let class = if prefix.contains(':') { "route6" } else { "route" };
            format!("{class}: {prefix}\norigin: AS32934\nmnt-by: MAINT-AS32934\nsource: RADB\n\n")
        };
        self.dir.write("answer", prefixes.iter().map(object).collect::<String>())
    }

    /// A request of Meta's, which is refused.
    fn send(&self) -> Result<()> {
        self.send_from(META)
    }

    fn send_from(&self, source: &str) -> Result<()> {
        let mut curl = self.ns.command("curl");
        curl.args(["-sS", "--max-time", "5", "--interface", source, &format!("http://{ADDRESS}/")]);
        run(curl).map(drop)
    }

    fn hookgate(&self, config: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = self.ns.command(&harness::binary()?.to_string_lossy());
        command.args(arguments).arg("--config").arg(self.dir.write("hookgate.toml", config)?);
        Ok(command)
    }

    /// The rows in force that anything was counted of: SYNs seen by the kernel, requests by the
    /// proxy.
    fn rows(&self, config: &str) -> Result<Vec<(String, u64, u64)>> {
        let document: Value = serde_json::from_str(&run(self.hookgate(config, &["stats", "--json"])?)?)?;
        let rows = document["prefixes"].as_array().context("no rows")?.iter();
        let number = |row: &Value, field: &str| row[field].as_u64().unwrap_or(u64::MAX);
        let rows = rows.map(|row| {
            let prefix = row["prefix"].as_str().unwrap_or_default().to_owned();
            (prefix, number(row, "syns"), number(row, "requests"))
        });
        Ok(rows.filter(|(_, syns, requests)| syns + requests > 0).collect())
    }
}

fn can_run() -> bool {
    let programs = ["ip", "nsenter", "curl", "python3"].map(Need::Program);
    require(&[&[Need::Root, Need::Guard], &programs[..]].concat())
}

fn row(prefix: &str, syns: u64, requests: u64) -> (String, u64, u64) {
    (prefix.into(), syns, requests)
}

#[test]
fn an_update_is_taken_over_by_a_running_proxy() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let config = testbed.config("refresh = \"off\"", "");
    let mut proxy = Proxy::start_in(&testbed.ns, &config)?;
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 1, 1)]);

    // A more specific one: what comes from now on is its own, what came before stays where it was.
    testbed.register(&["31.13.24.0/21", "157.240.0.0/17", "157.240.1.0/24", "2a03:2880::/32"])?;
    let said = run(testbed.hookgate(&config, &["prefixes", "update"])?)?;
    assert!(said.contains("+ 157.240.1.0/24") && said.contains("in the running proxy: 4 in force"), "{said}");
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 1, 1), row("157.240.1.0/24", 1, 1)]);

    // Hardly anything left: refused, and nothing changes.
    testbed.register(&["31.13.24.0/21", "2a03:2880::/32"])?;
    let refused = testbed.hookgate(&config, &["prefixes", "update"])?.output()?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("at least half of them must"), "{refused:?}");
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 1, 1), row("157.240.1.0/24", 2, 2)]);

    // Beside a proxy that hangs, the guard itself, in time.
    let hung = Stopped::new(proxy.worker()?)?;
    testbed.register(&[
        "31.13.24.0/21",
        "157.240.0.0/17",
        "157.240.1.0/24",
        "157.240.2.0/24",
        "2a03:2880::/32",
    ])?;
    let begun = Instant::now();
    let output = testbed.hookgate(&config, &["prefixes", "update"])?.output()?;
    let (took, said) = (begun.elapsed(), String::from_utf8_lossy(&output.stdout).into_owned());
    assert!(output.status.success() && took < 2 * MAX_WAIT, "{took:?} {output:?}");
    assert!(said.contains("+ 157.240.2.0/24") && said.contains("in force in the guard"), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hookgate does not answer: "), "{output:?}");
    drop(hung);
    testbed.register(&["31.13.24.0/21", "157.240.0.0/17", "157.240.1.0/24", "2a03:2880::/32"])?;

    // Without the proxy, the guard itself: its rows go on where they were.
    proxy.kill()?;
    testbed.register(&["31.13.24.0/21", "157.240.0.0/16", "2a03:2880::/32"])?;
    let said = run(testbed.hookgate(&config, &["prefixes", "update"])?)?;
    assert!(said.contains("+ 157.240.0.0/16") && said.contains("in force in the guard"), "{said}");
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 1, 1), row("157.240.1.0/24", 2, 2)]);

    // And the next start begins there.
    let _proxy = Proxy::start_in(&testbed.ns, &config)?;
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 1, 1), row("157.240.1.0/24", 3, 3)]);
    Ok(())
}

#[test]
fn the_proxy_refreshes_by_itself_without_privileges() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.register(&["31.13.24.0/21", "157.240.0.0/17", "157.240.1.0/24", "2a03:2880::/32"])?;
    // It may neither touch the guard nor write to the state file's folder: its parent does.
    let config = testbed.config("refresh = \"1s\"", "[process]\nuser = \"nobody\"");
    let mut proxy = Proxy::start_in(&testbed.ns, &config)?;
    proxy.wait_for_stderr("127.0.0.1:4343 has 4 of Meta's own: 1 added, 0 removed, 4 in force", MAX_WAIT)?;
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.1.0/24", 1, 1)]);
    assert!(testbed.dir.path().join("state/prefixes").exists());

    // An answer that can't be right, then a good one.
    testbed.register(&["157.0.0.0/8"])?;
    proxy.wait_for_stderr("shorter than /12", MAX_WAIT)?;
    testbed.register(&["31.13.24.0/21", "157.240.0.0/16", "2a03:2880::/32"])?;
    proxy.wait_for_stderr("has 3 of Meta's own: 1 added", MAX_WAIT)?;
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.1.0/24", 2, 2)]);
    Ok(())
}

#[test]
fn a_list_that_can_not_be_metas_comes_into_force_nowhere() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let config = testbed.config("refresh = \"off\"\nmode = \"strict\"", "");
    let proxy = Proxy::start_in(&testbed.ns, &config)?;
    let path = testbed.dir.write("list", [&LIST[..], &["0.0.0.0/0", "10.0.0.0/16"]].concat().join("\n"))?;
    for command in [&["check"][..], &["guard", "attach"], &["reload"], &["run"]] {
        let mut command = testbed.hookgate(&config, command)?;
        if command.get_args().any(|argument| argument == "reload") {
            command = testbed.ns.command(&harness::binary()?.to_string_lossy());
            command.args(["reload", "--config"]).arg(proxy.config());
        }
        let refused = command.output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{command:?}: {said}");
        for (line, row) in [(4, "0.0.0.0/0"), (5, "10.0.0.0/16")] {
            let expected =
                format!("{}:{line}: {row} can't be a prefix of Meta's: not public", path.display());
            assert!(said.contains(&expected), "{command:?}: {said}");
        }
    }
    assert!(testbed.send_from("127.0.0.1").is_err(), "a stranger is one as before");
    testbed.send()
}

#[test]
fn what_the_guard_has_taken_from_the_list_stays_at_a_reload() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let config = |more: &str| testbed.config(&format!("refresh = \"off\"\n{more}"), "");
    let proxy = Proxy::start_in(&testbed.ns, &config(""))?;
    testbed.dir.write("list", [&LIST[..], &["157.240.1.0/24"]].concat().join("\n"))?;
    run(testbed.hookgate(&config(""), &["guard", "attach"])?)?;
    std::fs::write(proxy.config(), config("allow = [\"192.0.2.0/24\"]"))?;
    let said = proxy.command(&testbed.ns, &["reload"])?;
    assert!(
        said.contains("1 added, 0 removed, 4 in force") && said.contains("guard: attached to lo"),
        "{said}"
    );
    testbed.send()?;
    assert_eq!(testbed.rows(&config(""))?, [row("157.240.1.0/24", 1, 1)], "in the guard, and for the proxy");
    Ok(())
}

#[test]
fn a_reload_reads_the_list_again() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let config = testbed.config("refresh = \"off\"", "[process]\nuser = \"nobody\"");
    let proxy = Proxy::start_in(&testbed.ns, &config)?;
    let list = |rows: &[&str]| testbed.dir.write("list", rows.join("\n"));
    let reload = || proxy.command(&testbed.ns, &["reload"]);
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 1, 1)]);
    assert_eq!(reload()?, "nothing changed\n");

    let path = list(&["157.240.0.0/17", "157.240.1.0/24", "2a03:2880::/32"])?;
    assert_eq!(reload()?, format!("[guard] prefixes: {}: 1 added, 1 removed, 3 in force\n", path.display()));
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 1, 1), row("157.240.1.0/24", 1, 1)]);

    list(&["157.240.0.0/17", "157.240.1.0/33"])?;
    let refused = format!("{:#}", reload().err().context("it was reloaded")?);
    assert!(refused.contains(&format!("{}:2: ", path.display())), "{refused}");
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 1, 1), row("157.240.1.0/24", 2, 2)]);

    // What comes back finds its counts.
    list(&["157.240.0.0/17", "2a03:2880::/32"])?;
    reload()?;
    testbed.send()?;
    list(&["157.240.0.0/17", "157.240.1.0/24", "2a03:2880::/32"])?;
    reload()?;
    testbed.send()?;
    assert_eq!(testbed.rows(&config)?, [row("157.240.0.0/17", 2, 2), row("157.240.1.0/24", 3, 3)]);
    Ok(())
}
