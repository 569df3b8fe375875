//! `hookgate stats` and `hookgate top`, told by the running proxy.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::{Need, NetNs, Origin, Stopped, TempDir, binary, require, run, wait_until};
use serde_json::{Value, json};

use crate::{OK, Relay, TIMEOUTS, get, post, proxy_line, request, upstream};

/// A relay with an admin socket, after two requests of Meta's and one of a stranger.
struct Testbed {
    relay: Relay,
    _origin: Origin,
    dir: TempDir,
}

impl Testbed {
    fn start() -> Result<Self> {
        let (dir, origin) = (TempDir::new("figures")?, Origin::answering(OK)?);
        let relay = Relay::listening(
            "proxy_protocol_from = [\"127.0.0.0/8\"]",
            &format!(
                "socket = {:?}\n{TIMEOUTS}{}",
                dir.path().join("admin.sock"),
                upstream(origin.address(), "")
            ),
        )?;
        for (source, request) in [
            ("157.240.1.1", post("/up.example/", "hello")),
            ("157.240.1.2", get("/up.example/")),
            ("203.0.113.1", get("/nobody.example/")),
        ] {
            let mut client = relay.client()?;
            client.wire().send(proxy_line(source))?;
            client.ask(request.as_str())?;
        }
        relay.wait_for("hookgate_prefix_refused_total{prefix=\"other\"}", 1.0)?;
        relay.wait_for("hookgate_prefix_delivered_total{prefix=\"157.240.0.0/17\"}", 2.0)?;
        Ok(Self { relay, _origin: origin, dir })
    }

    fn hookgate(&self, arguments: &[&str]) -> Result<String> {
        self.relay.proxy.command(&NetNs::here(), arguments)
    }
}

fn row<'d>(document: &'d Value, prefix: &str) -> &'d Value {
    let rows = document["prefixes"].as_array().into_iter().flatten();
    rows.into_iter().find(|row| row["prefix"] == prefix).unwrap_or(&Value::Null)
}

#[test]
fn the_running_proxy_is_asked_first() -> Result<()> {
    let testbed = Testbed::start()?;
    let document: Value = serde_json::from_str(&testbed.hookgate(&["stats", "--json"])?)?;
    assert_eq!(document["version"], 1);
    assert_ne!(document["guard"]["state"], "attached");
    let meta = row(&document, "157.240.0.0/17");
    let counted = |row: &Value| {
        ["accepted", "tls", "tls_failed", "requests", "delivered", "refused", "failed"]
            .map(|step| row[step].as_u64().unwrap_or(u64::MAX))
    };
    assert_eq!(counted(meta), [2, 0, 0, 2, 2, 0, 0], "{meta}");
    assert_eq!(counted(&document["other"]), [1, 0, 0, 1, 0, 1, 0]);
    assert_eq!(counted(row(&document, "31.13.64.0/18")), [0; 7], "a prefix without traffic is there too");
    assert_eq!((&meta["packets"], &meta["last_seen"]), (&json!(0), &Value::Null));

    let table = testbed.hookgate(&["stats"])?;
    assert!(table.contains("157.240.0.0/17") && !table.contains("31.13.64.0/18"), "{table}");
    assert!(testbed.hookgate(&["stats", "--all"])?.contains("31.13.64.0/18"));
    Ok(())
}

#[test]
fn a_nat_that_hides_metas_addresses_is_told() -> Result<()> {
    let mut testbed = Testbed::start()?;
    let send = |testbed: &Testbed, source: &str, fields: &[&str], count: usize| -> Result<()> {
        let mut client = testbed.relay.client()?;
        client.wire().send(proxy_line(source))?;
        (0..count).try_for_each(|_| {
            client.ask(request("POST /up.example/", &[fields, &["Content-Length: 5"]].concat(), "hello"))?;
            Ok(())
        })
    };
    let hidden = |testbed: &Testbed| -> Result<Value> {
        let document: Value = serde_json::from_str(&testbed.hookgate(&["stats", "--json"])?)?;
        Ok(document["hidden_sources"].clone())
    };
    let signed = ["X-Hub-Signature-256: sha256=00"];
    // Neither from Meta, nor from elsewhere in the Internet, nor without a signature.
    send(&testbed, "157.240.1.1", &signed, 1)?;
    send(&testbed, "203.0.113.9", &signed, 20)?;
    send(&testbed, "172.17.0.1", &[], 20)?;
    assert_eq!(hidden(&testbed)?, Value::Null);
    send(&testbed, "172.17.0.1", &signed, 9)?;
    assert_eq!(hidden(&testbed)?, json!({ "requests": 9, "source": "172.17.0.1" }));
    const WARNING: &str = "requests that look like Meta's come from 172.17.0.1: a NAT before hookgate hides";
    assert!(!testbed.relay.proxy.stderr().contains(WARNING), "few may be a test of the operator's");
    send(&testbed, "172.17.0.1", &signed, 9)?;
    testbed.relay.proxy.wait_for_stderr(WARNING, Duration::from_secs(5))?;
    assert_eq!(testbed.relay.proxy.stderr().matches(WARNING).count(), 1);

    // The doctor's exit code is other findings' too.
    let mut doctor = Command::new(binary()?);
    doctor.args(["doctor", "--json", "--config"]).arg(testbed.relay.proxy.config());
    let document: Value = serde_json::from_slice(&doctor.output()?.stdout)?;
    let findings = document["findings"].as_array().into_iter().flatten();
    let told = findings.filter(|finding| {
        finding["text"]
            .as_str()
            .is_some_and(|text| text.starts_with("18 requests that look like Meta's came from"))
    });
    let levels: Vec<&Value> = told.map(|finding| &finding["level"]).collect();
    assert_eq!(levels, ["warn"], "{document:#}");
    Ok(())
}

#[test]
fn without_the_proxy_the_pins_are_read() -> Result<()> {
    let mut testbed = Testbed::start()?;
    testbed.relay.proxy.stop()?;
    let document: Value = serde_json::from_str(&testbed.hookgate(&["stats", "--json"])?)?;
    assert_ne!(document["guard"]["state"], "attached");
    assert_eq!(row(&document, "157.240.0.0/17")["packets"], 0);
    Ok(())
}

#[test]
fn watching_gives_one_object_a_line() -> Result<()> {
    let testbed = Testbed::start()?;
    let mut command = Command::new(binary()?);
    command.args(["stats", "--json", "--watch", "--config"]).arg(testbed.relay.proxy.config());
    let mut watching = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("no output")?).lines();
    for _ in 0..2 {
        let document: Value = serde_json::from_str(&lines.next().context("it ended")??)?;
        assert_eq!(row(&document, "157.240.0.0/17")["delivered"], 2);
    }
    // Its reader is gone: it ends by itself, and not as a failure.
    drop(lines);
    let mut ended = None;
    let _ = wait_until("the command ends", Duration::from_secs(5), || {
        ended = watching.try_wait()?;
        Ok(ended.is_some())
    });
    let Some(status) = ended else {
        watching.kill()?;
        bail!("it goes on without a reader")
    };
    assert_eq!(status.code(), Some(0));
    Ok(())
}

/// A terminal of 80 columns and 24 lines, in which `top` runs.
struct Tmux {
    socket: String,
}

impl Tmux {
    fn start(testbed: &Testbed) -> Result<Self> {
        let socket = testbed.dir.path().join("tmux.sock").to_string_lossy().into_owned();
        let tmux = Self { socket };
        let config = testbed.relay.proxy.config().to_string_lossy().into_owned();
        let top = format!("{} top --config {config}; echo ended with $?; sleep 60", binary()?.display());
        tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &top])?;
        Ok(tmux)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        command.env("LC_ALL", "C.UTF-8").args(["-u", "-S", &self.socket]).args(arguments);
        run(command)
    }

    fn press(&self, key: &str) -> Result<()> {
        self.run(&["send-keys", key]).map(drop)
    }

    /// What is on the screen, once it holds `text`.
    fn shows(&self, text: &str) -> Result<String> {
        let mut screen = String::new();
        let shown = wait_until(format!("{text:?} is on the screen"), Duration::from_secs(20), || {
            screen = self.run(&["capture-pane", "-p"])?;
            Ok(screen.contains(text))
        });
        shown.with_context(|| format!("the screen:\n{screen}"))?;
        Ok(screen)
    }

    /// Returns once `text` is on the screen no more.
    fn gone(&self, text: &str) -> Result<()> {
        let is_gone = || Ok(!self.run(&["capture-pane", "-p"])?.contains(text));
        wait_until(format!("{text:?} is gone"), Duration::from_secs(10), is_gone).map(drop)
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}

#[test]
fn top_works_in_a_terminal_of_80_by_24() -> Result<()> {
    if !require(&[Need::Program("tmux")]) {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    let terminal = Tmux::start(&testbed)?;
    let screen = terminal.shows("157.240.0.0/17")?;
    assert!(screen.contains("PREFIX") && screen.contains("q quit"), "{screen}");
    assert!(screen.contains("100%"), "two of two were delivered: {screen}");
    terminal.press("Enter")?;
    let screen = terminal.shows("delivered")?;
    assert!(screen.contains("requests"), "{screen}");
    terminal.press("Escape")?;
    terminal.shows("PREFIX")?;
    terminal.press("s")?;
    terminal.shows("order: bytes")?;
    let hung = Stopped::new(testbed.relay.proxy.worker()?)?;
    let screen = terminal.shows("hookgate does not answer: ")?;
    assert!(screen.contains("q quit"), "{screen}");
    drop(hung);
    terminal.gone("hookgate does not answer: ")?;
    terminal.press("Space")?;
    terminal.shows("PAUSED")?;
    terminal.press("q")?;
    let screen = terminal.shows("ended with 0")?;
    assert!(!screen.contains("q quit"), "the screen is as it was before: {screen}");
    Ok(())
}

#[test]
fn top_without_a_terminal_says_what_to_use() -> Result<()> {
    let testbed = Testbed::start()?;
    let error = testbed.hookgate(&["top"]).err().context("it ran")?;
    assert!(format!("{error:#}").contains("stats --watch"), "{error:#}");
    Ok(())
}
