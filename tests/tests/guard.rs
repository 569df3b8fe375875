//! The guard on a real link, between two machines of which one has Meta's addresses. Counts are compared with a tap on
//! the sender's end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Certs, Counts, Need, NetNs, Nginx, Tap, TempDir, require, run, wait_until};
use hookgate_ebpf::abi::Settings;
use serde_json::Value;

/// Addresses of Meta's, and the prefix of the built-in table each belongs to.
const META: [(&str, &str); 6] = [
    ("31.13.66.7", "31.13.66.0/24"),
    ("31.13.67.7", "31.13.64.0/18"),
    ("57.144.1.7", "57.144.0.0/14"),
    ("157.240.1.7", "157.240.0.0/17"),
    ("2a03:2880:f003::7", "2a03:2880:f000::/36"),
    ("2a03:2880:1::7", "2a03:2880::/36"),
];
const STRANGERS: [&str; 2] = ["203.0.113.7", "2001:db8:7::7"];
const EDGE_V4: &str = "198.51.100.2";
const EDGE_V6: &str = "2001:db8:1::2";
/// Guarded, but not served.
const CLOSED: u16 = 8443;
/// Of no interest to the guard.
const UNGUARDED: u16 = 8444;

/// Two machines and a wire; hookgate's guard belongs on `wan0` of `edge`.
struct Scene {
    meta: NetNs,
    edge: NetNs,
    dir: TempDir,
}

impl Scene {
    fn new() -> Result<Self> {
        let scene = Self { meta: NetNs::new()?, edge: NetNs::new()?, dir: TempDir::new("guard")? };
        scene.connect()?;
        Ok(scene)
    }

    fn connect(&self) -> Result<()> {
        NetNs::link((&self.meta, "wan0"), (&self.edge, "wan0"))?;
        for address in META.iter().map(|(address, _)| *address).chain(STRANGERS) {
            let length = if address.contains(':') { 128 } else { 32 };
            self.meta.address("wan0", &format!("{address}/{length}"))?;
        }
        self.edge.address("wan0", &format!("{EDGE_V4}/32"))?;
        self.edge.address("wan0", &format!("{EDGE_V6}/128"))?;
        for ns in [&self.meta, &self.edge] {
            ns.run("ip route add default dev wan0")?;
            ns.run("ip -6 route add default dev wan0")?;
        }
        Ok(())
    }

    /// hookgate on `edge`, with `guard` among the lines of `[guard]`.
    fn hookgate(&self, interface: &str, guard: &str, args: &str) -> Result<Command> {
        self.hookgate_with("--bounding-set=+all", interface, guard, args)
    }

    fn hookgate_with(&self, capabilities: &str, interface: &str, guard: &str, args: &str) -> Result<Command> {
        let text = format!(
            "[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n\"a.example\" = {{}}\n\
             [guard]\ninterfaces = [\"{interface}\"]\nports = [443, {CLOSED}]\n{guard}\n"
        );
        let mut command = self.edge.command("setpriv");
        command.args([capabilities, "--"]).arg(harness::binary()?).args(args.split(' '));
        command.arg("--config").arg(self.dir.write("hookgate.toml", &text)?);
        Ok(command)
    }

    fn run(&self, guard: &str, args: &str) -> Result<String> {
        run(self.hookgate("wan0", guard, args)?)
    }

    /// The exit code and what it said of a command that fails.
    fn refusal(&self, guard: &str, args: &str) -> Result<(Option<i32>, String)> {
        refusal(self.hookgate("wan0", guard, args)?)
    }

    fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.run("", "stats --json")?)?)
    }

    /// A webhook over TLS to 443; to another port, which nobody serves, one SYN that a RST answers.
    fn send(&self, from: &str, port: u16) -> Result<()> {
        let to = if from.contains(':') { format!("[{EDGE_V6}]") } else { EDGE_V4.into() };
        let mut curl = self.meta.command("curl");
        curl.args(["-sk", "--noproxy", "*", "--max-time", "10", "--interface", from, "-d", "{}"]);
        let output = curl.arg(format!("https://{to}:{port}/")).output()?;
        ensure!(output.status.success() == (port == 443), "curl from {from} to {port}: {output:?}");
        Ok(())
    }
}

fn refusal(mut command: Command) -> Result<(Option<i32>, String)> {
    let output = command.output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn counts(of: &Value) -> Counts {
    let field = |name: &str| of[name].as_u64().unwrap_or(u64::MAX);
    Counts { packets: field("packets"), bytes: field("bytes"), syns: field("syns") }
}

/// Every row that is not zero, by prefix, and `other`.
fn by_prefix(stats: &Value) -> BTreeMap<String, Counts> {
    let rows = stats["prefixes"].as_array().into_iter().flatten();
    let rows = rows.map(|row| (row["prefix"].as_str().unwrap_or("?").to_owned(), counts(row)));
    rows.chain([("other".to_owned(), counts(&stats["other"]))])
        .filter(|(_, counts)| *counts != Counts::default())
        .collect()
}

fn can_run(more: &[Need]) -> bool {
    let programs = ["ip", "ethtool", "tcpdump", "nsenter", "curl"].map(Need::Program);
    require(&[&[Need::Root, Need::Guard], &programs[..], more].concat())
}

#[test]
fn counts_what_was_sent_to_the_packet_and_byte() -> Result<()> {
    if !can_run(&[Need::Program("nginx")]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let _nginx = Nginx::start(&scene.edge, "[::]:443".parse()?, &Certs::new(&["edge.example"])?)?;
    let native = "xdp = \"native\"";
    assert_eq!(scene.run(native, "guard attach")?, "attached to wan0 (native)\n");
    let taps = [443, CLOSED].map(|port| Tap::start(&scene.meta, "wan0", port));

    for from in META.iter().map(|(address, _)| *address).chain(STRANGERS) {
        scene.send(from, 443)?;
        scene.send(from, CLOSED)?;
        scene.send(from, UNGUARDED)?;
    }
    scene.send(META[0].0, 443)?;

    let prefix_of: BTreeMap<&str, &str> = META.into_iter().collect();
    let sent = || -> Result<BTreeMap<String, Counts>> {
        let mut sent = BTreeMap::<String, Counts>::new();
        for tap in taps.iter().flatten() {
            for (from, counts) in tap.counts()? {
                let prefix = prefix_of.get(from.to_string().as_str()).unwrap_or(&"other");
                *sent.entry((*prefix).to_owned()).or_default() += counts;
            }
        }
        Ok(sent)
    };
    // The last connection's end may still be on its way.
    wait_until(Duration::from_secs(5), || Ok(by_prefix(&scene.stats()?) == sent()?))?;
    let (stats, sent) = (scene.stats()?, sent()?);
    assert_eq!(by_prefix(&stats), sent);
    assert_eq!(sent.len(), META.len() + 1);
    assert_eq!(sent[META[0].1].syns, 3, "two connections, one to a closed port");
    assert_eq!(sent["other"].syns, 4);
    for tap in taps {
        tap?.finish()?;
    }

    assert_eq!(stats["guard"]["state"], "attached");
    assert_eq!(stats["guard"]["interfaces"][0]["xdp"], "native");
    assert_eq!(stats["prefixes"].as_array().map(Vec::len), Some(279));
    let table = scene.run("", "stats")?;
    assert!(table.contains("\n157.240.0.0/17 ") && !table.contains("\n31.13.24.0/21 "), "{table}");
    let seen = |prefix: &str| {
        stats["prefixes"].as_array()?.iter().find(|row| row["prefix"] == prefix)?["last_seen"].as_str()
    };
    let since = stats["guard"]["since"].as_str();
    assert!(since <= seen("157.240.0.0/17") && seen("157.240.0.0/17") <= stats["taken"].as_str(), "{stats}");
    assert_eq!(seen("31.13.24.0/21"), None);
    Ok(())
}

#[test]
fn a_second_attach_keeps_link_and_counters() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let both = scene.dir.write("both", "31.13.64.0/18\n157.240.0.0/17\n")?;
    let one = scene.dir.write("one", "157.240.0.0/17\n")?;
    let with = |list: &PathBuf| format!("prefixes = \"{}\"", list.display());
    let link = || scene.edge.run("bpftool link show pinned /sys/fs/bpf/hookgate/link-native-wan0");
    let ids = |text: String| {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        (words[0].clone(), words[3].clone())
    };
    assert_eq!(scene.run(&with(&both), "guard attach")?, "attached to wan0 (native)\n");
    let (first_link, first_program) = ids(link()?);
    for (from, _) in [META[1], META[3], META[3]] {
        scene.send(from, CLOSED)?;
    }
    let before = by_prefix(&scene.stats()?);
    let since = scene.stats()?["guard"]["since"].clone();
    assert_eq!(before["31.13.64.0/18"].syns, 1);
    assert_eq!(before["157.240.0.0/17"].syns, 2);

    let kept = "attached to wan0 (native), with the counters it had\n";
    assert_eq!(scene.run(&with(&one), "guard attach")?, kept);
    let (link_now, program_now) = ids(link()?);
    assert_eq!(link_now, first_link);
    assert_ne!(program_now, first_program);
    let without = scene.stats()?;
    assert_eq!(without["prefixes"].as_array().map(Vec::len), Some(1));
    assert_eq!(by_prefix(&without)["157.240.0.0/17"], before["157.240.0.0/17"]);
    scene.send(META[1].0, CLOSED)?;
    assert_eq!(by_prefix(&scene.stats()?)["other"].syns, 1, "withdrawn");

    assert_eq!(scene.run(&with(&both), "guard attach")?, kept);
    let back = scene.stats()?;
    assert_eq!(by_prefix(&back)["31.13.64.0/18"], before["31.13.64.0/18"], "it comes back with its counters");
    assert_eq!(back["guard"]["since"], since);
    Ok(())
}

#[test]
fn detach_leaves_nothing_and_may_be_repeated() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    assert_eq!(scene.run("", "guard detach")?, "nothing was attached\n");
    scene.run("", "guard attach")?;
    assert!(scene.edge.run("ip link show wan0")?.contains("xdp"));
    assert!(scene.run("", "guard status")?.starts_with("attached to wan0 (native), mode observe"));
    assert_eq!(scene.run("", "guard detach")?, "detached from wan0\n");
    assert!(!scene.edge.run("ip link show wan0")?.contains("xdp"));
    assert_eq!(scene.edge.run("ls /sys/fs/bpf")?, scene.meta.run("ls /sys/fs/bpf")?);
    assert_eq!(scene.run("", "guard detach")?, "nothing was attached\n");
    assert_eq!(scene.run("", "guard status")?, "detached: packets are not counted\n");
    let stats = scene.stats()?;
    assert_eq!(stats["guard"]["state"], "detached");
    assert_eq!((&stats["guard"]["since"], by_prefix(&stats).len()), (&Value::Null, 0));
    assert_eq!(stats["prefixes"].as_array().map(Vec::len), Some(279));
    Ok(())
}

#[test]
fn an_interface_that_another_holds_is_refused_by_name() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    scene.run("pin = \"first\"", "guard attach")?;
    let (code, said) = scene.refusal("pin = \"second\"", "guard attach")?;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("wan0 already runs the guard of another hookgate, pinned in /sys/fs/bpf/first"),
        "{said}"
    );
    assert!(!scene.edge.run("ls /sys/fs/bpf")?.contains("second"));

    // Somebody else's program, attached as other tools do: without a link.
    let program = scene.edge.run("bpftool prog show pinned /sys/fs/bpf/first/program")?;
    let id = program.split(':').next().unwrap_or_default().to_owned();
    scene.edge.run(&format!("bpftool prog pin id {id} /sys/fs/bpf/foreign"))?;
    scene.run("pin = \"first\"", "guard detach")?;
    scene.edge.run("bpftool net attach xdpgeneric pinned /sys/fs/bpf/foreign dev wan0")?;
    let (code, said) = scene.refusal("", "guard attach")?;
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("wan0 already runs the XDP program hookgate (id {id})")), "{said}");
    assert!(!scene.edge.run("ls /sys/fs/bpf")?.contains("hookgate"));
    Ok(())
}

#[test]
fn a_device_that_went_and_came_back_is_attached_anew() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    scene.run("", "guard attach")?;
    scene.send(META[3].0, CLOSED)?;
    scene.edge.run("ip link del wan0")?;
    assert_eq!(scene.stats()?["guard"]["state"], "detached");
    scene.connect()?;
    assert_eq!(scene.run("", "guard attach")?, "attached to wan0 (native), with the counters it had\n");
    scene.send(META[3].0, CLOSED)?;
    assert_eq!(by_prefix(&scene.stats()?)["157.240.0.0/17"].syns, 2);
    Ok(())
}

#[test]
fn maps_of_another_version_are_told_and_replaced() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    scene.run("", "guard attach")?;
    scene.send(META[3].0, CLOSED)?;
    let settings = "bpftool map update pinned /sys/fs/bpf/hookgate/SETTINGS key 0 0 0 0 value 255";
    scene.edge.run(&format!("{settings}{}", " 0".repeat(size_of::<Settings>() - 1)))?;
    let (code, said) = scene.refusal("", "stats")?;
    assert_eq!((code, said.contains("attached by another version")), (Some(1), true), "{said}");
    let discarded = "attached to wan0 (native); the counters of another version's layout are gone\n";
    assert_eq!(scene.run("", "guard attach")?, discarded);
    scene.send(META[3].0, CLOSED)?;
    assert_eq!(by_prefix(&scene.stats()?)["157.240.0.0/17"].syns, 1, "counted where stats looks");
    Ok(())
}

#[test]
fn an_interface_that_is_no_longer_named_is_let_go() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    scene.run("", "guard attach")?;
    let moved = scene.hookgate("lo", "", "guard attach")?;
    assert_eq!(run(moved)?, "attached to lo (generic), with the counters it had\n");
    assert!(!scene.edge.run("ip link show wan0")?.contains("xdp"));
    assert!(scene.edge.run("ip link show lo")?.contains("xdpgeneric"));
    Ok(())
}

#[test]
fn modes_of_xdp_are_as_asked() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    for ns in [&scene.meta, &scene.edge] {
        ns.run("ip link set wan0 mtu 9000")?;
    }
    assert_eq!(scene.run("xdp = \"native\"", "guard attach")?, "attached to wan0 (native)\n");
    let generic = "attached to wan0 (generic), with the counters it had\n";
    assert_eq!(scene.run("xdp = \"generic\"", "guard attach")?, generic);
    assert_eq!(
        scene.stats()?["guard"]["interfaces"],
        serde_json::json!([{ "name": "wan0", "xdp": "generic" }])
    );
    scene.send(META[3].0, CLOSED)?;
    assert_eq!(by_prefix(&scene.stats()?)["157.240.0.0/17"].syns, 1);
    let on_lo = scene.hookgate("lo", "xdp = \"native\"\npin = \"lo\"", "guard attach")?;
    let (code, said) = refusal(on_lo)?;
    assert_eq!(code, Some(1));
    assert!(said.contains("can't run on lo in native mode") && said.contains("xdp = \"auto\""), "{said}");
    Ok(())
}

#[test]
fn what_is_missing_is_said() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let (code, said) = refusal(scene.hookgate("wan7", "", "guard attach")?)?;
    let expected = "there is no interface \"wan7\" here; there are: lo, wan0";
    assert_eq!((code, said.contains(expected)), (Some(1), true), "{said}");

    let weak = "--bounding-set=-sys_admin,-net_admin";
    let weak = scene.hookgate_with(weak, "wan0", "", "guard attach")?;
    let (code, said) = refusal(weak)?;
    assert_eq!((code, said.contains("run as root")), (Some(1), true), "{said}");

    scene.edge.run("umount /sys/fs/bpf")?;
    let (code, said) = scene.refusal("", "guard attach")?;
    assert_eq!((code, said.contains("mount -t bpf bpf /sys/fs/bpf")), (Some(1), true), "{said}");
    assert_eq!(scene.stats()?["guard"]["state"], "detached");
    Ok(())
}
