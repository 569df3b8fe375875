use anyhow::{Result, ensure};
use harness::{NetNs, ask_admin};

use crate::testbed::{Testbed, message, messaging, now, status, whatsapp};

/// What a person wrote, and what leads to one.
const SECRETS: [&str; 6] =
    ["another color", "16505551234", "15550100200", "wamid.SECRET", "m_SECRET", "webhooks/whatsapp"];

#[test]
fn nothing_that_a_person_wrote_or_is_called_is_kept() -> Result<()> {
    let testbed = Testbed::start()?;
    let seconds = now() / 1000;
    for answer in ["200", "500", "200"] {
        let statuses = [status("wamid.SECRET2", "delivered", seconds)];
        testbed.send(&whatsapp(&[message("wamid.SECRET1", seconds)], &statuses), answer)?;
        testbed.send(&messaging("page", "m_SECRET", now(), now()), answer)?;
    }
    let page = |path: &str| -> Result<Vec<u8>> { Ok(ask_admin(testbed.admin, path)?.body) };
    let command =
        |args: &[&str]| -> Result<Vec<u8>> { Ok(testbed.proxy.command(&NetNs::here(), args)?.into_bytes()) };
    let places = [
        ("state", testbed.state()?),
        ("/metrics", page("/metrics")?),
        ("/messages.json", page("/messages.json")?),
        ("/history.json", page("/history.json?minutes=60")?),
        ("messages", command(&["messages"])?),
    ];
    for (place, bytes) in &places {
        for secret in SECRETS {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            ensure!(!found, "{secret} is in {place}");
        }
    }
    // They are the log's, by path alone.
    let log = testbed.proxy.stderr();
    for secret in &SECRETS[..5] {
        ensure!(!log.contains(secret), "{secret} is in the log");
    }
    // The number's own id is there in the clear.
    ensure!(places[2].1.windows(15).any(|window| window == b"106540352242922"));
    Ok(())
}
