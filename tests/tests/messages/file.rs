use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::process::Command;

use anyhow::{Context as _, Result};
use harness::{Need, require, run, wait_until};
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

/// It takes the memory of the few pages that are used, however much the kernel reads ahead of
/// others.
#[test]
fn a_new_file_takes_next_to_no_memory() -> Result<()> {
    if !require(&[Need::Program("fincore"), Need::TempDirOnDisk]) {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    testbed.send(&whatsapp(&[message("wamid.1", now() / 1000)], &[]), "200")?;
    assert_eq!(testbed.row("whatsapp")?["outcomes"]["delivered"], json!(1));
    let mut fincore = Command::new("fincore");
    fincore.args(["--noheadings", "--bytes", "--output", "RES"]).arg(testbed.ledger());
    let resident = run(fincore)?;
    assert!(resident.trim().parse::<u64>()? <= 64 << 10, "{} of {LEDGER_BYTES} bytes", resident.trim());
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
fn another_size_loses_nothing() -> Result<()> {
    let mut testbed = Testbed::with("ledger = 5000")?;
    let send = |testbed: &Testbed, id: &str, answer: &str| {
        testbed.send(&whatsapp(&[message(id, now() / 1000)], &[]), answer)
    };
    send(&testbed, "wamid.1", "200")?;
    send(&testbed, "wamid.2", "500")?;
    testbed.proxy.stop()?;
    testbed.resize(5000, 20_000)?;
    testbed.start_again()?;
    wait_until("the ledger is read", TIMEOUT, || Ok(testbed.row("whatsapp").is_ok()))?;
    send(&testbed, "wamid.1", "200")?;
    send(&testbed, "wamid.2", "200")?;
    // And through a takeover, with a request under way.
    let mut under_way = testbed.client()?;
    send(&testbed, "wamid.3", "502")?;
    let body = whatsapp(&[message("wamid.3", now() / 1000)], &[]).to_string();
    under_way.wire().send(crate::testbed::post(crate::testbed::UPSTREAM, &body, "slow"))?;
    harness::pace(std::time::Duration::from_millis(300));
    let config = fs::read_to_string(testbed.proxy.config())?;
    fs::write(testbed.proxy.config(), config.replace("ledger = 20000", "ledger = 3000"))?;
    testbed.proxy.upgrade()?;
    assert_eq!(under_way.response()?.status(), 200);
    let expected = [json!(1), json!(2), json!(1), json!(0)];
    wait_until("all of it is there", TIMEOUT, || {
        let Ok(row) = testbed.row("whatsapp") else { return Ok(false) };
        let counts = ["delivered", "recovered", "duplicate"].map(|name| row["outcomes"][name].clone());
        let [delivered, recovered, duplicate] = counts;
        Ok([delivered, recovered, duplicate, row["outstanding"].clone()] == expected)
    })
    .with_context(|| format!("{:?}", testbed.row("whatsapp")))?;
    assert!(!testbed.ledger().with_extension("bad").exists());
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
