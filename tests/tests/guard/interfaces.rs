//! Interfaces that are missing, come or go; and what a refusal leaves.

mod refused;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Need, NetNs, Proxy, run, wait_until};
use serde_json::json;

use super::peers::{Server, connect_within, visit};
use super::testbed::{CLOSED, EDGE_V4, EDGE_V6, META, STRANGERS, Testbed, by_prefix, can_run, refusal};

const MAX_WAIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(500);
const ADMIN: &str = "127.0.0.1:9432";

/// A proxy on `edge` that serves on the guarded port, with a guard as these lines of `[guard]` say.
pub fn config(testbed: &Testbed, guard: &str) -> String {
    format!(
        "[listen]\nplain = [\"0.0.0.0:443\", \"[::]:443\"]\n[upstreams]\n\"a.example\" = {{ address = \"192.0.2.1:443\" }}\n\
         [dns]\nservers = [\"127.0.0.1:1\"]\ntimeout = \"100ms\"\n\
         [admin]\nlisten = \"{ADMIN}\"\nsocket = {:?}\n[guard]\nrefresh = \"off\"\nstate = {:?}\n{guard}\n",
        testbed.dir.path().join("admin.sock"),
        testbed.dir.path().join("prefixes")
    )
}

fn start(testbed: &Testbed, guard: &str) -> Result<Proxy> {
    Proxy::start_in(&testbed.edge, &config(testbed, guard))
}

/// Whether a request gets an answer.
pub fn is_served(testbed: &Testbed, from: &str) -> bool {
    let mut curl = testbed.meta.command("curl");
    curl.args([
        "-s",
        "--noproxy",
        "*",
        "--connect-timeout",
        "1.5",
        "--max-time",
        "3",
        "--interface",
        from,
        "-o",
        "/dev/null",
    ]);
    curl.arg(format!("http://{EDGE_V4}:443/")).output().is_ok_and(|output| output.status.success())
}

fn page(testbed: &Testbed, path: &str) -> Result<String> {
    let mut curl = testbed.edge.command("curl");
    curl.args(["-sS", "--max-time", "5", &format!("http://{ADMIN}{path}")]);
    run(curl)
}

/// The value of `hookgate_guard_attached` for an interface.
fn attached(testbed: &Testbed, interface: &str) -> Result<Option<String>> {
    let name = format!("hookgate_guard_attached{{interface=\"{interface}\"}} ");
    Ok(page(testbed, "/metrics")?.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned)))
}

#[test]
fn a_refused_reload_leaves_everything_as_it_was() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("ip tuntap add dev tun7 mode tun")?;
    let proxy = start(&testbed, "interfaces = [\"wan0\"]")?;
    assert!(is_served(&testbed, STRANGERS[0]));
    for (interface, why) in
        [("wna0", "\"wna0\" here; there are: lo, "), ("tun7", "tun7: its packets have no Ethernet")]
    {
        let refused =
            format!("interfaces = [\"{interface}\"]\nmode = \"strict\"\nports = [8443]\nxdp = \"native\"");
        std::fs::write(proxy.config(), config(&testbed, &refused))?;
        // Whether that is an error or a line of the report.
        let said = proxy.command(&testbed.edge, &["reload"]).unwrap_or_else(|error| format!("{error:#}"));
        ensure!(said.contains(why), "{said}");
        is_unchanged(&testbed, &proxy).context(interface)?;
    }
    // The same of the command, over the same guard.
    let strict = testbed.hookgate("wna0", "mode = \"strict\"", "guard attach")?;
    let (code, said) = refusal(strict)?;
    ensure!(code == Some(1) && said.contains("\"wna0\" here; there are: lo, "), "{said}");
    is_unchanged(&testbed, &proxy)
}

/// Observed, on the one interface, and on the port that is served.
fn is_unchanged(testbed: &Testbed, proxy: &Proxy) -> Result<()> {
    let syns = || -> Result<_> {
        let stats: serde_json::Value =
            serde_json::from_str(&proxy.command(&testbed.edge, &["stats", "--json"])?)?;
        assert_eq!(stats["guard"]["mode"], "observe");
        assert_eq!(stats["guard"]["interfaces"], json!([{ "name": "wan0", "xdp": "native" }]));
        Ok(stats["other"]["syns"].as_u64())
    };
    let before = syns()?;
    ensure!(is_served(testbed, STRANGERS[0]), "a stranger is dropped");
    assert_eq!(syns()?, before.map(|before| before + 1));
    Ok(())
}

/// Whether what leaves is seen on all guarded interfaces.
fn sees_answers(stats: &serde_json::Value) {
    assert!(stats["guard"]["failures_unclassified"].is_null(), "{}", stats["guard"]);
    assert!(stats["other"]["failed_by"].is_object(), "{}", stats["other"]);
}

/// A bridge on `edge` in place of the interface, which becomes its port.
fn bridge(testbed: &Testbed) -> Result<()> {
    for line in [
        "ip link add br0 address 02:00:00:00:00:02 type bridge",
        "ip link set wan0 master br0",
        "ip link set br0 up",
    ] {
        testbed.edge.run(line)?;
    }
    for address in [format!("{EDGE_V4}/32"), format!("{EDGE_V6}/128")] {
        testbed.edge.run(&format!("ip address del {address} dev wan0"))?;
        testbed.edge.address("br0", &address)?;
    }
    testbed.edge.run("ip neigh add 198.51.100.1 lladdr 02:00:00:00:00:01 dev br0 nud permanent")?;
    testbed.edge.run("ip route replace default via 198.51.100.1 dev br0 onlink").map(drop)
}

#[test]
fn a_failed_change_of_mode_puts_the_old_one_back() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    bridge(&testbed)?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let on_bridge = |guard: &str| testbed.hookgate("br0", guard, "guard attach");
    run(on_bridge("mode = \"strict\"")?)?;
    let closed = || connect_within(&testbed.meta, STRANGERS[0], EDGE_V4, 443, SHORT).is_err();
    assert!(closed());
    let (code, said) = refusal(on_bridge("mode = \"strict\"\nxdp = \"native\"")?)?;
    assert!(closed(), "tc is back");
    ensure!(code == Some(1) && said.contains("can't run on br0 in native mode"), "{said}");
    ensure!(said.contains("the driver says: "), "{said}");
    visit(&testbed.meta, META[3].0, EDGE_V4, 443)?;
    let guard = &testbed.stats()?["guard"];
    assert_eq!((&guard["state"], &guard["mode"]), (&json!("attached"), &json!("strict")));
    assert_eq!(guard["interfaces"][0]["xdp"], "tc");
    Ok(())
}

#[test]
fn the_driver_says_why_it_is_not_native() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let on_lo = |args: &str| run(testbed.hookgate("lo", "", args)?);
    let reason = "lo (tc: the driver says: Underlying driver does not support XDP in native mode)";
    assert_eq!(on_lo("guard attach")?, format!("attached to {reason}\n"));
    let status = on_lo("guard status")?;
    ensure!(status.starts_with(&format!("attached to {reason}, mode observe")), "{status}");
    let stats: serde_json::Value = serde_json::from_str(&on_lo("stats --json")?)?;
    let reason = stats["guard"]["interfaces"][0]["reason"].as_str().context("no reason")?;
    ensure!(reason.contains("does not support XDP in native mode"), "{reason}");
    assert!(!testbed.edge.run("ip link show lo")?.contains("xdp"));
    assert_eq!(on_lo("guard detach")?, "detached from lo\n");
    assert!(!testbed.edge.run("ls /sys/fs/bpf")?.contains("hookgate"));
    Ok(())
}

#[test]
fn an_interface_that_comes_back_is_filtered_again() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let mut proxy = start(&testbed, "interfaces = [\"wan0\", \"wan9\"]\nmode = \"strict\"")?;
    let line = "guard: attached to wan0 (native); not to wan9: there is no such interface, mode strict";
    proxy.wait_for_stderr(line, MAX_WAIT)?;
    assert!(is_served(&testbed, META[3].0) && !is_served(&testbed, STRANGERS[0]));
    assert_eq!(
        (attached(&testbed, "wan0")?, attached(&testbed, "wan9")?),
        (Some("1".into()), Some("0".into()))
    );
    testbed.edge.run("ip link del wan0")?;
    proxy.wait_for_stderr("guard: wan0 is gone", MAX_WAIT)?;
    let told = || {
        Ok(page(&testbed, "/ready")?
            == "ready\nguard: not on wan9: there is no such interface\nguard: not on wan0: there is no such interface\n"
            || page(&testbed, "/ready")?
                == "ready\nguard: not on wan0: there is no such interface\nguard: not on wan9: there is no such interface\n")
    };
    wait_until("the page tells it", MAX_WAIT, told)
        .with_context(|| format!("{:?}", page(&testbed, "/ready")))?;
    assert_eq!(attached(&testbed, "wan0")?, Some("0".into()));

    testbed.connect()?;
    proxy.wait_for_stderr("guard: attached to wan0 (native)\n", MAX_WAIT)?;
    assert!(is_served(&testbed, META[3].0) && !is_served(&testbed, STRANGERS[0]));
    let told = || Ok(attached(&testbed, "wan0")? == Some("1".into()));
    wait_until("the metrics tell it", MAX_WAIT, told)
        .with_context(|| format!("{:?}", page(&testbed, "/metrics")))?;
    let stats: serde_json::Value =
        serde_json::from_str(&proxy.command(&testbed.edge, &["stats", "--json"])?)?;
    assert_eq!(stats["guard"]["state"], "attached");
    assert!(by_prefix(&stats)["157.240.0.0/17"].syns >= 2, "with the counters it had");
    sees_answers(&stats);
    let said = proxy.stderr();
    assert_eq!(said.matches("guard: wan0 is gone").count(), 1, "{said}");
    assert_eq!(said.matches("guard: attached to wan0 (native)\n").count(), 1, "{said}");
    Ok(())
}

#[test]
fn an_interface_that_was_not_there_at_the_start_is_guarded_when_it_comes() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("ip link del wan0")?;
    let mut proxy = start(&testbed, "interfaces = [\"wan0\"]\nmode = \"strict\"")?;
    proxy.wait_for_stderr("attached to no interface yet; not to wan0", MAX_WAIT)?;
    testbed.connect()?;
    proxy.wait_for_stderr("guard: attached to wan0 (native)", MAX_WAIT)?;
    assert!(is_served(&testbed, META[3].0) && !is_served(&testbed, STRANGERS[0]));
    let stats: serde_json::Value =
        serde_json::from_str(&proxy.command(&testbed.edge, &["stats", "--json"])?)?;
    let row =
        &stats["prefixes"].as_array().context("rows")?.iter().find(|row| row["prefix"] == "157.240.0.0/17");
    assert_eq!(row.map(|row| &row["requests"]), Some(&json!(1)), "counted in the guard's maps");
    sees_answers(&stats);
    assert_eq!(proxy.command(&testbed.edge, &["reload"])?, "nothing changed\n");
    Ok(())
}

#[test]
fn default_routes_are_followed() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let other = NetNs::new()?;
    NetNs::link((&other, "wan1"), (&testbed.edge, "wan1"))?;
    let guard = "interfaces = \"auto\"\nmode = \"strict\"";
    let mut proxy = start(&testbed, guard)?;
    proxy.wait_for_stderr("guard: attached to wan0 (native), mode strict", MAX_WAIT)?;
    assert_eq!((attached(&testbed, "wan0")?, attached(&testbed, "wan1")?), (Some("1".into()), None));
    // One family moves: both are guarded.
    testbed.edge.run("ip -6 route replace default via fe80::1 dev wan1 metric 1024")?;
    proxy.wait_for_stderr("guard: attached to wan1 (native)", MAX_WAIT)?;
    assert!(testbed.edge.run("ip link show wan0")?.contains("xdp"));
    testbed.edge.run("ip route replace default via 198.51.100.1 dev wan1 onlink")?;
    proxy.wait_for_stderr("guard: no longer on wan0: it has no default route", MAX_WAIT)?;
    assert!(!testbed.edge.run("ip link show wan0")?.contains("xdp"));
    assert!(testbed.edge.run("ip link show wan1")?.contains("xdp"));
    // Without any it stays where it is, also over a start.
    testbed.edge.run("ip route del default")?;
    testbed.edge.run("ip -6 route del default dev wan1")?;
    proxy.stop()?;
    let mut proxy = start(&testbed, guard)?;
    proxy.wait_for_stderr(
        "guard: attached to wan1 (native), with the counters it had, mode strict",
        MAX_WAIT,
    )?;
    assert_eq!(attached(&testbed, "wan1")?, Some("1".into()));
    testbed.edge.run("ip route add default via 198.51.100.1 dev wan0 onlink")?;
    proxy.wait_for_stderr("guard: attached to wan0 (native)\n", MAX_WAIT)?;
    assert!(is_served(&testbed, META[3].0) && !is_served(&testbed, STRANGERS[0]));
    sees_answers(&serde_json::from_str(&proxy.command(&testbed.edge, &["stats", "--json"])?)?);
    assert!(!proxy.stderr().contains("not classified"), "{}", proxy.stderr());
    Ok(())
}

#[test]
fn without_a_default_route_there_is_nothing_to_follow() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("ip route flush default")?;
    testbed.edge.run("ip -6 route flush default")?;
    let file = testbed.dir.write("auto.toml", config(&testbed, "interfaces = \"auto\""))?;
    let output = |args: &[&str]| {
        let mut command = testbed.edge.command(&harness::binary()?.to_string_lossy());
        let output = command.args(args).arg("--config").arg(&file).output()?;
        Ok::<_, anyhow::Error>((output.status.code(), String::from_utf8(output.stderr)?))
    };
    let (code, said) = output(&["check"])?;
    ensure!(
        code == Some(0) && said.contains("guard.interfaces: \"auto\": there is no default route"),
        "{said}"
    );
    let (code, said) = output(&["guard", "attach"])?;
    let expected = "there is no default route; name interfaces instead, there are: lo, ";
    ensure!(code == Some(1) && said.contains(expected), "{said}");
    Ok(())
}

#[test]
fn an_earlier_guard_that_goes_on_is_told_of() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    bridge(&testbed)?;
    run(testbed.hookgate("br0", "mode = \"strict\"", "guard attach")?)?;
    let mut proxy = start(&testbed, "interfaces = [\"br0\", \"wan0\"]")?;
    proxy.wait_for_stderr("guard: not attached", MAX_WAIT)?;
    let said = proxy.stderr();
    ensure!(
        said.contains("guard: not attached: [guard] interfaces: br0 lies above wan0")
            && said.contains("the guard of an earlier start goes on, attached to br0 (tc")
            && said.contains(", mode strict"),
        "{said}"
    );
    assert!(is_served(&testbed, META[3].0) && !is_served(&testbed, STRANGERS[0]));
    let stats: serde_json::Value =
        serde_json::from_str(&proxy.command(&testbed.edge, &["stats", "--json"])?)?;
    assert_eq!((&stats["guard"]["state"], &stats["guard"]["mode"]), (&json!("attached"), &json!("strict")));
    let row =
        &stats["prefixes"].as_array().context("rows")?.iter().find(|row| row["prefix"] == "157.240.0.0/17");
    assert_eq!(row.map(|row| (&row["handshakes"], &row["requests"])), Some((&json!(1), &json!(1))));
    let said = proxy.command(&testbed.edge, &["reload"]).unwrap_or_else(|error| format!("{error:#}"));
    ensure!(said.contains("br0 lies above wan0") && !said.contains("nothing changed"), "{said}");
    std::fs::write(proxy.config(), config(&testbed, "interfaces = [\"wan0\"]"))?;
    let mut doctor = testbed.edge.command(&harness::binary()?.to_string_lossy());
    let doctor = doctor.arg("doctor").arg("--config").arg(proxy.config()).output()?;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    ensure!(said.contains("br0: the guard of an earlier start still filters here"), "{said}");
    Ok(())
}

#[test]
fn a_reload_attaches_what_was_taken_off() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let mut proxy = start(&testbed, "interfaces = [\"wan0\"]\nmode = \"strict\"")?;
    testbed.edge.run("bpftool link detach pinned /sys/fs/bpf/hookgate/link-native-wan0")?;
    proxy.command(&testbed.edge, &["reload"])?;
    // By the reload, unless it was seen before.
    proxy.wait_for_stderr("guard: attached to wan0 (native)\n", Duration::from_secs(3))?;
    assert!(is_served(&testbed, META[3].0) && !is_served(&testbed, STRANGERS[0]));
    Ok(())
}

#[test]
fn detach_says_what_is_not_hookgates() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.run("", "guard attach")?;
    testbed.edge.run("bpftool map pin pinned /sys/fs/bpf/hookgate/SWEEP /sys/fs/bpf/hookgate/mine")?;
    let (code, said) = testbed.refusal("", "guard detach")?;
    let expected = "detached from wan0, but /sys/fs/bpf/hookgate holds what is not hookgate's: mine";
    ensure!(code == Some(1) && said.contains(expected), "{said}");
    assert!(!testbed.edge.run("ip link show wan0")?.contains("xdp"));
    assert_eq!(testbed.edge.run("ls /sys/fs/bpf/hookgate")?, "mine\n");
    testbed.edge.run("rm /sys/fs/bpf/hookgate/mine")?;
    assert_eq!(testbed.run("", "guard detach")?, "nothing was attached\n");
    assert!(!testbed.edge.run("ls /sys/fs/bpf")?.contains("hookgate"));
    Ok(())
}

#[test]
fn what_is_advised_frees_the_interface() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let advised = |guard: &str| {
        let (_, said) = testbed.refusal(guard, "guard attach")?;
        let commands = said.split('`').filter(|word| word.starts_with("bpftool ") || word.starts_with("ip "));
        commands.map(str::to_owned).next().with_context(|| format!("no command: {said}"))
    };
    // A link of another hookgate's.
    testbed.run("pin = \"first\"", "guard attach")?;
    testbed.edge.run(&advised("")?)?;
    testbed.run("", "guard attach")?;
    testbed.run("", "guard detach")?;
    // No link.
    for place in ["xdpgeneric", "xdpdrv"] {
        let attach = format!("bpftool net attach {place} pinned /sys/fs/bpf/first/program dev wan0");
        testbed.edge.run(&attach)?;
        let command = advised("")?;
        ensure!(command == format!("ip link set dev wan0 {place} off"), "{command}");
        testbed.edge.run(&command)?;
        testbed.run("", "guard attach")?;
        testbed.run("", "guard detach")?;
    }
    Ok(())
}

#[test]
fn a_guard_of_another_network_namespace_is_left_alone() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    run(testbed.hookgate("lo", "xdp = \"generic\"", "guard attach")?)?;
    // The same pins, another network: its loopback has the same index.
    let there = testbed.hookgate("lo", "xdp = \"generic\"", "guard attach")?;
    let mut inside = testbed.edge.command("unshare");
    inside.arg("--net").arg(harness::binary()?).args(["guard", "attach", "--config"]);
    inside.arg(testbed.dir.path().join("hookgate.toml"));
    drop(there);
    let (code, said) = refusal(inside)?;
    ensure!(code == Some(1) && said.contains("is on lo of another network namespace"), "{said}");
    assert!(testbed.edge.run("ip link show lo")?.contains("xdpgeneric"));
    Ok(())
}

#[test]
fn a_renamed_interface_keeps_its_link() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.run("", "guard attach")?;
    testbed.send(META[3].0, CLOSED)?;
    for line in ["ip link set wan0 down", "ip link set wan0 name eth7", "ip link set eth7 up"] {
        testbed.edge.run(line)?;
    }
    let renamed = testbed.hookgate("eth7", "", "guard attach")?;
    assert_eq!(run(renamed)?, "attached to eth7 (native), with the counters it had\n");
    assert_eq!(by_prefix(&testbed.stats()?)["157.240.0.0/17"].syns, 1);
    let pins = testbed.edge.run("ls /sys/fs/bpf/hookgate")?;
    ensure!(pins.contains("link-native-eth7") && !pins.contains("wan0"), "{pins}");
    Ok(())
}
