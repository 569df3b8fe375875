//! What is kept a minute: it outlives hookgate, and costs no request, whatever is wrong with the
//! disk.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Client, End, Need, NetNs, Origin, Running, TempDir, binary, free_port, require, run, wrapped};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{local, post};

const START_TIMEOUT: Duration = Duration::from_secs(10);
/// So long a file from the start.
const HISTORY_BYTES: u64 = 14_536_704;

/// A proxy before an upstream that answers 500, started again and again.
struct Testbed {
    dir: TempDir,
    address: std::net::SocketAddr,
    config: PathBuf,
    _origin: Origin,
}

impl Testbed {
    fn new() -> Result<Self> {
        let dir = TempDir::new("history")?;
        let insight = dir.path().join("insight");
        Self::with_state(dir, &insight.display().to_string())
    }

    fn with_state(dir: TempDir, state: &str) -> Result<Self> {
        let origin = Origin::plain_at(local(0), |connection| {
            while connection.request()?.is_some() {
                connection.send("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")?;
            }
            Ok(End::Close)
        })?;
        let address = local(free_port()?);
        let config = dir.write(
            "hookgate.toml",
            format!(
                "[listen]\nplain = [\"{address}\"]\n[admin]\nsocket = {:?}\n[insight]\nstate = \"{state}\"\n[upstreams]\n\
                 \"broken.example\" = {{ address = \"{}\", tls = false }}\n",
                dir.path().join("admin.sock"),
                origin.address()
            ),
        )?;
        Ok(Self { dir, address, config, _origin: origin })
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("insight/history")
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = NetNs::here().command(&binary()?.to_string_lossy());
        command.args(args).arg("--config").arg(&self.config);
        Ok(command)
    }

    fn start(&self) -> Result<Running> {
        self.start_by(self.command(&["run"])?)
    }

    fn start_by(&self, command: Command) -> Result<Running> {
        let mut proxy = Running::start(command)?;
        proxy.wait_for_stderr("(admin)", START_TIMEOUT)?;
        Ok(proxy)
    }

    fn lose(&self, count: usize) -> Result<()> {
        let mut client = Client::plain(self.address)?;
        for _ in 0..count {
            assert_eq!(client.ask(post("/broken.example/", "{}"))?.status(), 500);
        }
        Ok(())
    }

    /// Exit code, and how many POSTs the upstream lost.
    fn lost(&self) -> Result<(Option<i32>, Value)> {
        let output = self.command(&["lost", "--json"])?.output()?;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let stages = report["stages"].as_array().into_iter().flatten();
        let mut lost = stages.filter(|stage| stage["stage"] == "upstream").map(|stage| stage["lost"].clone());
        Ok((output.status.code(), lost.next().unwrap_or_default()))
    }
}

#[test]
fn figures_outlive_an_end_and_a_kill() -> Result<()> {
    let testbed = Testbed::new()?;
    assert_eq!(testbed.lost()?, (Some(3), Value::Null), "there are no figures yet");
    let mut proxy = testbed.start()?;
    assert_eq!(testbed.lost()?, (Some(0), json!(0)));
    testbed.lose(10)?;
    assert_eq!(testbed.lost()?, (Some(1), json!(10)));
    let metadata = fs::metadata(testbed.file())?;
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o7777), (HISTORY_BYTES, 0o600));
    let folder = fs::metadata(testbed.dir.path().join("insight"))?;
    assert_eq!(folder.permissions().mode() & 0o7777, 0o700);
    testbed.lose(1)?;
    assert!(proxy.stop()?.success());
    assert_eq!(testbed.lost()?, (Some(1), json!(11)), "hookgate is down");

    let proxy = testbed.start()?;
    testbed.lose(4)?;
    assert_eq!(testbed.lost()?, (Some(1), json!(15)));
    proxy.signal(Signal::KILL)?;
    drop(proxy);
    assert_eq!(testbed.lost()?, (Some(1), json!(15)));
    let _proxy = testbed.start()?;
    assert_eq!(testbed.lost()?, (Some(1), json!(15)));
    Ok(())
}

#[test]
fn a_damaged_history_is_set_aside_and_reported_once() -> Result<()> {
    for damage in ["a slot", "its head", "its length"] {
        let testbed = Testbed::new()?;
        let mut proxy = testbed.start()?;
        testbed.lose(7)?;
        assert_eq!(testbed.lost()?, (Some(1), json!(7)));
        proxy.stop()?;
        let file = fs::OpenOptions::new().write(true).open(testbed.file())?;
        match damage {
            "a slot" => (0..2880).try_for_each(|slot| file.write_all_at(&[0xff; 16], 4096 + 3072 * slot))?,
            "its head" => file.write_all_at(b"another version!", 8)?,
            _ => file.set_len(1000)?,
        }
        let proxy = testbed.start()?;
        let said = proxy.stderr();
        assert_eq!(said.matches("insight: the history begins anew").count(), 1, "{damage}: {said}");
        assert!(testbed.file().with_extension("bad").exists(), "{damage}");
        assert_eq!(testbed.lost()?, (Some(0), json!(0)), "{damage}");
        testbed.lose(5)?;
        assert_eq!(testbed.lost()?, (Some(1), json!(5)), "{damage}");
    }
    Ok(())
}

#[test]
fn a_disk_that_is_full_costs_the_history_and_no_request() -> Result<()> {
    if !require(&[Need::Root, Need::Program("unshare")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let folder = testbed.dir.path().join("insight");
    fs::create_dir(&folder)?;
    let small_disk = "mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\"";
    let folder = folder.to_string_lossy();
    let command = testbed.command(&["run"])?;
    let args = ["--mount", "--propagation", "private", "sh", "-c", small_disk, &folder];
    let proxy = testbed.start_by(wrapped("unshare", &args, &command))?;
    let said = proxy.stderr();
    assert!(said.contains("insight: figures are gone when hookgate ends"), "{said}");
    testbed.lose(6)?;
    assert_eq!(testbed.lost()?, (Some(1), json!(6)), "they are kept in memory");
    Ok(())
}

#[test]
fn two_that_share_a_folder_do_not_mix_their_figures() -> Result<()> {
    let first = Testbed::new()?;
    let _proxy = first.start()?;
    let second = Testbed::with_state(
        TempDir::new("second")?,
        &first.dir.path().join("insight").display().to_string(),
    )?;
    let other = second.start()?;
    let said = other.stderr();
    assert!(said.contains("another hookgate has it"), "{said}");
    second.lose(5)?;
    assert_eq!(second.lost()?, (Some(1), json!(5)));
    assert_eq!(first.lost()?, (Some(0), json!(0)));
    Ok(())
}

/// Unix time.
fn seconds_of(time: &Value) -> Result<i64> {
    let mut date = Command::new("date");
    date.args(["+%s", "--date", time.as_str().context("a time")?]);
    Ok(run(date)?.trim().parse()?)
}

#[test]
fn a_window_is_given_in_whole_minutes() -> Result<()> {
    let testbed = Testbed::new()?;
    let _proxy = testbed.start()?;
    testbed.lose(5)?;
    for (since, seconds) in [("30s", 60), ("90s", 120), ("1h", 3600), ("7d", 7 * 86400)] {
        let output = testbed.command(&["lost", "--json", "--since", since])?.output()?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let (from, to) = (seconds_of(&report["from"])?, seconds_of(&report["to"])?);
        assert_eq!((from % 60, to % 60), (0, 0), "{report}");
        assert!((seconds..=seconds + 60).contains(&(to - from)), "{since}: {report}");
    }
    for since in ["0s", "61d", "1", "h", "-1h"] {
        let output = testbed.command(&["lost", &format!("--since={since}")])?.output()?;
        assert_eq!(output.status.code(), Some(2), "{since}");
    }
    let stats = testbed.command(&["stats", "--json", "--since", "5m"])?.output()?;
    let stats: Value = serde_json::from_slice(&stats.stdout)?;
    assert_eq!(stats["other"]["failed"], json!(5), "{stats}");
    assert!(stats["from"].is_string() && stats["to"].is_string(), "{stats}");
    Ok(())
}
