//! Beside a hookgate that hangs, every command ends within 10 s: what the pins and files know is
//! told, and the rest is an error that says why.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Need, NetNs, Proxy, Running, Stopped, TempDir, equal, require, run, wait_until};
use serde_json::Value;

const ADDRESS: &str = "127.0.0.1:8443";
const MAX_WAIT: Duration = Duration::from_secs(10);
/// What the contract promises.
const LIMIT: Duration = Duration::from_secs(10);

/// What a command said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Said {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{self:?}"))
    }
}

/// A proxy with a guard on the loopback interface of a namespace of its own, which has counted.
struct Testbed {
    ns: NetNs,
    proxy: Proxy,
    _dir: TempDir,
}

impl Testbed {
    fn start() -> Result<Self> {
        let (ns, dir) = (NetNs::new()?, TempDir::new("hung")?);
        let socket = dir.path().join("admin.sock");
        let state = dir.path().join("prefixes");
        let proxy = Proxy::start_in(
            &ns,
            &format!(
                "[listen]\nplain = [\"{ADDRESS}\"]\n[admin]\nsocket = {socket:?}\n[guard]\ninterfaces = [\"lo\"]\n\
                 ports = [8443]\nrefresh = \"off\"\nregistry = \"127.0.0.1:4343\"\nstate = {state:?}\n\
                 [upstreams]\n\"up.example\" = {{ address = \"127.0.0.1:1\" }}\n"
            ),
        )?;
        let mut curl = ns.command("curl");
        curl.args(["-sS", "--max-time", "5", &format!("http://{ADDRESS}/")]);
        run(curl)?;
        Ok(Self { ns, proxy, _dir: dir })
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.ns.command("timeout");
        command.arg("60").arg(harness::binary()?).args(args).arg("--config").arg(self.proxy.config());
        Ok(command)
    }

    fn run(&self, args: &[&str]) -> Result<Said> {
        let begun = Instant::now();
        let output = self.command(args)?.output()?;
        let took = begun.elapsed();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            took,
        })
    }

    /// All of them at once, in time.
    fn run_all<const N: usize>(&self, commands: [&[&str]; N]) -> Result<[Said; N]> {
        let said = thread::scope(|scope| {
            let running = commands.map(|args| scope.spawn(move || self.run(args)));
            running.map(|running| running.join().map_err(|_| anyhow::anyhow!("a command's thread"))?)
        });
        let said: Vec<Said> = said.into_iter().collect::<Result<_>>()?;
        for (said, args) in said.iter().zip(commands) {
            ensure!(said.took < LIMIT, "{args:?} took {:?}: {said:?}", said.took);
        }
        said.try_into().map_err(|_| anyhow::anyhow!("as many as were run"))
    }

    /// The only finding on the process itself.
    fn failure(doctor: &Said) -> Result<(String, String)> {
        let document = doctor.json()?;
        let findings = document["findings"].as_array().context("no findings")?;
        let found: Vec<&Value> = findings.iter().filter(|finding| finding["subject"] == "hookgate").collect();
        ensure!(found.len() == 1 && found[0]["level"] == "fail", "{found:?}");
        let text = |key: &str| found[0][key].as_str().unwrap_or_default().to_owned();
        Ok((text("text"), text("next")))
    }
}

fn can_run() -> bool {
    let programs = ["ip", "nsenter", "curl"].map(Need::Program);
    require(&[&[Need::Root, Need::Guard], &programs[..]].concat())
}

const SILENT: &str = "admin.sock was silent for ";

#[test]
fn a_worker_that_hangs_keeps_no_command_waiting() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    let before = testbed.run(&["stats", "--json"])?;
    assert_eq!((before.code, &*before.stderr), (Some(0), ""), "{before:?}");
    let worker = testbed.proxy.worker()?;
    let stopped = Stopped::new(worker)?;
    let [json, text, status, deliveries, health, reload, add, doctor] = testbed.run_all([
        &["stats", "--json"],
        &["stats"],
        &["guard", "status"],
        &["deliveries"],
        &["health"],
        &["reload"],
        &["upstream", "add", "more.example", "--no-probe"],
        &["doctor", "--json"],
    ])?;

    // The figures are the guard's own, and true.
    let told = |said: &Said| {
        said.stderr.contains("hookgate does not answer: ")
            && said.stderr.contains(SILENT)
            && said.stderr.contains("from the pins")
    };
    for said in [&json, &text] {
        assert!(said.code == Some(0) && told(said), "{said:?}");
    }
    let (now, before) = (json.json()?, before.json()?);
    assert_eq!(now["guard"], before["guard"]);
    assert_eq!(now["other"]["requests"], before["other"]["requests"]);
    assert!(now["other"]["packets"].as_u64() > Some(4), "{now:#}");
    assert!(text.stdout.contains("attached to lo"), "{text:?}");
    assert!(status.code == Some(0) && status.stdout.starts_with("attached to lo"), "{status:?}");
    assert!(status.stderr.contains("hookgate does not answer: "), "{status:?}");

    for said in [&deliveries, &health, &reload, &add] {
        assert!(said.code == Some(1) && said.stderr.contains(SILENT), "{said:?}");
    }
    assert!(
        fs::read_to_string(testbed.proxy.config())?.contains("more.example"),
        "the file has it all the same"
    );

    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let (failure, next) = Testbed::failure(&doctor)?;
    let expected = format!("the worker hangs: it is stopped (SIGSTOP, or a debugger), pid {worker}: ");
    assert!(failure.starts_with(&expected), "{failure}");
    assert!(next.contains(&format!("kill -CONT {worker}")) && next.contains("systemctl restart"), "{next}");

    drop(stopped);
    wait_until("the proxy answers again", MAX_WAIT, || {
        let said = testbed.run(&["stats", "--json"])?;
        Ok(said.code == Some(0) && said.stderr.is_empty())
    })
    .with_context(|| testbed.proxy.stderr())?;
    let well = testbed.run(&["doctor", "--json"])?;
    assert!(Testbed::failure(&well).is_err(), "{well:?}");
    Ok(())
}

#[test]
fn a_supervisor_that_hangs_keeps_no_command_waiting() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    let supervisor = testbed.proxy.pid();
    let stopped = Stopped::new(supervisor)?;
    let [json, status, deliveries, health, doctor] = testbed.run_all([
        &["stats", "--json"],
        &["guard", "status"],
        &["deliveries"],
        &["health"],
        &["doctor", "--json"],
    ])?;
    assert!(json.code == Some(0) && json.stderr.contains("from the pins"), "{json:?}");
    assert_eq!(json.json()?["guard"]["state"], "attached");
    assert!(status.code == Some(0) && status.stdout.starts_with("attached to lo"), "{status:?}");
    assert_eq!(deliveries.code, Some(0), "what serves knows them by itself: {deliveries:?}");
    assert_eq!((health.code, &*health.stdout), (Some(0), "ready\n"), "it serves: {health:?}");
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let (failure, _) = Testbed::failure(&doctor)?;
    let expected =
        format!("the supervisor hangs: it is stopped (SIGSTOP, or a debugger), pid {supervisor}: ");
    assert!(failure.starts_with(&expected), "{failure}");

    // A reload waits for the supervisor, in the thread that answers the other commands.
    let [reload, add] = testbed.run_all([&["reload"], &["upstream", "add", "more.example", "--no-probe"]])?;
    for said in [&reload, &add] {
        assert!(said.code == Some(1) && said.stderr.contains(SILENT), "{said:?}");
    }
    drop(stopped);
    wait_until("the proxy reloads again", MAX_WAIT, || Ok(equal(testbed.run(&["reload"])?.code, Some(0))))
        .with_context(|| testbed.proxy.stderr())?;
    Ok(())
}

#[test]
fn a_process_that_locks_the_pins_delays_no_command() -> Result<()> {
    if !require(&[Need::Root, Need::Guard, Need::Program("flock")]) {
        return Ok(());
    }
    let (ns, dir) = (NetNs::new()?, TempDir::new("locked")?);
    let config = dir.write(
        "hookgate.toml",
        "[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n[guard]\ninterfaces = [\"lo\"]\nstate = \"prefixes\"\n",
    )?;
    let mut holder = ns.command("flock");
    holder.args(["--no-fork", "/sys/fs/bpf", "sh", "-c", "echo locked >&2; exec sleep 60"]);
    let mut holder = Running::start(holder)?;
    holder.wait_for_stderr("locked", MAX_WAIT)?;
    let attach = || {
        let mut attach = ns.command("timeout");
        attach.arg("60").arg(harness::binary()?).args(["guard", "attach", "--config"]).arg(&config);
        Ok::<_, anyhow::Error>(attach)
    };
    let begun = Instant::now();
    let refused = attach()?.output()?;
    let (took, said) = (begun.elapsed(), String::from_utf8_lossy(&refused.stderr).into_owned());
    assert!(refused.status.code() == Some(1) && took < LIMIT, "{took:?}: {said}");
    assert!(said.contains("another hookgate changes what lies in /sys/fs/bpf"), "{said}");
    holder.stop()?;
    assert!(run(attach()?)?.starts_with("attached to lo"));
    Ok(())
}
