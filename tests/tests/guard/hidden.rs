//! Strangers who hide their flags from the guard, and who the kernel's TCP would let in all the
//! same.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Need, equal, wait_until};
use serde_json::Value;

use super::peers::Server;
use super::raw::{ACK, Listener, SYN, Segment, Sender};
use super::testbed::{EDGE_V4, EDGE_V6, META, STRANGERS, Testbed, can_run};

const MAX_WAIT: Duration = Duration::from_secs(3);
const SYN_ACK: u8 = SYN | ACK;
const NEEDS: [Need; 1] = [Need::Program("nft")];

/// The senders' own kernel knows nothing of the connections that are made in its name.
fn without_resets(testbed: &Testbed) -> Result<()> {
    testbed.meta.run("nft add table inet quiet")?;
    testbed.meta.run("nft add chain inet quiet output { type filter hook output priority 0 ; }")?;
    testbed.meta.run("nft add rule inet quiet output tcp flags & rst == rst drop")?;
    Ok(())
}

/// A whole handshake in which each packet is cut within its TCP header. Whether it was completed.
fn connects(testbed: &Testbed, server: &Server, from: &str, port: u16, bytes: u8) -> Result<bool> {
    let (raw, answers) = (Sender::new(&testbed.meta)?, Listener::new(&testbed.meta)?);
    let send = |segment: &Segment| -> Result<()> {
        segment.in_fragments(bytes).iter().try_for_each(|fragment| raw.send_packet(segment, fragment))
    };
    let before = server.accepted();
    let syn = Segment { sequence: u32::from(port), ..Segment::new(from, port, EDGE_V4, 443, SYN)? };
    send(&syn)?;
    let to: IpAddr = from.parse()?;
    let Some(answer) =
        answers.find(MAX_WAIT, |segment| segment.flags == SYN_ACK && segment.to == (to, port))?
    else {
        return Ok(false);
    };
    let sequence = syn.sequence.wrapping_add(1);
    send(&Segment { flags: ACK, sequence, acknowledged: answer.sequence.wrapping_add(1), ..syn })?;
    Ok(wait_until("it is accepted", MAX_WAIT, || Ok(server.accepted() == before + 1)).is_ok())
}

fn dropped(testbed: &Testbed, reason: &str) -> Result<u64> {
    let stats = testbed.stats()?;
    stats["other"]["dropped_by"][reason].as_u64().with_context(|| format!("no {reason}"))
}

#[test]
fn fragments_let_no_stranger_in() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    without_resets(&testbed)?;
    let server = Server::start(&testbed.edge, "0.0.0.0:443")?;
    let stranger = STRANGERS[0];
    testbed.run("", "guard attach")?;
    ensure!(connects(&testbed, &server, stranger, 41_000, 8)?, "the kernel's TCP does not take fragments");
    let mut expected = 0;
    for (number, mode) in (1..).zip(["mode = \"limit\"", "mode = \"strict\""]) {
        testbed.run(mode, "guard attach")?;
        for bytes in [8, 16] {
            let port = 41_000 + 10 * number + u16::from(bytes);
            assert!(!connects(&testbed, &server, stranger, port, bytes)?, "{mode}, {bytes} bytes");
            expected += 1;
            assert_eq!(dropped(&testbed, "fragment")?, expected, "{mode}, {bytes} bytes");
        }
        assert!(connects(&testbed, &server, META[0].0, 42_000 + number, 8)?, "{mode}: Meta's pass");
    }
    testbed.run(&format!("mode = \"strict\"\nallow = [\"{stranger}/32\"]"), "guard attach")?;
    assert!(connects(&testbed, &server, stranger, 43_000, 8)?, "whoever is allowed passes");
    Ok(())
}

#[test]
fn extension_headers_let_no_stranger_in() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    without_resets(&testbed)?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let raw = Sender::new(&testbed.meta)?;
    let send = |from: &str, port: u16, headers: usize| {
        let syn = Segment::new(from, port, EDGE_V6, 443, SYN)?;
        raw.send_packet(&syn, &syn.behind_options(headers))
    };
    let half_open = || -> Result<usize> { Ok(testbed.edge.run("ss -Hn state syn-recv")?.lines().count()) };
    testbed.run("", "guard attach")?;
    send(STRANGERS[1], 41_000, 9)?;
    wait_until("the kernel's TCP follows such a chain", MAX_WAIT, || Ok(equal(half_open()?, 1)))?;
    testbed.run("mode = \"strict\"", "guard attach")?;
    send(STRANGERS[1], 41_001, 9)?;
    send(STRANGERS[1], 41_002, 8)?;
    send(META[4].0, 41_003, 9)?;
    wait_until("Meta's pass", MAX_WAIT, || Ok(equal(half_open()?, 2)))?;
    let by = |stats: &Value| stats["other"]["dropped_by"].clone();
    let stats =
        testbed.wait_for(MAX_WAIT, |stats| Ok(by(stats)["extensions"] == 1 && by(stats)["strict"] == 1))?;
    assert_eq!((&by(&stats)["extensions"], &by(&stats)["strict"]), (&Value::from(1), &Value::from(1)));
    assert_eq!(half_open()?, 2);
    Ok(())
}
