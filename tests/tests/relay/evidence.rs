//! `hookgate evidence`: figures for a ticket, from the running proxy or from files, and of a
//! tenant only what is asked for.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Client, End, NetNs, Origin, Running, TempDir, binary, free_port};
use serde_json::{Value, json};

use crate::{TlsDoor, local, post};

const START_TIMEOUT: Duration = Duration::from_secs(10);
/// What of a request may be in no file.
const SECRETS: [&str; 5] = ["secret-path", "t0ken", "wamid.HBgL", "15550783881", "a person's words"];

struct Testbed {
    dir: TempDir,
    address: SocketAddr,
    config: PathBuf,
    _tls: TlsDoor,
    _origin: Origin,
}

impl Testbed {
    fn new() -> Result<Self> {
        let dir = TempDir::new("evidence")?;
        let origin = Origin::plain_at(local(0), |connection| {
            while connection.request()?.is_some() {
                connection.send("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")?;
            }
            Ok(End::Close)
        })?;
        let (tls, https, section) = TlsDoor::new()?;
        let upstream = origin.address();
        let (address, no_dns) = (local(free_port()?), local(free_port()?));
        let config = dir.write(
            "hookgate.toml",
            format!(
                "[listen]\nplain = [\"{address}\"]\n{https}\n{section}\n[admin]\nsocket = {:?}\n[insight]\nstate = {:?}\n\
                 [dns]\nservers = [\"{no_dns}\"]\ntimeout = \"1s\"\n[upstreams]\n\
                 \"broken.example\" = {{ address = \"{upstream}\", tls = false }}\n\
                 \"other.example\" = {{ address = \"{upstream}\", tls = false }}\n",
                dir.path().join("admin.sock"),
                dir.path().join("insight"),
            ),
        )?;
        Ok(Self { dir, address, config, _tls: tls, _origin: origin })
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = NetNs::here().command(&binary()?.to_string_lossy());
        command.args(args).arg("--config").arg(&self.config);
        Ok(command)
    }

    fn start(&self) -> Result<Running> {
        let mut proxy = Running::start(self.command(&["run"])?)?;
        proxy.wait_for_stderr("(admin)", START_TIMEOUT)?;
        Ok(proxy)
    }

    fn lose(&self, upstream: &str, count: usize) -> Result<()> {
        let body = json!({ "object": "whatsapp_business_account", "entry": [{ "id": "1", "changes": [{
            "field": "messages", "value": { "messages": [{ "id": "wamid.HBgLMTU1NTA3ODM4ODE=", "from": "15550783881",
            "timestamp": "1790000000", "type": "text", "text": { "body": "a person's words" } }] } }] }] });
        let mut client = Client::plain(self.address)?;
        for _ in 0..count {
            let target = format!("/{upstream}/secret-path?hub.verify_token=t0ken");
            assert_eq!(client.ask(post(&target, &body.to_string()))?.status(), 500);
        }
        Ok(())
    }

    /// Exit code and what was printed.
    fn evidence(&self, args: &[&str]) -> Result<(Option<i32>, String)> {
        let output = self.command(&[&["evidence"], args].concat())?.output()?;
        let [printed, said] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok((output.status.code(), printed + &said))
    }

    /// Text and figures, from files.
    fn files(&self, args: &[&str]) -> Result<(String, Value, String)> {
        let path = self.dir.path().join("ticket.md");
        let shown = path.to_string_lossy();
        let (code, said) = self.evidence(&[args, &["--output", &shown]].concat())?;
        assert_eq!((code, &*said), (Some(0), ""), "{args:?}");
        let [text, figures] = [shown.to_string(), format!("{shown}.json")].map(fs::read_to_string);
        let figures = figures?;
        Ok((text?, serde_json::from_str(&figures)?, figures))
    }
}

/// What was lost at upstreams.
fn lost(report: &Value) -> Result<&Value> {
    let stages = report["stages"].as_array().context("no stages")?;
    let found = stages.iter().find(|stage| stage["stage"] == "upstream").context("no such stage")?;
    Ok(&found["lost"])
}

#[test]
fn figures_are_written_for_a_ticket_and_no_tenant_is_named_unasked() -> Result<()> {
    let testbed = Testbed::new()?;
    let (code, said) = testbed.evidence(&["--for", "meta"])?;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("no figures"), "{said}");
    let mut proxy = testbed.start()?;
    testbed.lose("broken.example", 7)?;
    testbed.lose("other.example", 2)?;

    for reader in ["provider", "meta"] {
        let (text, figures, raw) = testbed.files(&["--for", reader, "--since", "1h"])?;
        for secret in SECRETS.iter().chain(&["broken.example", "other.example"]) {
            assert!(!text.contains(secret) && !raw.contains(secret), "{reader}: {secret}\n{text}\n{raw}");
        }
        let found = [&figures["version"], &figures["for"], &figures["source"], lost(&figures["lost"])?];
        assert_eq!(found, [&json!(1), &json!(reader), &json!("proxy"), &json!(9)], "{raw}");
        assert!(text.contains("AS32934") && text.contains("9 of 9 posts were lost"), "{text}");
        assert!(text.contains(&format!("`{}`", testbed.address)), "{text}");
        let name = &figures["names"][0];
        assert_eq!((&name["name"], &name["addresses"]), (&json!("proxy.example.com"), &json!([])), "{raw}");
        assert!(name["error"].is_string() && text.contains("no address from the DNS"), "{text}");
        assert_eq!(figures["answers"].is_object(), reader == "meta", "{raw}");
    }
    let (text, figures, _) = testbed.files(&["--for", "meta"])?;
    assert_eq!(figures["answers"]["codes"], json!({ "500": 9 }));
    assert!(text.contains("In the window, 0 of 9 POSTs were answered with 200 in full"), "{text}");

    let (text, figures, raw) = testbed.files(&["--for", "meta", "--upstream", "Broken.example"])?;
    assert!(text.contains("## Requests to `broken.example`"), "{text}");
    assert_eq!(figures["upstream"]["host"], "broken.example");
    assert_eq!((lost(&figures["upstream"]["lost"])?, lost(&figures["lost"])?), (&json!(7), &json!(9)));
    assert_eq!(figures["answers"]["codes"], json!({ "500": 7 }));
    for secret in SECRETS.iter().chain(&["other.example"]) {
        assert!(!text.contains(secret) && !raw.contains(secret), "{secret}\n{text}\n{raw}");
    }
    let (code, printed) = testbed.evidence(&["--for", "provider"])?;
    assert!(code == Some(0) && printed.starts_with("# Connections from Meta (AS32934)"), "{printed}");
    let (_, printed) = testbed.evidence(&["--for", "provider", "--json"])?;
    assert_eq!(serde_json::from_str::<Value>(&printed)?["for"], "provider");

    assert!(proxy.stop()?.success());
    let (text, figures, raw) = testbed.files(&["--for", "meta"])?;
    assert_eq!((&figures["source"], lost(&figures["lost"])?), (&json!("files"), &json!(9)), "{raw}");
    assert_eq!(figures["names"][0]["name"], "proxy.example.com", "{raw}");
    assert!(
        figures["answers"].is_null() && figures["listeners"].as_array().is_some_and(|all| all.len() == 2),
        "{raw}"
    );
    assert!(text.contains("the relay itself did not answer"), "{text}");
    assert!(text.contains("hookgate does not run"), "what can't be told is told: {text}");
    assert!(!text.contains("broken.example") && !raw.contains("broken.example"), "{text}");
    Ok(())
}

#[test]
fn a_file_is_replaced_as_a_whole_or_not_at_all() -> Result<()> {
    let testbed = Testbed::new()?;
    let _proxy = testbed.start()?;
    let folder = testbed.dir.path().join("tickets");
    let path = folder.join("ticket.md");
    let shown = path.to_string_lossy();
    let (code, said) = testbed.evidence(&["--for", "provider", "--output", &shown])?;
    assert!(code == Some(1) && said.contains("there is no folder"), "{said}");
    fs::create_dir(&folder)?;
    fs::write(&path, "an earlier one, which is longer than nothing")?;
    let before = fs::File::open(&path)?;
    let (code, said) = testbed.evidence(&["--for", "provider", "--output", &shown])?;
    assert_eq!((code, &*said), (Some(0), ""));
    assert!(fs::read_to_string(&path)?.starts_with("# Connections"));
    assert!(std::io::read_to_string(before)?.starts_with("an earlier one"), "it is another file");
    assert_eq!(fs::read_dir(&folder)?.count(), 2, "the text and its figures");
    Ok(())
}
