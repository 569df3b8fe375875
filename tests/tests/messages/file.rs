use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use anyhow::Result;
use harness::wait_until;
use serde_json::json;

use crate::testbed::{TIMEOUT, Testbed, message, now, whatsapp};

/// With room for a million events.
const LEDGER_BYTES: u64 = 57_761_296;

#[test]
fn the_file_is_for_its_owner_alone_and_has_its_room_from_the_start() -> Result<()> {
    let testbed = Testbed::start()?;
    let metadata = fs::metadata(testbed.ledger())?;
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o7777), (LEDGER_BYTES, 0o600));
    let small = Testbed::with("ledger = 1000")?;
    assert!(fs::metadata(small.ledger())?.len() < 20 << 20);
    Ok(())
}

#[test]
fn a_damaged_ledger_is_set_aside() -> Result<()> {
    for damage in ["its head", "an event", "its length"] {
        let mut testbed = Testbed::start()?;
        let send =
            |testbed: &Testbed, id: &str| testbed.send(&whatsapp(&[message(id, now() / 1000)], &[]), "200");
        send(&testbed, "wamid.1")?;
        assert_eq!(testbed.row("whatsapp")?["outcomes"]["delivered"], json!(1));
        testbed.proxy.stop()?;
        let file = fs::OpenOptions::new().write(true).open(testbed.ledger())?;
        match damage {
            "its head" => file.write_all_at(b"another version!", 0)?,
            "an event" => file.write_all_at(&[0xff; 32], 4096)?,
            _ => file.set_len(1000)?,
        }
        testbed.start_again()?;
        let anew = || Ok(testbed.proxy.stderr().contains("insight: the ledger begins anew"));
        wait_until("the damage is told", TIMEOUT, anew)?;
        assert!(testbed.ledger().with_extension("bad").exists(), "{damage}");
        send(&testbed, "wamid.1")?;
        wait_until("events are kept", TIMEOUT, || {
            Ok(testbed.row("whatsapp").is_ok_and(|row| row["outcomes"]["delivered"] == 1))
        })?;
        assert_eq!(testbed.proxy.stderr().matches("begins anew").count(), 1, "{damage}");
    }
    Ok(())
}

#[test]
fn the_ledger_keeps_as_many_events_as_it_is_told() -> Result<()> {
    let testbed = Testbed::with("ledger = 1000")?;
    let seconds = now() / 1000;
    let batch = |first: usize| -> Vec<_> {
        (first..first + 500).map(|number| message(&format!("wamid.{number}"), seconds)).collect()
    };
    testbed.send(&whatsapp(&[message("wamid.failed", seconds)], &[]), "500")?;
    for first in [0, 500, 1000, 1500] {
        testbed.send(&whatsapp(&batch(first), &[]), "200")?;
    }
    let row = testbed.row("whatsapp")?;
    assert_eq!((&row["outcomes"]["delivered"], &row["outstanding"]), (&json!(2000), &json!(1)), "{row}");
    // What was evicted is new once more, what is kept is a duplicate, what had failed recovers.
    testbed
        .send(&whatsapp(&[message("wamid.1999", seconds), message("wamid.failed", seconds)], &[]), "200")?;
    testbed.send(&whatsapp(&[message("wamid.0", seconds)], &[]), "200")?;
    let row = testbed.row("whatsapp")?;
    let counts = ["delivered", "duplicate", "recovered"].map(|outcome| row["outcomes"][outcome].clone());
    assert_eq!(counts, [json!(2001), json!(1), json!(1)], "{row}");
    Ok(())
}
