//! The bench's load generator: what it counts, and that it does not overlook a failure.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use harness::{Certs, Receiver, TempDir, VERIFY_TOKEN};
use serde_json::Value;

const NAME: &str = "proxy.example.com";

/// A receiver that answers 200 when the verify token is right.
struct Testbed {
    receiver: Receiver,
    dir: TempDir,
}

impl Testbed {
    fn new(token: &str) -> Result<Self> {
        let dir = TempDir::new("load")?;
        let certs = Certs::new(&[NAME])?;
        certs.write(&dir, "receiver")?;
        let target = format!("/webhooks/whatsapp?hub.challenge=1158201444&hub.verify_token={token}");
        dir.write("request.http", format!("GET {target} HTTP/1.1\r\nHost: {NAME}\r\n\r\n"))?;
        Ok(Self { receiver: Receiver::start(&certs)?, dir })
    }

    /// What the generator measured; `None` when it failed.
    fn load(&self, args: &str) -> Result<Option<Value>> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
        command.args(["--address", &self.receiver.address().to_string(), "--name", NAME, "--ca"]);
        command.arg(self.dir.path().join("receiver-ca.pem"));
        command.arg("--request").arg(self.dir.path().join("request.http")).args(args.split(' '));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut generator = command.spawn()?;
        // When it has failed already it reads no more.
        let _ = generator.stdin.take().context("piped")?.write_all(b"go\n");
        let output = generator.wait_with_output()?;
        if !output.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8(output.stdout)?;
        let measured = said.strip_prefix("ready\n").context(said.clone())?;
        Ok(Some(serde_json::from_str(measured)?))
    }
}

#[test]
fn every_load_counts_what_arrived() -> Result<()> {
    for (args, warm_up, expected) in [
        ("kept --connections 2 --seconds 0.2", 20, None),
        ("paced --connections 2 --per-second 50 --seconds 0.2", 20, Some(10)),
        ("handshakes --senders 2 --seconds 0.2", 2, None),
        ("handshakes --senders 2 --seconds 0.2 --resumed", 2, None),
        ("burst --connections 5", 1, Some(5)),
    ] {
        let testbed = Testbed::new(VERIFY_TOKEN)?;
        let measured = testbed.load(args)?.with_context(|| format!("{args}: failed"))?;
        let requests = measured["requests"].as_u64().context("no requests")?;
        assert_eq!(testbed.receiver.received().len() as u64, warm_up + requests, "{args}: {measured}");
        assert!(requests >= 2 && expected.is_none_or(|expected| requests == expected), "{args}: {measured}");
        assert!(measured["p50"].as_f64() <= measured["p99.9"].as_f64(), "{args}: {measured}");
    }
    Ok(())
}

#[test]
fn an_answer_but_200_ends_every_load() -> Result<()> {
    for args in
        ["kept --connections 1 --seconds 0.1", "burst --connections 1", "idle --connections 1", "first"]
    {
        assert_eq!(Testbed::new("wrong")?.load(args)?, None, "{args}");
    }
    Ok(())
}
