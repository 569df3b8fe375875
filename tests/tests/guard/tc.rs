//! The guard in tc: held by links and by filters, changed to and from XDP, beside others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use harness::{Counts, Need, Proxy, run};
use serde_json::{Value, json};

use super::answers::{attach_without_links, has_links};
use super::interfaces::{config, is_served};
use super::peers::{Server, connect_within, visit};
use super::testbed::{CLOSED, EDGE_V4, META, STRANGERS, Testbed, by_prefix, can_run, refusal};

const MAX_WAIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(500);
const PREFIX: &str = "157.240.0.0/17";

/// How many programs links hold on what comes in at wan0; none also where there are no such links.
fn linked(testbed: &Testbed) -> Result<usize> {
    if !has_links(testbed) {
        return Ok(0);
    }
    testbed.edge.inside(|| Ok(SchedClassifier::query_tcx("wan0", TcAttachType::Ingress)?.1.len()))
}

fn filters(testbed: &Testbed) -> Result<String> {
    testbed.edge.run("tc filter show dev wan0 ingress")
}

/// How many tc programs of hookgate's see what comes in at wan0.
fn programs(testbed: &Testbed) -> Result<usize> {
    Ok(linked(testbed)? + filters(testbed)?.matches("hookgate/incoming").count())
}

fn has_xdp(testbed: &Testbed) -> Result<bool> {
    Ok(testbed.edge.run("ip link show wan0")?.contains("xdp"))
}

#[test]
fn a_change_of_mode_keeps_the_counters() -> Result<()> {
    if !can_run(&[Need::Program("tc")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let modes = ["tc", "native", "tc", "generic", "tc"];
    for (n, xdp) in (1..).zip(modes) {
        let kept = if n == 1 { "" } else { ", with the counters it had" };
        let said = testbed.run(&format!("xdp = \"{xdp}\""), "guard attach")?;
        assert_eq!(said, format!("attached to wan0 ({xdp}){kept}\n"));
        assert_eq!((programs(&testbed)?, has_xdp(&testbed)?), (usize::from(xdp == "tc"), xdp != "tc"));
        testbed.send(META[3].0, CLOSED)?;
        let stats = testbed.stats()?;
        assert_eq!(by_prefix(&stats)[PREFIX].syns, n, "{xdp}");
        assert_eq!(stats["guard"]["interfaces"], json!([{ "name": "wan0", "xdp": xdp }]));
        assert_eq!(stats["guard"]["failures_unclassified"], Value::Null);
    }
    // `auto` keeps what it finds, and a new program takes its place.
    assert_eq!(testbed.run("", "guard attach")?, "attached to wan0 (tc), with the counters it had\n");
    assert!(testbed.run("", "guard status")?.starts_with("attached to wan0 (tc), mode observe"));
    assert_eq!(programs(&testbed)?, 1);
    assert_eq!(testbed.run("", "guard detach")?, "detached from wan0\n");
    assert_eq!((programs(&testbed)?, has_xdp(&testbed)?), (0, false));
    assert_eq!(testbed.edge.run("ls /sys/fs/bpf")?, testbed.meta.run("ls /sys/fs/bpf")?);
    Ok(())
}

#[test]
fn an_interface_held_in_tc_is_refused_by_name() -> Result<()> {
    if !can_run(&[Need::Program("bpftool"), Need::Program("tc")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let expected = "wan0 already runs the guard of another hookgate, pinned in /sys/fs/bpf/first";
    for (first, second) in [("tc", "tc"), ("tc", "native"), ("native", "tc"), ("tc", "auto")] {
        testbed.run(&format!("pin = \"first\"\nxdp = \"{first}\""), "guard attach")?;
        let guard = format!("pin = \"second\"\nxdp = \"{second}\"");
        for args in ["guard attach", "check"] {
            let (code, said) = testbed.refusal(&guard, args)?;
            ensure!(code == Some(1) && said.contains(expected), "{first}, {second}, {args}: {said}");
        }
        assert!(!testbed.edge.run("ls /sys/fs/bpf")?.contains("second"));
        // What is advised frees it.
        let (_, said) = testbed.refusal(&guard, "guard attach")?;
        let is_command = |word: &&str| word.starts_with("bpftool ") || word.starts_with("tc ");
        let command = said.split('`').find(is_command).with_context(|| said.clone())?;
        testbed.edge.run(command)?;
        testbed.run(&guard, "guard attach")?;
        testbed.run(&guard, "guard detach")?;
        testbed.run("pin = \"first\"", "guard detach")?;
    }
    Ok(())
}

#[test]
fn tc_lives_beside_other_programs() -> Result<()> {
    if !can_run(&[Need::Program("bpftool"), Need::Program("tc")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    // An XDP program and a filter of others: they count in maps of their own.
    testbed.run("pin = \"other\"\nxdp = \"tc\"", "guard attach")?;
    for (name, pin) in [("program", "foreign-xdp"), ("answers", "foreign-tc")] {
        let shown = testbed.edge.run(&format!("bpftool prog show pinned /sys/fs/bpf/other/{name}"))?;
        let id = shown.split(':').next().unwrap_or_default().to_owned();
        testbed.edge.run(&format!("bpftool prog pin id {id} /sys/fs/bpf/{pin}"))?;
    }
    testbed.run("pin = \"other\"", "guard detach")?;
    testbed.edge.run("bpftool net attach xdpgeneric pinned /sys/fs/bpf/foreign-xdp dev wan0")?;
    testbed.edge.run("tc qdisc add dev wan0 clsact")?;
    let filter = "tc filter add dev wan0 ingress bpf direct-action object-pinned /sys/fs/bpf/foreign-tc";
    testbed.edge.run(filter)?;

    let (code, said) = testbed.refusal("", "guard attach")?;
    ensure!(code == Some(1) && said.contains("wan0 already runs the XDP program"), "{said}");
    let guard = "xdp = \"tc\"";
    testbed.run(guard, "check")?;
    assert_eq!(testbed.run(guard, "guard attach")?, "attached to wan0 (tc)\n");
    testbed.send(META[3].0, CLOSED)?;
    // A SYN with its options. The other XDP program makes the kernel forget the Ethernet header.
    let syn = Counts { packets: 1, bytes: 74, syns: 1 };
    assert_eq!(by_prefix(&testbed.stats()?)[PREFIX], syn);
    testbed.run(guard, "guard attach")?;
    testbed.run(guard, "guard detach")?;
    assert!(has_xdp(&testbed)? && filters(&testbed)?.contains("direct-action"), "{}", filters(&testbed)?);
    assert_eq!(programs(&testbed)?, 0);
    Ok(())
}

#[test]
fn before_links_for_tc_filters_hold_it() -> Result<()> {
    if !can_run(&[Need::Program("strace"), Need::Program("tc")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let qdiscs = || testbed.edge.run("tc qdisc show dev wan0");
    let before = qdiscs()?;
    let guard = "xdp = \"tc\"\nmode = \"strict\"";
    let said = attach_without_links(&testbed, guard)?;
    assert_eq!(said, "attached to wan0 (tc)\n");
    let ingress = filters(&testbed)?;
    assert_eq!(ingress.matches("hookgate/incoming+clsact").count(), 1, "{ingress}");
    assert_eq!(linked(&testbed)?, 0);
    assert!(testbed.edge.run("ls /sys/fs/bpf/hookgate")?.contains("link-tc-wan0"));
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let is_strict = || -> Result<()> {
        visit(&testbed.meta, META[3].0, EDGE_V4, 443)?;
        ensure!(connect_within(&testbed.meta, STRANGERS[0], EDGE_V4, 443, SHORT).is_err(), "a stranger");
        Ok(())
    };
    is_strict()?;
    let stats = testbed.stats()?;
    assert_eq!(stats["guard"]["interfaces"], json!([{ "name": "wan0", "xdp": "tc" }]));
    assert_eq!(stats["guard"]["failures_unclassified"], Value::Null);
    assert_eq!(by_prefix(&stats)[PREFIX].syns, 1);

    // Another start takes the same filter. Another hookgate is refused.
    assert_eq!(testbed.run(guard, "guard attach")?, format!("{}, with the counters it had\n", said.trim()));
    assert_eq!(programs(&testbed)?, 1, "{}", filters(&testbed)?);
    let (_, refused) = testbed.refusal("pin = \"second\"", "guard attach")?;
    let command = refused.split('`').find(|word| word.starts_with("tc ")).with_context(|| refused.clone())?;
    assert!(refused.contains("pinned in /sys/fs/bpf/hookgate"), "{refused}");
    // A renamed interface keeps it.
    for line in ["ip link set wan0 down", "ip link set wan0 name wan8", "ip link set wan8 name wan0"] {
        testbed.edge.run(line)?;
    }
    testbed.edge.run("ip link set wan0 up")?;
    for (route, family) in [("198.51.100.1 dev wan0 onlink", "-4"), ("fe80::1 dev wan0", "-6")] {
        testbed.edge.run(&format!("ip {family} route replace default via {route}"))?;
    }
    testbed.edge.run("ip neigh replace 198.51.100.1 lladdr 02:00:00:00:00:01 dev wan0 nud permanent")?;
    is_strict()?;
    // Taken off by hand it is told, and put back.
    testbed.edge.run(command)?;
    testbed.edge.run("tc qdisc del dev wan0 clsact")?;
    assert_eq!(testbed.stats()?["guard"]["state"], "detached");
    attach_without_links_again(&testbed, guard)?;
    is_strict()?;
    assert_eq!(testbed.run("", "guard detach")?, "detached from wan0\n");
    assert_eq!((qdiscs()?, programs(&testbed)?), (before, 0));
    visit(&testbed.meta, STRANGERS[0], EDGE_V4, 443)
}

/// An attach that finds the guard's pins. Where the kernel has links, it takes them now.
fn attach_without_links_again(testbed: &Testbed, guard: &str) -> Result<()> {
    let said = testbed.run(guard, "guard attach")?;
    assert_eq!(said, "attached to wan0 (tc), with the counters it had\n");
    assert_eq!(programs(testbed)?, 1, "{}", filters(testbed)?);
    Ok(())
}

#[test]
fn an_interface_that_comes_back_is_filtered_in_tc() -> Result<()> {
    if !can_run(&[Need::Program("tc")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let text = config(&testbed, "interfaces = [\"wan0\"]\nmode = \"strict\"\nxdp = \"tc\"");
    let mut proxy = Proxy::start_in(&testbed.edge, &text)?;
    proxy.wait_for_stderr("guard: attached to wan0 (tc), mode strict", MAX_WAIT)?;
    assert!(is_served(&testbed, META[3].0) && !is_served(&testbed, STRANGERS[0]));
    testbed.edge.run("ip link del wan0")?;
    proxy.wait_for_stderr("guard: wan0 is gone", MAX_WAIT)?;
    testbed.connect()?;
    proxy.wait_for_stderr("guard: attached to wan0 (tc)\n", MAX_WAIT)?;
    assert!(is_served(&testbed, META[3].0) && !is_served(&testbed, STRANGERS[0]));
    assert_eq!((programs(&testbed)?, has_xdp(&testbed)?), (1, false));
    let stats: Value = serde_json::from_str(&proxy.command(&testbed.edge, &["stats", "--json"])?)?;
    assert!(by_prefix(&stats)[PREFIX].syns >= 2, "with the counters it had");
    // A reload changes the mode of XDP, without losing a count.
    std::fs::write(proxy.config(), text.replace("xdp = \"tc\"", "xdp = \"native\""))?;
    proxy.command(&testbed.edge, &["reload"])?;
    assert_eq!((programs(&testbed)?, has_xdp(&testbed)?), (0, true));
    let after: Value = serde_json::from_str(&proxy.command(&testbed.edge, &["stats", "--json"])?)?;
    assert!(by_prefix(&after)[PREFIX].syns >= by_prefix(&stats)[PREFIX].syns);
    Ok(())
}

#[test]
fn a_guard_in_tc_of_another_network_namespace_is_left_alone() -> Result<()> {
    if !can_run(&[Need::Program("tc")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    if !has_links(&testbed) {
        return Ok(()); // Of a filter only its own namespace knows.
    }
    run(testbed.hookgate("lo", "xdp = \"tc\"", "guard attach")?)?;
    let mut inside = testbed.edge.command("unshare");
    inside.arg("--net").arg(harness::binary()?).args(["guard", "attach", "--config"]);
    inside.arg(testbed.dir.path().join("hookgate.toml"));
    let (code, said) = refusal(inside)?;
    ensure!(code == Some(1) && said.contains("is on lo of another network namespace"), "{said}");
    Ok(())
}
