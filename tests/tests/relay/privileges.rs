//! What the process may do once it serves, and who may talk to its socket.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use harness::{Need, NetNs, Origin, Proxy, TempDir, binary, free_port, require, run, wait_until};
use rustix::process::Signal;

use crate::{OK, Relay, TIMEOUTS, get, local, upstream};

/// A field of `/proc/<pid>/status`, for each of the process's threads.
fn of_each_thread(pid: u32, field: &str) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        values.push(value.context("no such field")?.trim().to_owned());
    }
    Ok(values)
}

fn capabilities(pid: u32, set: &str) -> Result<Vec<u64>> {
    let sets = of_each_thread(pid, set)?;
    Ok(sets.iter().map(|set| u64::from_str_radix(set, 16)).collect::<Result<_, _>>()?)
}

#[test]
fn the_worker_of_root_is_another_user_without_capabilities() -> Result<()> {
    if !require(&[Need::Root]) {
        return Ok(());
    }
    let relay = Relay::before(&Origin::answering(OK)?)?;
    let pid = relay.proxy.worker()?;
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert!(capabilities(pid, set)?.iter().all(|&held| held == 0), "{set}");
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    for id in ["Uid", "Gid", "Groups"] {
        for ids in of_each_thread(pid, id)? {
            for id in ids.split_whitespace() {
                let owner = passwd.lines().find(|line| line.split(':').nth(2) == Some(id));
                let is_packaged = owner.is_some_and(|line| line.starts_with("hookgate-worker:"));
                assert!(id != "0" && (owner.is_none() || is_packaged), "shared with others: {owner:?}");
            }
        }
    }
    assert!(of_each_thread(pid, "NoNewPrivs")?.iter().all(|set| set == "1"));
    Ok(())
}

/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, KILL, SETGID, SETUID and NET_BIND_SERVICE of
/// linux/capability.h.
const KEPT: u64 = 0b100_1110_1111;

#[test]
fn the_parent_of_a_proxy_without_a_guard_keeps_no_capability_for_one() -> Result<()> {
    if !require(&[Need::Root]) {
        return Ok(());
    }
    let relay = Relay::before(&Origin::answering(OK)?)?;
    for set in ["CapEff", "CapPrm"] {
        for held in capabilities(relay.proxy.pid(), set)? {
            assert_eq!(held & !KEPT, 0, "{set}: {held:#x}");
        }
    }
    assert!(of_each_thread(relay.proxy.pid(), "NoNewPrivs")?.iter().all(|set| set == "1"));
    assert!(relay.proxy.stderr().contains("listening"), "and it serves: {}", relay.proxy.stderr());
    Ok(())
}

/// Cores and debuggers get neither keys nor messages, also of a proxy whose processes have one
/// user.
#[test]
fn memory_is_hidden_from_other_processes() -> Result<()> {
    if !require(&[Need::Root, Need::Program("setpriv")]) {
        return Ok(());
    }
    let dir = TempDir::new("memory")?;
    let copy = dir.path().join("hookgate");
    fs::copy(binary()?, &copy)?;
    let script = format!(
        "#!/bin/sh\ncp \"$3\" {0}/hookgate.toml && chmod -R go+rX {0} && \
         exec setpriv --reuid 65533 --regid 65533 --clear-groups {0}/hookgate run --config {0}/hookgate.toml\n",
        dir.path().display()
    );
    let start = dir.write("start", script)?;
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
    let (origin, address) = (Origin::answering(OK)?, local(free_port()?));
    let config = format!("[listen]\nplain = [\"{address}\"]\n{TIMEOUTS}{}", upstream(origin.address(), ""));
    let proxy = Proxy::start_binary(&NetNs::here(), &start, &config)?;
    assert_eq!(harness::Client::plain(address)?.ask(get("/up.example/"))?.status(), 200);
    let worker = proxy.worker()?;
    for pid in [proxy.pid(), worker] {
        assert!(of_each_thread(pid, "Uid")?.iter().all(|ids| ids.starts_with("65533")), "{pid}");
        // What a process shows is root's where its memory is private (proc_pid(5)).
        assert_eq!(fs::metadata(format!("/proc/{pid}/maps"))?.uid(), 0, "{pid}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.context("no limit of core files")?.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{pid}: {words:?}");
    }
    // Besides, what buffers hold is left out of every core.
    let maps = fs::read_to_string(format!("/proc/{worker}/smaps"))?;
    // The kernel's own mappings, which have names, are left out anyway.
    let is_left_out = |(head, flags): &(&str, &str)| {
        head.split_whitespace().count() == 5 && flags.split_whitespace().any(|flag| flag == "dd")
    };
    assert!(mappings(&maps).iter().any(is_left_out), "{maps}");
    Ok(())
}

#[test]
fn the_configured_user_serves() -> Result<()> {
    if !require(&[Need::Root]) {
        return Ok(());
    }
    let dir = TempDir::new("user")?;
    // Others may pass through, so that the user reaches the socket's folder.
    let socket = dir.path().join("admin.sock");
    let origin = Origin::answering(OK)?;
    let address = local(free_port()?);
    let proxy = Proxy::start(&format!(
        "[listen]\nplain = [\"{address}\"]\n[admin]\nsocket = {socket:?}\n[process]\nuser = \"nobody\"\n{TIMEOUTS}{}",
        upstream(origin.address(), "")
    ))?;
    assert_eq!(harness::Client::plain(address)?.ask(get("/up.example/"))?.status(), 200);
    let users = fs::read_to_string("/etc/passwd")?;
    let user = users.lines().find(|line| line.starts_with("nobody:")).context("no nobody")?;
    let [uid, gid] = [2, 3].map(|field| user.split(':').nth(field).unwrap_or_default().to_owned());
    for (field, id) in [("Uid", &uid), ("Gid", &gid)] {
        let all_four = [id.as_str(); 4].join("\t");
        assert!(of_each_thread(proxy.worker()?, field)?.iter().all(|ids| *ids == all_four), "{field}");
    }
    assert!(
        of_each_thread(proxy.worker()?, "Groups")?.iter().all(|groups| *groups == gid),
        "root's are gone"
    );
    assert!(capabilities(proxy.worker()?, "CapEff")?.iter().all(|&held| held == 0));
    // The group nogroup is shared by daemons without one of their own.
    assert_eq!(owners(&socket)?, (0, 0));
    Ok(())
}

/// The first line and the flags of each mapping in a text of proc_pid_smaps(5).
fn mappings(smaps: &str) -> Vec<(&str, &str)> {
    let mut head = "";
    let mut mappings = Vec::new();
    for line in smaps.lines() {
        match line.strip_prefix("VmFlags:") {
            Some(flags) => mappings.push((head, flags)),
            // Fields have a colon at the end of their first word.
            None if line.split(' ').next().is_some_and(|word| !word.ends_with(':')) => head = line,
            None => {}
        }
    }
    mappings
}

fn owners(path: &Path) -> Result<(u32, u32)> {
    let found = fs::metadata(path)?;
    Ok((found.uid(), found.gid()))
}

#[test]
fn the_socket_is_for_root_and_those_who_are_to_have_it() -> Result<()> {
    if !require(&[Need::Root, Need::Program("ip"), Need::Program("nsenter")]) {
        return Ok(());
    }
    let dir = TempDir::new("socket")?;
    let socket = dir.path().join("admin.sock");
    let start = |ns: &NetNs, more: &str| {
        let address = local(free_port()?);
        Proxy::start_in(
            ns,
            &format!("[listen]\nplain = [\"{address}\"]\n[admin]\nsocket = {socket:?}\n{more}"),
        )
    };
    let ns = NetNs::new()?;
    let groups = fs::read_to_string("/etc/group")?;
    let without = groups.lines().filter(|line| !line.starts_with("hookgate-admin:"));
    let without = without.map(|line| format!("{line}\n")).collect::<String>();
    let file = dir.write("group", &without)?;
    ns.run(&format!("mount --bind {} /etc/group", file.display()))?;

    let proxy = start(&ns, "")?;
    assert_eq!(owners(&socket)?, (0, 0));
    drop(proxy);
    // Debian's user `daemon` has a group of its own.
    let proxy = start(&ns, "[process]\nuser = \"daemon\"\n")?;
    assert_eq!(owners(&socket)?, (0, 1));
    drop(proxy);
    dir.write("group", without + "hookgate-admin:x:61000:\n")?;
    for more in ["", "[process]\nuser = \"daemon\"\n"] {
        let _proxy = start(&ns, more)?;
        assert_eq!(owners(&socket)?, (0, 61_000));
        assert_eq!(fs::metadata(&socket)?.mode() & 0o777, 0o660);
    }
    Ok(())
}

/// Runs what follows on a kernel that seems to have no Landlock.
const WITHOUT_LANDLOCK: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
# If the call's number is that of landlock_create_ruleset(2), it is unknown (ENOSYS); all else is allowed.
program = b"".join(struct.pack("HBBI", *one) for one in [
    (0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7FFF0000)])
kept = ctypes.create_string_buffer(program)
filter = struct.pack("HxxxxxxP", 4, ctypes.addressof(kept))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_start_that_requires_confinement_refuses_a_kernel_without_it() -> Result<()> {
    if !require(&[Need::Program("python3")]) {
        return Ok(());
    }
    let dir = TempDir::new("confine")?;
    let script = dir.write("without.py", WITHOUT_LANDLOCK)?;
    let start = dir.write(
        "start",
        format!("#!/bin/sh\nexec python3 {} {} \"$@\"\n", script.display(), binary()?.display()),
    )?;
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
    let config = |confine: &str| {
        Ok::<_, anyhow::Error>(format!(
            "[listen]\nplain = [\"{}\"]\n[process]\nconfine = \"{confine}\"\n[upstreams]\n\"up.example\" = {{}}\n",
            local(free_port()?)
        ))
    };
    let gap = "Landlock does not keep the worker from files";
    let proxy = Proxy::start_binary(&NetNs::here(), &start, &config("auto")?)?;
    assert!(proxy.stderr().contains(gap), "{}", proxy.stderr());
    drop(proxy);

    let required = dir.write("hookgate.toml", config("required")?)?;
    for command in ["check", "run"] {
        let output = Command::new(&start).args([command, "--config"]).arg(&required).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("confine") && said.contains(gap), "{command}: {said}");
    }
    // Here, where it is there, both are fine.
    let output = Command::new(binary()?).args(["check", "--config"]).arg(&required).output()?;
    assert!(output.status.success(), "{output:?}");
    drop(Proxy::start(&config("required")?)?);
    Ok(())
}

#[test]
fn a_user_that_is_not_there_is_named() -> Result<()> {
    let dir = TempDir::new("user")?;
    let config = dir.write(
        "hookgate.toml",
        format!("[listen]\nplain = [\"{}\"]\n[process]\nuser = \"no-such-user\"\n", local(free_port()?)),
    )?;
    for command in ["check", "run"] {
        let output = Command::new(binary()?).args([command, "--config"]).arg(&config).output()?;
        assert_eq!(output.status.code(), Some(1), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no-such-user") && said.contains("no such user"), "{command}: {said}");
    }
    Ok(())
}

fn with_socket(socket: &Path) -> Result<Proxy> {
    Proxy::start(&format!("[listen]\nplain = [\"{}\"]\n[admin]\nsocket = {socket:?}\n", local(free_port()?)))
}

fn curl(socket: &Path, path: &str) -> Result<String> {
    let mut command = NetNs::here().command("curl");
    command.args(["-sS", "--fail", "--unix-socket"]).arg(socket).arg(format!("http://hookgate{path}"));
    run(command)
}

#[test]
fn the_socket_answers_and_goes_with_the_proxy() -> Result<()> {
    if !require(&[Need::Program("curl")]) {
        return Ok(());
    }
    let dir = TempDir::new("socket")?;
    let socket = dir.path().join("run/admin.sock");
    let mut proxy = with_socket(&socket)?;
    wait_until("the socket is there", std::time::Duration::from_secs(5), || Ok(socket.exists()))?;
    assert_eq!(fs::metadata(&socket)?.mode() & 0o777, 0o660);
    assert_eq!(curl(&socket, "/health")?, "serving\n");
    assert!(curl(&socket, "/metrics")?.contains("hookgate_build_info"));

    let Err(refused) = with_socket(&socket) else { panic!("two at one socket") };
    assert!(format!("{refused:#}").contains("another hookgate"), "{refused:#}");
    assert_eq!(curl(&socket, "/health")?, "serving\n", "the first one is not disturbed");
    proxy.stop()?;
    assert!(!socket.exists());
    Ok(())
}

#[test]
fn what_a_killed_proxy_left_gives_way_and_other_files_do_not() -> Result<()> {
    if !require(&[Need::Program("curl")]) {
        return Ok(());
    }
    let dir = TempDir::new("socket")?;
    let socket = dir.path().join("admin.sock");
    let mut killed = with_socket(&socket)?;
    killed.signal(Signal::KILL)?;
    wait_until("the proxy ends", std::time::Duration::from_secs(5), || Ok(killed.ended()?.is_some()))?;
    assert!(fs::metadata(&socket)?.file_type().is_socket(), "nobody could remove it");
    let _next = with_socket(&socket)?;
    assert_eq!(curl(&socket, "/health")?, "serving\n");

    let precious = dir.write("precious", "mine")?;
    let Err(refused) = with_socket(&precious) else { panic!("a socket in place of a file") };
    assert!(format!("{refused:#}").contains("no socket"), "{refused:#}");
    assert_eq!(fs::read_to_string(&precious)?, "mine");
    Ok(())
}
