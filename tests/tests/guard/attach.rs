//! Attaching, replacing, detaching; what is refused and how it is said.

use std::path::PathBuf;

use anyhow::Result;
use harness::{Need, run};
use hookgate_ebpf::abi::Settings;
use serde_json::Value;

use super::testbed::{CLOSED, META, Testbed, by_prefix, can_run, refusal};

#[test]
fn a_second_attach_keeps_link_and_counters() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let both = testbed.dir.write("both", "31.13.64.0/18\n157.240.0.0/17\n")?;
    let one = testbed.dir.write("one", "157.240.0.0/17\n")?;
    let with = |list: &PathBuf| format!("prefixes = \"{}\"", list.display());
    let link = || testbed.edge.run("bpftool link show pinned /sys/fs/bpf/hookgate/link-native-wan0");
    let ids = |text: String| {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        (words[0].clone(), words[3].clone())
    };
    assert_eq!(testbed.run(&with(&both), "guard attach")?, "attached to wan0 (native)\n");
    let (first_link, first_program) = ids(link()?);
    for (from, _) in [META[1], META[3], META[3]] {
        testbed.send(from, CLOSED)?;
    }
    let before = by_prefix(&testbed.stats()?);
    let since = testbed.stats()?["guard"]["since"].clone();
    assert_eq!(before["31.13.64.0/18"].syns, 1);
    assert_eq!(before["157.240.0.0/17"].syns, 2);

    let kept = "attached to wan0 (native), with the counters it had\n";
    assert_eq!(testbed.run(&with(&one), "guard attach")?, kept);
    let (link_now, program_now) = ids(link()?);
    assert_eq!(link_now, first_link);
    assert_ne!(program_now, first_program);
    let without = testbed.stats()?;
    assert_eq!(without["prefixes"].as_array().map(Vec::len), Some(1));
    assert_eq!(by_prefix(&without)["157.240.0.0/17"], before["157.240.0.0/17"]);
    testbed.send(META[1].0, CLOSED)?;
    assert_eq!(by_prefix(&testbed.stats()?)["other"].syns, 1, "withdrawn");

    assert_eq!(testbed.run(&with(&both), "guard attach")?, kept);
    let back = testbed.stats()?;
    assert_eq!(by_prefix(&back)["31.13.64.0/18"], before["31.13.64.0/18"], "it comes back with its counters");
    assert_eq!(back["guard"]["since"], since);
    Ok(())
}

#[test]
fn detach_leaves_nothing_and_may_be_repeated() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    assert_eq!(testbed.run("", "guard detach")?, "nothing was attached\n");
    testbed.run("", "guard attach")?;
    assert!(testbed.edge.run("ip link show wan0")?.contains("xdp"));
    assert!(testbed.run("", "guard status")?.starts_with("attached to wan0 (native), mode observe"));
    assert_eq!(testbed.run("", "guard detach")?, "detached from wan0\n");
    assert!(!testbed.edge.run("ip link show wan0")?.contains("xdp"));
    assert_eq!(testbed.edge.run("ls /sys/fs/bpf")?, testbed.meta.run("ls /sys/fs/bpf")?);
    assert_eq!(testbed.run("", "guard detach")?, "nothing was attached\n");
    assert_eq!(testbed.run("", "guard status")?, "detached: packets are not counted\n");
    let stats = testbed.stats()?;
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
    let testbed = Testbed::new()?;
    testbed.run("pin = \"first\"", "guard attach")?;
    let (code, said) = testbed.refusal("pin = \"second\"", "guard attach")?;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("wan0 already runs the guard of another hookgate, pinned in /sys/fs/bpf/first"),
        "{said}"
    );
    assert!(!testbed.edge.run("ls /sys/fs/bpf")?.contains("second"));

    // Another tool's program, attached as other tools do: without a link.
    let program = testbed.edge.run("bpftool prog show pinned /sys/fs/bpf/first/program")?;
    let id = program.split(':').next().unwrap_or_default().to_owned();
    testbed.edge.run(&format!("bpftool prog pin id {id} /sys/fs/bpf/foreign"))?;
    testbed.run("pin = \"first\"", "guard detach")?;
    testbed.edge.run("bpftool net attach xdpgeneric pinned /sys/fs/bpf/foreign dev wan0")?;
    let (code, said) = testbed.refusal("", "guard attach")?;
    assert_eq!(code, Some(1));
    // Before Linux 5.18 it is `hookgate_linear`.
    assert!(
        said.contains("wan0 already runs the XDP program hookgate") && said.contains(&format!("(id {id})")),
        "{said}"
    );
    assert!(!testbed.edge.run("ls /sys/fs/bpf")?.contains("hookgate"));
    Ok(())
}

#[test]
fn a_device_that_went_and_came_back_is_attached_anew() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.run("", "guard attach")?;
    testbed.send(META[3].0, CLOSED)?;
    testbed.edge.run("ip link del wan0")?;
    assert_eq!(testbed.stats()?["guard"]["state"], "detached");
    testbed.connect()?;
    assert_eq!(testbed.run("", "guard attach")?, "attached to wan0 (native), with the counters it had\n");
    testbed.send(META[3].0, CLOSED)?;
    assert_eq!(by_prefix(&testbed.stats()?)["157.240.0.0/17"].syns, 2);
    Ok(())
}

#[test]
fn maps_of_another_version_are_told_and_replaced() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.run("", "guard attach")?;
    testbed.send(META[3].0, CLOSED)?;
    let settings = "bpftool map update pinned /sys/fs/bpf/hookgate/SETTINGS key 0 0 0 0 value 255";
    testbed.edge.run(&format!("{settings}{}", " 0".repeat(size_of::<Settings>() - 1)))?;
    let (code, said) = testbed.refusal("", "stats")?;
    assert_eq!((code, said.contains("attached by another version")), (Some(1), true), "{said}");
    let discarded = "attached to wan0 (native); the counters of another version's layout are gone\n";
    assert_eq!(testbed.run("", "guard attach")?, discarded);
    testbed.send(META[3].0, CLOSED)?;
    assert_eq!(by_prefix(&testbed.stats()?)["157.240.0.0/17"].syns, 1, "counted where stats looks");
    Ok(())
}

#[test]
fn an_interface_that_is_no_longer_named_is_let_go() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.run("", "guard attach")?;
    let moved = testbed.hookgate("lo", "", "guard attach")?;
    let said = run(moved)?;
    assert!(
        said.starts_with("attached to lo (tc: ") && said.ends_with(", with the counters it had\n"),
        "{said}"
    );
    assert!(!testbed.edge.run("ip link show wan0")?.contains("xdp"));
    assert!(!testbed.edge.run("ip link show lo")?.contains("xdp"));
    Ok(())
}

#[test]
fn modes_of_xdp_are_as_asked() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    assert_eq!(testbed.run("xdp = \"native\"", "guard attach")?, "attached to wan0 (native)\n");
    // Before Linux 5.18 a frame must fit into a page, and the driver sees to it.
    let program = testbed.edge.run("bpftool prog show pinned /sys/fs/bpf/hookgate/program")?;
    let takes_fragments = !program.contains("hookgate_linear");
    assert_eq!(testbed.meta.run("ip link set wan0 mtu 9000").is_ok(), takes_fragments, "{program}");
    testbed.edge.run("ip link set wan0 mtu 9000")?;
    if takes_fragments {
        testbed.run("", "guard detach")?;
        assert_eq!(testbed.run("xdp = \"native\"", "guard attach")?, "attached to wan0 (native)\n");
    }
    let generic = "attached to wan0 (generic), with the counters it had\n";
    assert_eq!(testbed.run("xdp = \"generic\"", "guard attach")?, generic);
    assert_eq!(
        testbed.stats()?["guard"]["interfaces"],
        serde_json::json!([{ "name": "wan0", "xdp": "generic" }])
    );
    testbed.send(META[3].0, CLOSED)?;
    assert_eq!(by_prefix(&testbed.stats()?)["157.240.0.0/17"].syns, 1);
    let on_lo = testbed.hookgate("lo", "xdp = \"native\"\npin = \"lo\"", "guard attach")?;
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
    let testbed = Testbed::new()?;
    let (code, said) = refusal(testbed.hookgate("wan7", "", "guard attach")?)?;
    // Between them, what kernel modules for tunnels bring to each namespace.
    let expected = "there is no interface \"wan7\" here; there are: lo, ";
    assert_eq!((code, said.contains(expected)), (Some(1), true), "{said}");

    let weak = "--bounding-set=-sys_admin,-net_admin";
    let weak = testbed.hookgate_with(weak, "wan0", "", "guard attach")?;
    let (code, said) = refusal(weak)?;
    assert_eq!((code, said.contains("run as root")), (Some(1), true), "{said}");

    testbed.edge.run("umount /sys/fs/bpf")?;
    let (code, said) = testbed.refusal("", "guard attach")?;
    assert_eq!((code, said.contains("mount -t bpf bpf /sys/fs/bpf")), (Some(1), true), "{said}");
    assert_eq!(testbed.stats()?["guard"]["state"], "detached");
    Ok(())
}
