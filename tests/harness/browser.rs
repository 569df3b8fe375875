use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde_json::{Value, json};

use crate::{Running, TempDir, wait_until};

/// A real browser (Chromium, without a screen) with one page, driven over its DevTools protocol.
pub struct Browser {
    commands: File,
    messages: Receiver<Value>,
    /// What it has told without being asked.
    events: Vec<Value>,
    session: Option<String>,
    last: u64,
    running: Running,
    /// Removed after the browser, which writes there.
    _profile: TempDir,
}

/// For one answer.
const MAX_WAIT: Duration = Duration::from_secs(30);

impl Browser {
    /// # Errors
    /// No chromium, or it does not answer.
    pub fn start() -> Result<Self> {
        // It takes commands from descriptor 3 and answers on descriptor 4.
        const LAUNCH: &str = r#"mkfifo "$1/commands"
            exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                --disable-background-networking --user-data-dir="$1" --remote-debugging-pipe \
                about:blank 3<"$1/commands" 4>&1 >/dev/null"#;
        let profile = TempDir::new("browser")?;
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCH, "sh"]).arg(profile.path()).env("TMPDIR", profile.path());
        let (output, input) = std::io::pipe()?;
        let running = Running::start_into(command, input.into())?;
        let commands = profile.path().join("commands");
        wait_until("chromium's pipe is there", MAX_WAIT, || Ok(commands.exists()))?;
        let commands = OpenOptions::new().write(true).open(commands).context("chromium's commands")?;
        let (told, messages) = channel();
        std::thread::spawn(move || {
            let pieces = BufReader::new(output).split(0).map_while(Result::ok);
            for message in pieces.filter_map(|piece| serde_json::from_slice(&piece).ok()) {
                if told.send(message).is_err() {
                    return;
                }
            }
        });
        let (events, session) = (Vec::new(), None);
        let mut browser = Self { commands, messages, events, session, last: 0, running, _profile: profile };
        browser.attach()?;
        Ok(browser)
    }

    fn attach(&mut self) -> Result<()> {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach)?;
        self.session = Some(attached["sessionId"].as_str().context("no session")?.to_owned());
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(())
    }

    /// Goes to `url`, and does not wait for it.
    ///
    /// # Errors
    /// It does not answer.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.call("Page.navigate", json!({ "url": url })).map(drop)
    }

    /// What an expression is worth in the page.
    ///
    /// # Errors
    /// It throws.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked)?;
        if answer.get("exceptionDetails").is_some() {
            bail!("{expression}: {answer}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Looks at it through a window so wide, in light or dark.
    ///
    /// # Errors
    /// It does not answer.
    pub fn look(&mut self, width: u32, scheme: &str) -> Result<()> {
        let size = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features })).map(drop)
    }

    /// What a key does that is pressed and let go, `\t` or `\r` for example.
    ///
    /// # Errors
    /// It does not answer.
    pub fn press(&mut self, key: &str, text: &str, code: u32) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({ "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Whatever it has asked a network for, as URLs.
    pub fn requested(&self) -> Vec<String> {
        let of = |event: &Value| event["params"]["request"]["url"].as_str().map(str::to_owned);
        self.told("Network.requestWillBeSent").filter_map(of).collect()
    }

    /// What it complained about: errors on its console, exceptions, violations of a policy.
    pub fn complaints(&self) -> Vec<String> {
        let console = self.told("Runtime.consoleAPICalled");
        let log = self.told("Log.entryAdded");
        let exceptions = self.told("Runtime.exceptionThrown");
        console.chain(log).chain(exceptions).map(|event| event["params"].to_string()).collect()
    }

    fn told<'b>(&'b self, method: &'b str) -> impl Iterator<Item = &'b Value> {
        self.events.iter().filter(move |event| event["method"] == method)
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all((command.to_string() + "\0").as_bytes())?;
        loop {
            let message =
                self.messages.recv_timeout(MAX_WAIT).with_context(|| format!("{method}: no answer"))?;
            if message["id"] != self.last {
                self.events.push(message);
            } else if message.get("error").is_some() {
                bail!("{method}: {message}");
            } else {
                return Ok(message["result"].clone());
            }
        }
    }
}

impl Drop for Browser {
    /// All of its processes, which write to the profile until they end.
    fn drop(&mut self) {
        // Whatever does not take the hint is killed.
        let _ = self.call("Browser.close", json!({}));
        let group = i32::try_from(self.running.pid()).ok().and_then(Pid::from_raw);
        let Some(group) = group else { return };
        let gone =
            |running: &mut Running| Ok(running.ended()?.is_some() && test_kill_process_group(group).is_err());
        if wait_until("chromium ends", MAX_WAIT, || gone(&mut self.running)).is_err() {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = wait_until("chromium is killed", MAX_WAIT, || gone(&mut self.running));
        }
    }
}
