//! Interfaces without Ethernet, and pairs of which one is on top of the other.

use anyhow::{Result, ensure};
use harness::{Need, run};

use super::{MAX_WAIT, SHORT, attached, bridge, page, start};
use crate::peers::{Server, connect_within, visit};
use crate::testbed::{EDGE_V4, META, STRANGERS, Testbed, can_run, refusal};

#[test]
fn an_interface_without_ethernet_is_refused_by_name() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("ip tuntap add dev tun0 mode tun")?;
    refused_by_name(&testbed, "tun0")?;
    // A start guards the others.
    let mut proxy = start(&testbed, "interfaces = [\"wan0\", \"tun0\"]\nxdp = \"native\"")?;
    let line = "guard: attached to wan0 (native); not to tun0: its packets have no Ethernet header";
    proxy.wait_for_stderr(line, MAX_WAIT)?;
    assert_eq!(
        (attached(&testbed, "wan0")?, attached(&testbed, "tun0")?),
        (Some("1".into()), Some("0".into()))
    );
    let ready = page(&testbed, "/ready")?;
    ensure!(ready.starts_with("ready\nguard: not on tun0: its packets have no Ethernet"), "{ready}");
    Ok(())
}

fn refused_by_name(testbed: &Testbed, interface: &str) -> Result<()> {
    for args in ["guard attach", "check"] {
        let (code, said) = refusal(testbed.hookgate(interface, "xdp = \"generic\"", args)?)?;
        ensure!(
            code == Some(1)
                && said.contains(&format!("{interface}: its packets have no Ethernet header"))
                && said.contains(
                    "set [guard] xdp = \"auto\" or \"tc\", or name the Ethernet interface below it"
                ),
            "{args}: {code:?} {said}"
        );
    }
    assert!(!testbed.edge.run(&format!("ip link show {interface}"))?.contains("xdp"));
    Ok(())
}

#[test]
fn tunnels_have_no_ethernet() -> Result<()> {
    let kinds = ["wireguard", "gre", "ipip"];
    if !can_run(&kinds.map(Need::Link)) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    for kind in kinds {
        let ends = if kind == "wireguard" { "" } else { "local 198.51.100.2 remote 198.51.100.1" };
        testbed.edge.run(&format!("ip link add t-{kind} type {kind} {ends}"))?;
        refused_by_name(&testbed, &format!("t-{kind}"))?;
    }
    Ok(())
}

#[test]
fn of_a_bridge_and_its_port_one_may_be_named() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    bridge(&testbed)?;
    stacked(&testbed, "br0")?;
    // Either alone is fine, one after the other.
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let moved = |interface: &str| run(testbed.hookgate(interface, "mode = \"strict\"", "guard attach")?);
    moved("br0")?;
    assert_eq!(moved("wan0")?, "attached to wan0 (native), with the counters it had\n");
    assert!(!testbed.edge.run("ip link show br0")?.contains("xdp"));
    assert!(connect_within(&testbed.meta, STRANGERS[0], EDGE_V4, 443, SHORT).is_err());
    visit(&testbed.meta, META[3].0, EDGE_V4, 443)?;
    run(testbed.hookgate("br0", "mode = \"strict\"\nxdp = \"generic\"", "guard attach")?)?;
    assert!(!testbed.edge.run("ip link show wan0")?.contains("xdp"));
    // The kernel takes no program below one that another tool attached.
    let (code, said) = refusal(testbed.hookgate("wan0", "pin = \"second\"", "guard attach")?)?;
    let expected =
        "wan0 can't run a program while br0, which lies above it, runs the guard of another hookgate";
    ensure!(code == Some(1) && said.contains(expected), "{said}");
    let (code, said) = refusal(testbed.hookgate("wan0", "pin = \"second\"", "check")?)?;
    ensure!(code == Some(1) && said.contains(expected), "{said}");
    run(testbed.hookgate("wan0", "", "check")?).map(drop)
}

#[test]
fn of_a_vlan_and_its_interface_one_may_be_named() -> Result<()> {
    if !can_run(&[Need::Link("vlan")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("ip link add link wan0 name wan0.5 type vlan id 5")?;
    stacked(&testbed, "wan0.5")
}

#[test]
fn of_a_bond_and_its_interface_one_may_be_named() -> Result<()> {
    if !can_run(&[Need::Link("bond")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("ip link add agg0 type bond mode active-backup")?;
    testbed.edge.run("ip link set wan0 down")?;
    testbed.edge.run("ip link set wan0 master agg0")?;
    stacked(&testbed, "agg0")
}

/// `upper` and `wan0` together are refused, with the one to keep.
fn stacked(testbed: &Testbed, upper: &str) -> Result<()> {
    for args in ["guard attach", "check"] {
        let (code, said) = refusal(testbed.hookgate(&format!("{upper}\", \"wan0"), "", args)?)?;
        ensure!(
            code == Some(1)
                && said.contains(&format!("{upper} lies above wan0"))
                && said.contains("name wan0 alone"),
            "{args}: {code:?} {said}"
        );
    }
    assert!(!testbed.edge.run("ip link")?.contains("xdp"));
    Ok(())
}

#[test]
fn a_peer_is_no_interface_below() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("ip link add one type veth peer name two")?;
    let both = testbed.hookgate("one\", \"two", "", "guard attach")?;
    assert_eq!(run(both)?, "attached to one (native), two (native)\n");
    Ok(())
}
