//! Interfaces other than veth: tunnels without Ethernet, which tc alone can guard, VLANs, bonds,
//! and virtual machines' network cards.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::{Need, NetNs, Tap, run};
use serde_json::{Value, json};

use super::device::Device;
use super::peers::{Server, connect, connect_within, visit};
use super::testbed::{CLOSED, EDGE_V4, STRANGERS, Shakes, Testbed, by_prefix, can_run, row};

const MAX_WAIT: Duration = Duration::from_secs(10);
/// Longer than an attempt is waited for, and a sweep more.
const ATTEMPT_WAIT: Duration = Duration::from_secs(16);
const SHORT: Duration = Duration::from_millis(1500);
/// At the other end of the tunnel, with their prefixes.
const META_V4: (&str, &str) = ("157.240.1.20", "157.240.0.0/17");
const META_V6: (&str, &str) = ("2a03:2880:1::20", "2a03:2880::/36");
const STRANGER: &str = "203.0.113.50";
const EDGE: (&str, &str) = ("192.0.2.9", "2001:db8:9::9");

/// Gives a tunnel its addresses and routes. `with_v6`: whether it carries IPv6.
fn route(testbed: &Testbed, name: &str, with_v6: bool) -> Result<()> {
    let (meta, edge) = (&testbed.meta, &testbed.edge);
    for ns in [meta, edge] {
        ns.run(&format!("ip link set {name} up"))?;
    }
    for address in [META_V4.0, STRANGER] {
        meta.address(name, &format!("{address}/32"))?;
        edge.run(&format!("ip route add {address}/32 dev {name}"))?;
    }
    edge.address(name, &format!("{}/32", EDGE.0))?;
    meta.run(&format!("ip route add {}/32 dev {name}", EDGE.0))?;
    if with_v6 {
        meta.address(name, &format!("{}/128", META_V6.0))?;
        edge.run(&format!("ip route add {}/128 dev {name}", META_V6.0))?;
        edge.address(name, &format!("{}/128", EDGE.1))?;
        meta.run(&format!("ip route add {}/128 dev {name}", EDGE.1))?;
    }
    Ok(())
}

/// Where the guard is tried, and how.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The interface of both ends that has the addresses.
    name: &'a str,
    /// The interface that is guarded.
    guarded: &'a str,
    with_v6: bool,
    /// Among the lines of `[guard]`.
    guard: &'a str,
}

/// A tunnel is guarded, in the one way that there is for it.
fn tunnel_is_guarded(testbed: &Testbed, name: &str, with_v6: bool) -> Result<()> {
    let reason = "its packets have no Ethernet header, which XDP needs";
    let place = Place { name, guarded: name, with_v6, guard: "" };
    is_guarded(testbed, place, |how| *how == json!({ "xdp": "tc", "reason": reason }))
}

/// The guard counts what comes as the other end sends it, says why failed handshakes fail, and
/// drops what it should. `is_right`: whether it is attached as it has to be.
fn is_guarded(testbed: &Testbed, place: Place<'_>, is_right: impl Fn(&Value) -> bool) -> Result<()> {
    let Place { name, guarded, with_v6, guard } = place;
    let attach = |mode: &str| run(testbed.hookgate(guarded, &format!("{guard}\n{mode}"), "guard attach")?);
    let said = attach("")?;
    ensure!(said.starts_with(&format!("attached to {guarded} (")), "{said}");
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let tap = Tap::start(&testbed.meta, name, 443)?;
    let mut prefixes = vec![META_V4.1];
    visit(&testbed.meta, META_V4.0, EDGE.0, 443)?;
    visit(&testbed.meta, STRANGER, EDGE.0, 443)?;
    if with_v6 {
        prefixes.push(META_V6.1);
        visit(&testbed.meta, META_V6.0, EDGE.1, 443)?;
    }
    let sent = || -> Result<Vec<_>> {
        let counts = tap.counts()?;
        let of = |from: &str| Ok(counts.get(&from.parse()?).copied().unwrap_or_default());
        [META_V4.0, STRANGER, META_V6.0].into_iter().map(of).collect()
    };
    let counted = |stats: &Value| -> Vec<_> {
        let counts = by_prefix(stats);
        [META_V4.1, "other", META_V6.1].map(|name| counts.get(name).copied().unwrap_or_default()).into()
    };
    let closed = |stats: &Value| prefixes.iter().chain(&["other"]).all(|name| row(stats, name)["fins"] == 1);
    let stats = testbed.wait_for(MAX_WAIT, |stats| Ok(closed(stats) && counted(stats) == sent()?))?;
    assert_eq!(counted(&stats), sent()?, "{name}");
    for prefix in prefixes.iter().chain(&["other"]) {
        let expected = Shakes { syns: 1, handshakes: 1, fins: 1, ..Shakes::default() };
        assert_eq!(Shakes::of(row(&stats, prefix)), expected, "{name}, {prefix}");
    }
    tap.finish()?;

    assert!(connect(&testbed.meta, META_V4.0, EDGE.0, CLOSED).is_err());
    let refused = |stats: &Value| Ok(row(stats, META_V4.1)["failed_by"]["refused"] == 1);
    let stats = testbed.wait_for(ATTEMPT_WAIT, refused)?;
    assert_eq!(stats["guard"]["failures_unclassified"], Value::Null);
    let mut interfaces = stats["guard"]["interfaces"].as_array().cloned().unwrap_or_default();
    let mut interface = interfaces.pop().unwrap_or_default();
    assert_eq!(interface.as_object_mut().and_then(|fields| fields.remove("name")), Some(json!(guarded)));
    ensure!(interfaces.is_empty() && is_right(&interface), "{said}{interface}");

    attach("mode = \"strict\"")?;
    assert!(connect_within(&testbed.meta, STRANGER, EDGE.0, 443, SHORT).is_err());
    visit(&testbed.meta, META_V4.0, EDGE.0, 443)?;
    let stats = testbed.stats()?;
    ensure!(stats["other"]["dropped_by"]["strict"].as_u64() >= Some(1), "{}", stats["other"]);
    run(testbed.hookgate(guarded, "", "check")?)?;
    run(testbed.hookgate(guarded, "", "guard detach")?)?;
    assert!(!testbed.edge.run("ls /sys/fs/bpf")?.contains("hookgate"));
    visit(&testbed.meta, STRANGER, EDGE.0, 443)
}

#[test]
fn a_tun_device_is_guarded() -> Result<()> {
    if !can_run(&[Need::Program("python3")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let (edge, meta) = (format!("{EDGE_V4}:7000"), format!("{}:7000", STRANGERS[0]));
    let _edge = Device::new(&testbed.edge, "tun0", "tun", &edge, &meta)?;
    let _meta = Device::new(&testbed.meta, "tun0", "tun", &meta, &edge)?;
    for ns in [&testbed.meta, &testbed.edge] {
        ns.run("ip link set tun0 mtu 1400")?;
    }
    route(&testbed, "tun0", true)?;
    tunnel_is_guarded(&testbed, "tun0", true)
}

#[test]
fn tunnels_of_the_kernel_are_guarded() -> Result<()> {
    if !can_run(&["gre", "ipip"].map(Need::Link)) {
        return Ok(());
    }
    for (kind, with_v6) in [("gre", true), ("ipip", false)] {
        let testbed = Testbed::new()?;
        let end = |ns: &NetNs, own: &str, other: &str| {
            ns.run(&format!("ip link add t-{kind} type {kind} local {own} remote {other}"))
        };
        end(&testbed.edge, EDGE_V4, STRANGERS[0])?;
        end(&testbed.meta, STRANGERS[0], EDGE_V4)?;
        route(&testbed, &format!("t-{kind}"), with_v6)?;
        tunnel_is_guarded(&testbed, &format!("t-{kind}"), with_v6)?;
    }
    Ok(())
}

#[test]
fn wireguard_is_guarded() -> Result<()> {
    if !can_run(&[Need::Link("wireguard"), Need::Program("wg")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let key = |name: &str| -> Result<(std::path::PathBuf, String)> {
        let file = testbed.dir.write(name, testbed.edge.run("wg genkey")?)?;
        let mut public = testbed.edge.command("sh");
        public.args(["-c", &format!("wg pubkey < {}", file.display())]);
        Ok((file, run(public)?.trim().to_owned()))
    };
    let ((edge_key, edge_public), (meta_key, meta_public)) = (key("edge")?, key("meta")?);
    for (ns, key, peer, endpoint) in [
        (&testbed.edge, &edge_key, &meta_public, STRANGERS[0]),
        (&testbed.meta, &meta_key, &edge_public, EDGE_V4),
    ] {
        ns.run("ip link add wg0 type wireguard")?;
        ns.run(&format!(
            "wg set wg0 listen-port 51820 private-key {} peer {peer} endpoint {endpoint}:51820 allowed-ips 0.0.0.0/0,::/0",
            key.display()
        ))?;
    }
    route(&testbed, "wg0", true)?;
    tunnel_is_guarded(&testbed, "wg0", true)
}

#[test]
fn a_vlan_is_guarded_at_itself_and_at_its_interface() -> Result<()> {
    if !can_run(&[Need::Link("vlan")]) {
        return Ok(());
    }
    // The kernel has no native XDP for a VLAN; its interface sees the same packets with their tags.
    for (guarded, way) in [("lan7", "tc"), ("wan0", "native")] {
        let testbed = Testbed::new()?;
        for ns in [&testbed.edge, &testbed.meta] {
            ns.run("ip link add link wan0 name lan7 type vlan id 7")?;
        }
        route(&testbed, "lan7", true)?;
        let place = Place { name: "lan7", guarded, with_v6: true, guard: "" };
        is_guarded(&testbed, place, |how| how["xdp"] == way)?;
    }
    Ok(())
}

#[test]
fn a_bond_is_guarded() -> Result<()> {
    if !can_run(&[Need::Link("bond")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    for (ns, address) in [(&testbed.edge, "02:00:00:00:07:01"), (&testbed.meta, "02:00:00:00:07:02")] {
        ns.run(&format!("ip link add agg0 address {address} type bond mode active-backup miimon 100"))?;
    }
    // A wire of its own: the first one keeps its addresses.
    NetNs::link((&testbed.meta, "port0"), (&testbed.edge, "port0"))?;
    for ns in [&testbed.edge, &testbed.meta] {
        ns.run("ip link set port0 down")?;
        ns.run("ip link set port0 master agg0")?;
        ns.run("ip link set port0 up")?;
    }
    route(&testbed, "agg0", true)?;
    let place = Place { name: "agg0", guarded: "agg0", with_v6: true, guard: "" };
    is_guarded(&testbed, place, |how| how["xdp"] == "native" || how["xdp"] == "tc")
}

#[test]
fn network_cards_of_virtual_machines_are_guarded_in_each_way() -> Result<()> {
    if !can_run(&[Need::Wire]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let [edge, meta] = harness::wire().context("no wire")?;
    testbed.edge.take(&edge, "nic0")?;
    testbed.meta.take(&meta, "nic0")?;
    route(&testbed, "nic0", true)?;
    for way in ["native", "tc", "generic"] {
        let guard = format!("xdp = \"{way}\"");
        let place = Place { name: "nic0", guarded: "nic0", with_v6: true, guard: &guard };
        is_guarded(&testbed, place, |how| how["xdp"] == way)?;
    }
    Ok(())
}
