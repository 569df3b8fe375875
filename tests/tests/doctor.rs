//! The doctor, on machines and configurations that are well and on others that are not.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Ca, Certs, DnsServer, Need, NetNs, Proxy, TempDir, free_port, require, run, wait_until};
use serde_json::Value;

/// What the doctor said.
struct Examination {
    code: Option<i32>,
    document: Value,
}

impl Examination {
    /// Of `config` (the text of a hookgate.toml), which is written to `dir` and has figures of its
    /// own.
    fn of(ns: &NetNs, dir: &TempDir, config: &str) -> Result<Self> {
        let config = format!("{config}\n[insight]\nstate = \"insight\"\n");
        Self::at(ns, &dir.write("hookgate.toml", config)?)
    }

    /// Of the one in a file.
    fn at(ns: &NetNs, path: &Path) -> Result<Self> {
        let mut command = ns.command(&harness::binary()?.to_string_lossy());
        command.args(["doctor", "--json", "--config"]).arg(path);
        let output = command.output()?;
        let document = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the doctor said {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(Self { code: output.status.code(), document })
    }

    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.document["findings"].as_array().into_iter().flatten()
    }

    /// The only finding whose subject is `subject` and whose text holds `text`: its level.
    fn level(&self, subject: &str, text: &str) -> Result<&str> {
        let is_it = |finding: &&Value| {
            finding["subject"] == subject && finding["text"].as_str().is_some_and(|own| own.contains(text))
        };
        let found: Vec<&Value> = self.findings().filter(is_it).collect();
        ensure!(found.len() == 1, "{subject}: {text}: found {found:?} in {:#}", self.document);
        found[0]["level"].as_str().context("a finding without level")
    }

    /// Whether the counts, the exit code and the findings say the same, and all that is wrong has a
    /// remedy.
    fn is_consistent(&self) -> Result<()> {
        for level in ["ok", "warn", "fail"] {
            let count = self.findings().filter(|finding| finding["level"] == level).count();
            ensure!(self.document[level] == count, "{level}: {count} in {:#}", self.document);
        }
        let fails = self.document["fail"].as_u64().context("no count")?;
        ensure!(self.code == Some(i32::from(fails > 0)), "{fails} failures, exit code {:?}", self.code);
        ensure!(self.document["version"] == 1, "{:#}", self.document);
        for finding in self.findings() {
            ensure!((finding["level"] == "ok") == finding["next"].is_null(), "{finding}");
        }
        Ok(())
    }
}

/// A configuration whose listener is free and whose names are asked of `dns`.
fn plain(dns: &str, more: &str) -> Result<String> {
    let port = free_port()?;
    Ok(format!(
        "[listen]\nplain = [\"127.0.0.1:{port}\"]\n[dns]\nservers = [{dns}]\ntimeout = \"1s\"\n\
         [upstreams]\n\"a.example\" = {{}}\n{more}\n"
    ))
}

#[test]
fn a_machine_that_is_well() -> Result<()> {
    if !require(&[
        Need::Root,
        Need::Guard,
        Need::Program("dnsmasq"),
        Need::Program("ip"),
        Need::Program("ethtool"),
    ]) {
        return Ok(());
    }
    let (edge, meta) = (NetNs::new()?, NetNs::new()?);
    NetNs::link((&edge, "wan0"), (&meta, "wan0"))?;
    let server = DnsServer::start(&edge, "127.0.0.1:5353".parse()?, &[("a.example", "192.0.2.1".parse()?)])?;
    let dir = TempDir::new("doctor")?;
    let [_, cert, key] =
        Ca::new("root")?.below("intermediate")?.issue(&["edge.example"])?.write(&dir, "edge")?;
    let config = format!(
        "[listen]\nhttps = [\"127.0.0.1:443\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n\
         [dns]\nservers = [\"127.0.0.1:5353\"]\n[upstreams]\n\"a.example\" = {{}}\n\
         [guard]\ninterfaces = [\"wan0\"]\nstate = \"prefixes\"\n"
    );
    let well = Examination::of(&edge, &dir, &config)?;
    well.is_consistent()?;
    assert_eq!(well.code, Some(0), "{:#}", well.document);
    let certificate = format!("certificate {}", cert.display());
    for (subject, text) in [
        ("configuration", "is fine, 1 upstream"),
        ("kernel", "Linux "),
        ("BPF", "the kernel takes the guard's programs"),
        ("bpffs", "mounted at /sys/fs/bpf"),
        ("clock", "20"),
        ("wan0", "there, and up"),
        ("wan0", "no driver to ask"),
        ("listen.https 127.0.0.1:443", "free"),
        (&certificate, "edge.example, until 4096-12-31T00:00:00Z"),
        ("prefixes", "of the list builtin, never refreshed"),
        ("DNS 127.0.0.1:5353", "a.example in "),
    ] {
        assert_eq!(well.level(subject, text)?, "ok", "{subject}: {text}");
    }
    assert_eq!(well.level("traffic", "the guard is not attached")?, "warn");
    // It answers before it logs.
    wait_until("the server logs the question", Duration::from_secs(5), || {
        Ok(server.log().contains("query[A] a.example"))
    })
    .with_context(|| server.log())?;
    Ok(())
}

#[test]
fn errors_of_the_configuration_are_told_one_by_one() -> Result<()> {
    let dir = TempDir::new("doctor")?;
    let ill = Examination::of(&NetNs::here(), &dir, "[listen]\nplian = []\n[dns]\ntimeout = \"soon\"\n")?;
    ill.is_consistent()?;
    assert_eq!(ill.level("configuration", "hookgate.toml:2:1: unknown key `listen.plian`")?, "fail");
    assert_eq!(ill.level("configuration", "hookgate.toml:4:11: dns.timeout: ")?, "fail");
    assert_eq!(ill.level("kernel", "Linux ")?, "ok", "the machine is looked at all the same");

    let missing =
        Command::new(harness::binary()?).args(["doctor", "--config", "/nowhere/h.toml"]).output()?;
    let text = String::from_utf8(missing.stdout)?;
    assert_eq!(missing.status.code(), Some(1));
    assert!(text.starts_with("fail  configuration: /nowhere/h.toml: cannot be read: "), "{text}");
    assert!(text.trim_end().ends_with("fail"), "{text}");

    let upstream = plain("\"127.0.0.1:1\"", "\"b.example\" = { ca = \"/nowhere/ca.pem\" }")?;
    let ill = Examination::of(&NetNs::here(), &dir, &upstream)?;
    assert_eq!(ill.level("upstreams.\"b.example\".ca", "/nowhere/ca.pem")?, "fail");
    Ok(())
}

#[test]
fn certificates() -> Result<()> {
    let dir = TempDir::new("doctor")?;
    let root = Ca::new("root")?;
    let chain = root.below("intermediate")?;
    let names = ["edge.example", "*.edge.example"];
    let expired = chain.issue_until(&names, 2020)?;
    let mismatched = Certs { key: expired.key.clone(), ..chain.issue(&names)? };
    for (name, certs, level, text) in [
        ("good", chain.issue_for_days(&names, 30)?, "ok", "edge.example, *.edge.example, until "),
        ("soon", chain.issue_for_days(&names, 13)?, "warn", "expires on "),
        ("expired", expired, "fail", "expired on 2020-12-31T00:00:00Z"),
        ("mismatched", mismatched, "fail", "does not belong to the first certificate"),
        ("alone", root.issue(&names)?, "warn", "no certificate of the authority"),
        ("nameless", chain.issue(&[])?, "warn", "names no host"),
    ] {
        let [_, cert, key] = certs.write(&dir, name)?;
        let config = format!(
            "[listen]\nhttps = [\"127.0.0.1:{}\"]\n[dns]\nservers = [\"127.0.0.1:1\"]\ntimeout = \"100ms\"\n\
             [tls]\ncert = {cert:?}\nkey = {key:?}\n",
            free_port()?
        );
        let found = Examination::of(&NetNs::here(), &dir, &config)?;
        found.is_consistent()?;
        assert_eq!(found.level(&format!("certificate {}", cert.display()), text)?, level, "{name}");
    }
    Ok(())
}

#[test]
fn ports_are_free_ours_or_another_programs() -> Result<()> {
    let dir = TempDir::new("doctor")?;
    let here = NetNs::here();
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?;
    let ours = free_port()?;
    let config = |ports: &str| {
        format!("[listen]\nplain = [{ports}]\n[dns]\nservers = [\"127.0.0.1:1\"]\ntimeout = \"100ms\"\n")
    };
    let proxy = Proxy::start(&config(&format!("\"127.0.0.1:{ours}\"")))?;
    let own = Examination::at(&here, proxy.config())?;
    own.is_consistent()?;
    assert_eq!(own.level(&format!("listen.plain 127.0.0.1:{ours}"), "held by hookgate (pid ")?, "ok");

    let ports =
        format!("\"127.0.0.1:{ours}\", \"{taken}\", \"127.0.0.1:{}\", \"192.0.2.1:80\"", free_port()?);
    let found = Examination::of(&here, &dir, &config(&ports))?;
    found.is_consistent()?;
    let theirs = format!("listen.plain 127.0.0.1:{ours}");
    assert_eq!(found.level(&theirs, "held by hookgate (pid ")?, "fail", "with another configuration");
    let holder = format!("(pid {})", std::process::id());
    assert_eq!(found.level(&format!("listen.plain {taken}"), &holder)?, "fail");
    assert_eq!(found.level("listen.plain 192.0.2.1:80", "does not have the address")?, "fail");
    Ok(())
}

#[test]
fn dns_servers_are_asked_one_by_one() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let dir = TempDir::new("doctor")?;
    let here = NetNs::here();
    let address = format!("127.0.0.1:{}", free_port()?);
    let dead = format!("127.0.0.1:{}", free_port()?);
    let server = DnsServer::start(&here, address.parse()?, &[("a.example", "192.0.2.1".parse()?)])?;
    let (works, fails) = (format!("DNS {address}"), format!("DNS {dead}"));

    let found = Examination::of(&here, &dir, &plain(&format!("\"{address}\", \"{dead}\""), "")?)?;
    found.is_consistent()?;
    assert_eq!(found.level(&works, "a.example in ")?, "ok");
    assert_eq!(found.level(&fails, "")?, "warn");

    let found = Examination::of(&here, &dir, &plain(&format!("\"{dead}\""), "")?)?;
    assert_eq!(found.level(&fails, "")?, "fail");

    // Requests wait for no name then, as for /ready.
    let named = "\"a.example\" = {}";
    let addressed =
        plain(&format!("\"{dead}\""), "")?.replace(named, "\"a.example\" = { address = \"192.0.2.1\" }");
    let found = Examination::of(&here, &dir, &addressed)?;
    found.is_consistent()?;
    assert_eq!(found.level(&fails, "")?, "warn");

    let unknown = plain(&format!("\"{address}\""), "")?.replace("a.example", "gone.example");
    let found = Examination::of(&here, &dir, &unknown)?;
    assert_eq!(found.level(&works, "gone.example: the DNS says Non-Existent Domain")?, "fail");
    drop(server);
    Ok(())
}

#[test]
fn interfaces_are_there_or_held_by_another_program() -> Result<()> {
    if !require(&[
        Need::Root,
        Need::Guard,
        Need::Program("ip"),
        Need::Program("ethtool"),
        Need::Program("curl"),
    ]) {
        return Ok(());
    }
    let (edge, meta) = (NetNs::new()?, NetNs::new()?);
    NetNs::link((&edge, "wan0"), (&meta, "wan0"))?;
    let dir = TempDir::new("doctor")?;
    let config = |guard: &str| -> Result<String> {
        plain("\"127.0.0.1:1\"", &format!("[guard]\nstate = \"prefixes\"\n{guard}"))
    };
    let absent = Examination::of(&edge, &dir, &config("interfaces = [\"eth7\"]")?)?;
    absent.is_consistent()?;
    assert_eq!(absent.level("eth7", "there are: lo, wan0")?, "fail");

    let wan0 = "interfaces = [\"wan0\"]\n";
    dir.write("other.toml", config(&format!("{wan0}pin = \"other\""))?)?;
    let guard = |action: &str, file: &str| {
        let mut command = edge.command(&harness::binary()?.to_string_lossy());
        command.args(["guard", action, "--config"]).arg(dir.path().join(file));
        run(command)
    };
    guard("attach", "other.toml")?;
    let held = Examination::of(&edge, &dir, &config(wan0)?)?;
    held.is_consistent()?;
    assert_eq!(held.level("wan0", "the guard of another hookgate, pinned in /sys/fs/bpf/other")?, "fail");
    let check = || {
        let mut command = edge.command(&harness::binary()?.to_string_lossy());
        command.args(["check", "--config"]).arg(dir.path().join("hookgate.toml"));
        let output = command.output()?;
        Ok::<_, anyhow::Error>((output.status.code(), String::from_utf8(output.stderr)?))
    };
    let (code, said) = check()?;
    ensure!(
        code == Some(1) && said.contains("guard.interfaces: wan0 already runs the guard of another"),
        "{said}"
    );

    guard("detach", "other.toml")?;
    guard("attach", "hookgate.toml")?;
    assert_eq!(check()?, (Some(0), String::new()), "its own guard");
    let silent = Examination::of(&edge, &dir, &config(wan0)?)?;
    assert_eq!(silent.level("wan0", "runs this hookgate's guard")?, "ok");
    assert_eq!(silent.level("traffic", "nothing from Meta since")?, "warn");

    // What was counted before there were figures belongs to no hour.
    meta.address("wan0", "31.13.66.7/24")?;
    edge.address("wan0", "31.13.66.8/24")?;
    let mut curl = meta.command("curl");
    curl.args(["-s", "--noproxy", "*", "--max-time", "5", "http://31.13.66.8:443/"]);
    assert!(!curl.output()?.status.success(), "nobody listens");
    let found = Examination::of(&edge, &dir, &config(wan0)?)?;
    assert!(found.level("traffic", "nothing from Meta since").is_err(), "a SYN has come");
    Ok(())
}

#[test]
fn a_firewall_on_loopback_delays_no_start() -> Result<()> {
    if !require(&[Need::Root, Need::Program("ip"), Need::Program("nft")]) {
        return Ok(());
    }
    let (ns, dir) = (NetNs::new()?, TempDir::new("doctor")?);
    ns.run("nft add table inet silent")?;
    ns.run("nft add chain inet silent input { type filter hook input priority 0 ; }")?;
    ns.run("nft add rule inet silent input iif lo drop")?;
    let config = plain("\"127.0.0.1:1\"", "")?;
    // It is waited for no longer than any other start.
    let mut proxy = Proxy::start_in(&ns, &config)?;
    let silent = "the probe over loopback got no answer in 2 s (a firewall on lo?)";
    proxy.wait_for_stderr(&format!("kernel TLS: not used: {silent}"), Duration::from_secs(10))?;
    let begun = Instant::now();
    let found = Examination::at(&ns, proxy.config())?;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(found.level("kernel TLS", silent)?, "warn");
    drop(dir);
    Ok(())
}

#[test]
fn capabilities_in_a_user_namespace_are_none_for_bpf() -> Result<()> {
    if !require(&[Need::Root, Need::Guard, Need::Program("ip"), Need::Program("unshare")]) {
        return Ok(());
    }
    let (ns, dir) = (NetNs::new()?, TempDir::new("doctor")?);
    let config = plain("\"127.0.0.1:1\"", "[guard]\ninterfaces = [\"lo\"]\nstate = \"prefixes\"")?;
    let config = dir.write("hookgate.toml", config)?;
    let inside = |arguments: &[&str]| -> Result<Output> {
        let mut command = ns.command("unshare");
        command.args(["--user", "--map-root-user", "--"]).arg(harness::binary()?);
        Ok(command.args(arguments).arg("--config").arg(&config).output()?)
    };
    let output = inside(&["doctor", "--json"])?;
    let found = Examination { code: output.status.code(), document: serde_json::from_slice(&output.stdout)? };
    found.is_consistent()?;
    let forbidden = "BPF is not allowed here although the process has the capabilities for it";
    assert_eq!(found.level("BPF", forbidden)?, "fail");
    assert_eq!(found.level("capabilities", "held in a user namespace")?, "warn");

    let refused = inside(&["guard", "attach"])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains(forbidden), "{said}");

    // Without CAP_PERFMON the verifier refuses what the program does with pointers.
    let mut weak = ns.command("setpriv");
    weak.arg("--bounding-set=-sys_admin,-perfmon").arg(harness::binary()?);
    let refused = weak.args(["guard", "attach", "--config"]).arg(&config).output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("CAP_PERFMON"), "{said}");
    Ok(())
}

#[test]
fn a_machine_with_ipv6_alone_is_named() -> Result<()> {
    if !require(&[Need::Root, Need::Program("ip"), Need::Program("ethtool")]) {
        return Ok(());
    }
    let (edge, meta, dir) = (NetNs::new()?, NetNs::new()?, TempDir::new("doctor")?);
    NetNs::link((&edge, "wan0"), (&meta, "wan0"))?;
    edge.address("wan0", "2001:db8::1/64")?;
    let config = plain("\"127.0.0.1:1\"", "")?;
    let found = Examination::of(&edge, &dir, &config)?;
    assert_eq!(found.level("where it runs", "on a machine with IPv6 alone")?, "warn");
    edge.address("wan0", "192.0.2.1/24")?;
    let found = Examination::of(&edge, &dir, &config)?;
    assert!(found.level("where it runs", "on a machine with IPv6 alone").is_err());
    Ok(())
}

#[test]
fn cgroup_v1_and_a_read_only_root_are_named() -> Result<()> {
    /// In mounts that only its own process sees.
    const ODD: &str = "umount /sys/fs/cgroup && mount -t cgroup -o none,name=hookgate cgroup /sys/fs/cgroup && \
        mount -o remount,bind,ro / && exec \"$@\"";
    if !require(&[Need::Root, Need::Program("ip"), Need::Program("unshare")]) {
        return Ok(());
    }
    let (ns, dir) = (NetNs::new()?, TempDir::new("doctor")?);
    let config = plain("\"127.0.0.1:1\"", "[insight]\nstate = \"insight\"")?;
    let config = dir.write("hookgate.toml", config)?;
    let mut command = ns.command("unshare");
    command.args(["--mount", "sh", "-c", ODD, "sh"]).arg(harness::binary()?);
    let output = command.args(["doctor", "--json", "--config"]).arg(&config).output()?;
    let document = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    let found = Examination { code: output.status.code(), document };
    assert_eq!(found.level("cgroup2", "not mounted, only cgroup v1")?, "warn");
    let locked = format!("on a read-only root: nothing can be written in {}", dir.path().display());
    assert_eq!(found.level("where it runs", &locked)?, "warn");
    Ok(())
}

/// A control group in the hierarchy that a namespace sees.
struct Cgroup<'n>(&'n NetNs, String);

impl<'n> Cgroup<'n> {
    fn new(ns: &'n NetNs) -> Result<Self> {
        let path = format!("/sys/fs/cgroup/hookgate-doctor-{}", std::process::id());
        ns.run(&format!("mkdir {path}"))?;
        Ok(Self(ns, path))
    }

    fn remove(&self) -> Result<()> {
        self.0.run(&format!("rmdir {}", self.1)).map(drop)
    }
}

impl Drop for Cgroup<'_> {
    fn drop(&mut self) {
        // It may have gone already.
        let _ = self.remove();
    }
}

#[test]
fn handshakes_are_not_counted_once_the_control_group_is_gone() -> Result<()> {
    /// Makes the control group the root of all that it sees, as a container does.
    const CONTAINER: &str = "echo $$ >$0/cgroup.procs && exec unshare --cgroup --mount -- sh -c \
        'umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"' sh \"$@\"";
    if !require(&[Need::Root, Need::Guard, Need::Program("ip"), Need::Program("unshare")]) {
        return Ok(());
    }
    let (ns, dir) = (NetNs::new()?, TempDir::new("doctor")?);
    let config = plain("\"127.0.0.1:1\"", "[guard]\ninterfaces = [\"lo\"]\nstate = \"prefixes\"")?;
    let config = dir.write("hookgate.toml", config)?;
    let guard = |command: &mut Command, action: &str| -> Result<String> {
        let output =
            command.arg(harness::binary()?).args(["guard", action, "--config"]).arg(&config).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let cgroup = Cgroup::new(&ns)?;
    let mut container = ns.command("sh");
    container.args(["-c", CONTAINER, &cgroup.1]);
    let attached = guard(&mut container, "attach")?;
    assert!(!attached.contains("handshakes are not counted"), "{attached}");
    assert!(!guard(&mut ns.command("env"), "status")?.contains("not counted"));

    cgroup.remove()?;
    // The kernel lets go of the link some time later.
    let uncounted = "handshakes are not counted: the control group that the guard was attached in is gone";
    let told = || Ok(guard(&mut ns.command("env"), "status")?.contains(uncounted));
    wait_until("the guard is in force", Duration::from_secs(10), told)
        .with_context(|| format!("{:?}", guard(&mut ns.command("env"), "status")))?;
    let found = Examination::at(&ns, &config)?;
    assert_eq!(found.level("traffic", uncounted)?, "warn");

    guard(&mut ns.command("env"), "attach")?;
    assert!(!guard(&mut ns.command("env"), "status")?.contains("not counted"));
    Ok(())
}

#[test]
fn a_refresh_that_can_not_be_used_is_a_warning() -> Result<()> {
    let dir = TempDir::new("doctor")?;
    let state = dir.write("prefixes", "nonsense")?;
    let config = plain("\"127.0.0.1:1\"", "[guard]\ninterfaces = [\"lo\"]\nstate = \"prefixes\"")?;
    let found = Examination::of(&NetNs::here(), &dir, &config)?;
    assert_eq!(found.level("prefixes", &state.display().to_string())?, "warn");
    let config = plain("\"127.0.0.1:1\"", "[guard]\ninterfaces = [\"lo\"]\nprefixes = \"/nowhere/list\"")?;
    let found = Examination::of(&NetNs::here(), &dir, &config)?;
    assert_eq!(found.level("prefixes", "/nowhere/list: No such file")?, "fail");
    Ok(())
}

#[test]
fn a_pipe_in_place_of_a_file_delays_no_command() -> Result<()> {
    let dir = TempDir::new("doctor")?;
    let pipe = dir.path().join("pipe");
    let mut make = Command::new("mkfifo");
    make.arg(&pipe);
    run(make)?;
    for key in ["prefixes", "state"] {
        let config = dir.write(
            "hookgate.toml",
            plain("\"127.0.0.1\"", &format!("[guard]\ninterfaces = [\"lo\"]\n{key} = {pipe:?}"))?,
        )?;
        for command in ["check", "doctor"] {
            let mut bounded = Command::new("timeout");
            let output = bounded.arg("20").arg(harness::binary()?).args([command, "--config"]).arg(&config);
            let output = output.output()?;
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            ensure!(
                said.contains("pipe: not a regular file"),
                "{command}, {key}: {:?} {said}",
                output.status
            );
        }
    }
    Ok(())
}
