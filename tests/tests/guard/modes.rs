//! Which sources `limit` and `strict` let in, with the kernel's own TCP; and which settings are
//! refused, as they would lock the operator out.

use std::time::Duration;

use anyhow::Result;
use harness::Tap;
use serde_json::{Value, json};

use super::peers::{Server, connect_within, visit};
use super::raw::{ACK, FIN, PSH_URG, SYN, Segment, Sender};
use super::testbed::{EDGE_V4, EDGE_V6, META, STRANGERS, Shakes, Testbed, by_prefix, can_run, row};

const SHORT: Duration = Duration::from_millis(1500);

#[test]
fn strict_lets_in_meta_and_the_allowed_alone() -> Result<()> {
    ["native", "tc"].into_iter().try_for_each(strict)
}

fn strict(xdp: &str) -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.meta.address("wan0", "192.0.2.7/32")?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let guard = format!("mode = \"strict\"\nallow = [\"192.0.2.0/24\"]\nxdp = \"{xdp}\"");
    testbed.run(&guard, "guard attach")?;
    let tap = Tap::start(&testbed.meta, "wan0", 443)?;
    for (from, _) in META {
        visit(&testbed.meta, from, if from.contains(':') { EDGE_V6 } else { EDGE_V4 }, 443)?;
    }
    visit(&testbed.meta, "192.0.2.7", EDGE_V4, 443)?;
    for from in STRANGERS {
        let to = if from.contains(':') { EDGE_V6 } else { EDGE_V4 };
        assert!(connect_within(&testbed.meta, from, to, 443, SHORT).is_err(), "{from}");
    }
    let raw = Sender::new(&testbed.meta)?;
    for flags in [ACK, FIN | PSH_URG, 0] {
        raw.send(&Segment::new(STRANGERS[0], 40_000, EDGE_V4, 443, flags)?)?;
    }

    let meta_closed = |stats: &Value| {
        let fins = |name: &str| row(stats, name)["fins"] == 1;
        Ok(META.iter().all(|(_, prefix)| fins(prefix)) && fins("other"))
    };
    let stats = testbed.wait_for(Duration::from_secs(5), meta_closed)?;
    let sent = tap.finish()?;
    let from = |addresses: &[&str]| {
        addresses.iter().fold((0, 0), |(packets, syns), address| {
            let sent =
                address.parse().ok().and_then(|address| sent.get(&address)).copied().unwrap_or_default();
            (packets + sent.packets, syns + sent.syns)
        })
    };
    let ((strangers, _), (allowed, _)) = (from(&STRANGERS), from(&["192.0.2.7"]));
    let other = &stats["other"];
    assert_eq!(
        other["dropped_by"],
        json!({ "strict": strangers - 2, "limited": 0, "garbage": 2, "fragment": 0, "extensions": 0 })
    );
    assert_eq!(other["packets"], strangers + allowed);
    let expected = Shakes { syns: 1, handshakes: 1, fins: 1, dropped: strangers, ..Shakes::default() };
    assert_eq!(Shakes::of(other), expected, "what is dropped counts as dropped alone");
    for (_, prefix) in META {
        let expected = Shakes { syns: 1, handshakes: 1, fins: 1, ..Shakes::default() };
        assert_eq!(Shakes::of(row(&stats, prefix)), expected, "{prefix}");
    }
    // Taken out of `allow` it is a stranger, at the next attaching; and the mode can be left again.
    testbed.run("mode = \"strict\"", "guard attach")?;
    assert!(connect_within(&testbed.meta, "192.0.2.7", EDGE_V4, 443, SHORT).is_err());
    assert_eq!(testbed.stats()?["guard"]["mode"], "strict");
    testbed.run("", "guard attach")?;
    visit(&testbed.meta, STRANGERS[0], EDGE_V4, 443)?;
    assert_eq!(testbed.stats()?["guard"]["mode"], "observe");
    Ok(())
}

#[test]
fn limit_drops_syns_beyond_the_burst_and_garbage() -> Result<()> {
    ["native", "tc"].into_iter().try_for_each(limit)
}

fn limit(xdp: &str) -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    // One a second, which the whole test should not take.
    let guard = format!("mode = \"limit\"\nlimit = {{ syn_per_second = 1, burst = 5 }}\nxdp = \"{xdp}\"");
    testbed.run(&guard, "guard attach")?;
    let raw = Sender::new(&testbed.meta)?;
    // From addresses that no machine has: only what is sent here comes in.
    let send = |from: &str, to: &str, flags: u8, count: u16| -> Result<()> {
        (0..count).try_for_each(|n| raw.send(&Segment::new(from, 40_000 + n, to, 443, flags)?))
    };
    send("203.0.113.99", EDGE_V4, SYN, 50)?;
    send("2001:db8:7::99", EDGE_V6, SYN, 50)?;
    send("2001:db8:7::9a", EDGE_V6, SYN, 50)?; // of the same /64
    send("157.240.1.9", EDGE_V4, SYN, 50)?; // Meta's
    for flags in [0, FIN, FIN | PSH_URG, SYN | FIN] {
        send("203.0.113.98", EDGE_V4, flags, 1)?;
        send("157.240.1.9", EDGE_V4, flags, 1)?;
    }
    send("203.0.113.98", EDGE_V4, ACK, 3)?;
    let all = |stats: &Value| Ok(by_prefix(stats).values().map(|counts| counts.packets).sum::<u64>() == 211);
    let stats = testbed.wait_for(Duration::from_secs(3), all)?;
    let other = &stats["other"];
    assert_eq!(
        other["dropped_by"],
        json!({ "strict": 0, "limited": 140, "garbage": 4, "fragment": 0, "extensions": 0 })
    );
    assert_eq!((&other["packets"], &other["syns"]), (&json!(157), &json!(10)));
    let meta = Shakes::of(row(&stats, "157.240.0.0/17"));
    assert_eq!((meta.syns, meta.dropped), (51, 0));
    // A neighbour is not made to pay.
    visit(&testbed.meta, STRANGERS[0], EDGE_V4, 443)?;
    Ok(())
}

#[test]
fn an_operator_is_not_locked_out_by_accident() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let ssh = "mode = \"strict\"";
    for args in ["guard attach", "check"] {
        let (code, said) = testbed.refusal_with_ports("22, 443", ssh, args)?;
        assert_eq!((code, said.contains("lock you out of SSH")), (Some(1), true), "{args}: {said}");
        assert!(said.contains("--yes-lock-me-out"), "{said}");
    }
    assert_eq!(testbed.run("", "guard status")?, "detached: packets are not counted\n");
    testbed.run_with_ports("22, 443", "mode = \"limit\"", "check")?;
    let insisted = testbed.run_with_ports("22, 443", ssh, "guard attach --yes-lock-me-out")?;
    assert_eq!(insisted, "attached to wan0 (native)\n");
    assert_eq!(testbed.stats()?["guard"]["mode"], "strict");
    Ok(())
}
