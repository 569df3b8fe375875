//! Faults on a share of 200 connections, through `hookgate lost` as a whole: stage and cause are
//! right, the share is what was done, and nothing is named where nothing was done.

mod attempts;
mod posts;
mod queues;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Ca, Certs, NetNs, Origin, Running, wait_until};
use serde_json::{Value, json};

use super::peers::connect_within;
use super::testbed::{CLOSED, EDGE_V4, Testbed};

/// Of one case, in all.
const CONNECTIONS: usize = 200;
/// Longer than an attempt is waited for, a sweep more, and time for a busy machine.
const THE_END: Duration = Duration::from_secs(60);
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// By which a share may differ from what was done.
const TOLERANCE: f64 = 0.02;
const THREADS: usize = 16;
/// In which a SYN is sent twice.
const TWO_SYNS: Duration = Duration::from_millis(1500);
const HTTPS: u16 = 8446;
const RESPONSE: Duration = Duration::from_secs(3);

/// A prefix of its own, and what is done to connections from it.
struct Case {
    prefix: String,
    /// Whose connections nothing is done to.
    good: String,
    bad: String,
    /// Stage, unit and causes; `None`: nothing may be named.
    expected: Option<(&'static str, &'static str, &'static [&'static str])>,
}

impl Case {
    fn new(number: u8, expected: Option<(&'static str, &'static str, &'static [&'static str])>) -> Self {
        let address = |last: &str| format!("157.240.{number}.{last}");
        Self { prefix: address("0/24"), good: address("7"), bad: address("8"), expected }
    }
}

/// Two machines, with hookgate on one of them before upstreams with faults of all kinds.
struct Lab {
    testbed: Testbed,
    proxy: Running,
    config: std::path::PathBuf,
    stalled: Origin,
    _origins: Vec<Origin>,
}

impl Lab {
    fn new(cases: &[&Case]) -> Result<Self> {
        Self::on(Testbed::new()?, cases)
    }

    fn on(testbed: Testbed, cases: &[&Case]) -> Result<Self> {
        for address in cases.iter().flat_map(|case| [&case.good, &case.bad]) {
            // Some are there already.
            testbed.meta.address("wan0", &format!("{address}/32")).ok();
        }
        let prefixes: Vec<_> = cases.iter().map(|case| case.prefix.as_str()).collect();
        let list = testbed.dir.write("prefixes", prefixes.join("\n") + "\n")?;
        let answering = |response: &'static str| {
            testbed.edge.inside(|| {
                Origin::plain_at(([127, 0, 0, 1], 0).into(), move |connection| {
                    while connection.request()?.is_some() {
                        connection.send(response)?;
                    }
                    Ok(harness::End::Close)
                })
            })
        };
        let ok = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        let broken = answering("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")?;
        let stalled = testbed.edge.inside(|| {
            Origin::plain_at(([127, 0, 0, 1], 0).into(), |connection| {
                while connection.request()?.is_some() {}
                Ok(harness::End::Close)
            })
        })?;
        // Of an authority that hookgate does not know.
        let strange = Ca::new("another")?.issue(&["strange.example"])?;
        let strange = testbed.edge.inside(|| Origin::tls(&strange, |_| Ok(harness::End::Close)))?;
        let closed = testbed.edge.inside(free_port)?;
        let [_, cert, key] = Certs::new(&["proxy.example.com"])?.write(&testbed.dir, "own")?;
        let dir = testbed.dir.path().display();
        let plain =
            |name: &str, address| format!("\"{name}\" = {{ address = \"{address}\", tls = false }}\n");
        let config = format!(
            "[listen]\nplain = [\"0.0.0.0:443\", \"[::]:443\"]\nhttps = [\"0.0.0.0:{HTTPS}\"]\n\
             [tls]\ncert = {cert:?}\nkey = {key:?}\n[timeouts]\nresponse = \"{}s\"\n\
             [dns]\nservers = [\"{closed}\"]\ntimeout = \"1s\"\n[admin]\nsocket = \"{dir}/admin.sock\"\n\
             [insight]\nstate = \"{dir}/insight\"\n[log]\naccess = false\n\
             [guard]\ninterfaces = [\"wan0\"]\nports = [443, {HTTPS}, {CLOSED}]\nprefixes = {list:?}\n\
             [upstreams]\n{}{}{}{}\"strange.example\" = {{ address = \"{}\" }}\n\"nameless.example\" = {{}}\n",
            RESPONSE.as_secs(),
            plain("ok.example", ok.address()),
            plain("broken.example", broken.address()),
            plain("stalled.example", stalled.address()),
            plain("down.example", closed),
            strange.address(),
        );
        let config = testbed.dir.write("edge.toml", config)?;
        let mut proxy = Running::start(command(&testbed.edge, &config, &["run"])?)?;
        proxy.wait_for_stderr("(admin)", START_TIMEOUT)?;
        Ok(Self { testbed, proxy, config, stalled, _origins: vec![ok, broken, strange] })
    }

    fn meta(&self) -> &NetNs {
        &self.testbed.meta
    }

    /// Exit code and report, of one prefix or all.
    fn lost(&self, prefix: Option<&str>) -> Result<(Option<i32>, Value)> {
        let mut args = vec!["lost", "--json", "--since", "15m"];
        args.extend(prefix.into_iter().flat_map(|prefix| ["--prefix", prefix]));
        let output = command(&self.testbed.edge, &self.config, &args)?.output()?;
        let report = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        Ok((output.status.code(), report))
    }

    /// Attempts that get no answer to two SYNs each.
    fn fail(&self, from: &str, count: usize) -> Result<()> {
        let connect = || connect_within(self.meta(), from, EDGE_V4, 443, TWO_SYNS).map(drop);
        let connected = many(count, count, connect)?;
        ensure!(connected == 0, "{connected} from {from}");
        Ok(())
    }

    /// Messages that arrive.
    fn deliver(&self, case: &Case, count: usize) -> Result<()> {
        let arrived = many(count, THREADS, || self.post(&case.good, "/ok.example/", 200))?;
        ensure!(arrived == count, "{arrived} of {count} from {}", case.prefix);
        Ok(())
    }

    /// One message, from its own connection, and its answer.
    fn post(&self, from: &str, path: &str, status: u16) -> Result<()> {
        let mut stream = connect_within(self.meta(), from, EDGE_V4, 443, START_TIMEOUT)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        stream.write_all(request(path).as_bytes())?;
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            // hookgate closes after an error, and what it has not read is answered so.
            Err(error) if error.kind() != ErrorKind::ConnectionReset => return Err(error.into()),
            _ => {}
        }
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        Ok(())
    }

    /// Waits until the verdict on a case is what was done to `bad` of its connections.
    fn judge(&self, case: &Case, bad: usize) -> Result<()> {
        let Some((stage, unit, causes)) = case.expected else {
            let (code, report) = self.lost(Some(&case.prefix))?;
            ensure!((code, &report["verdict"]) == (Some(0), &Value::Null), "{}: {report}", case.prefix);
            return Ok(());
        };
        let done = bad as f64 / CONNECTIONS as f64;
        let mut last = Value::Null;
        wait_until("the verdict is what was done", THE_END, || {
            let (code, report) = self.lost(Some(&case.prefix))?;
            let verdict = &report["verdict"];
            let is_near = verdict["share"].as_f64().is_some_and(|share| (share - done).abs() <= TOLERANCE);
            let is_named = verdict["stage"] == stage && verdict["unit"] == unit;
            let cause = verdict["cause"].as_str().unwrap_or_default();
            let is_so = code == Some(1) && is_near && is_named && causes.contains(&cause);
            last = report;
            Ok(is_so)
        })
        .with_context(|| format!("{} should be {stage}, {causes:?}, {done}: {last}", case.prefix))?;
        let others = last["stages"].as_array().into_iter().flatten();
        for other in others.filter(|other| other["stage"] != stage || other["unit"] != unit) {
            ensure!([&other["lost"], &other["late"]] == [&json!(0); 2], "{}: {other}", case.prefix);
        }
        Ok(())
    }
}

fn command(ns: &NetNs, config: &std::path::Path, args: &[&str]) -> Result<Command> {
    let mut command = ns.command(&harness::binary()?.to_string_lossy());
    command.args(args).arg("--config").arg(config);
    Ok(command)
}

/// A port of this machine without a listener.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn request(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}")
}

/// Does something many times, a few at once. How often it went well.
fn many(count: usize, threads: usize, work: impl Fn() -> Result<()> + Sync) -> Result<usize> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut well = 0;
        while next.fetch_add(1, Ordering::Relaxed) < count {
            match work() {
                Ok(()) => well += 1,
                // Often what is wanted; printed where the test fails.
                Err(error) => println!("{error:#}"),
            }
        }
        well
    };
    Ok(thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    }))
}

/// Drops packets at a hook of one machine, as these rules say.
fn drop_packets(ns: &NetNs, hook: &str, rules: &[String]) -> Result<()> {
    ns.run(&format!("nft add table inet {hook}"))?;
    ns.run(&format!("nft add set inet {hook} seen {{ type ipv4_addr . inet_service ; flags dynamic ; }}"))?;
    ns.run(&format!("nft add chain inet {hook} drops {{ type filter hook {hook} priority 0 ; }}"))?;
    rules.iter().try_for_each(|rule| ns.run(&format!("nft add rule inet {hook} drops {rule} drop")).map(drop))
}

const IS_SYN: &str = "tcp flags & (syn | ack) == syn";
const IS_SYN_ACK: &str = "tcp flags & (syn | ack) == syn | ack";

/// The first SYN of each attempt from an address.
fn first_syn(from: &str) -> String {
    format!("ip saddr {from} {IS_SYN} ip saddr . tcp sport != @seen add @seen {{ ip saddr . tcp sport }}")
}
