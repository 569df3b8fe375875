//! `hookgate check` beside a running hookgate: what that one holds is no fault of a candidate.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Need, NetNs, Proxy, Running, TempDir, free_port, require, wait_until};

use super::check;

fn write(dir: &TempDir, text: &str) -> Result<()> {
    dir.write("hookgate.toml", text).map(drop)
}

/// A running hookgate shows its descriptors to root alone.
#[test]
fn a_user_without_privileges_can_check_beside_an_own_hookgate() -> Result<()> {
    if !require(&[Need::Root, Need::Program("setpriv")]) {
        return Ok(());
    }
    let dir = TempDir::new("check")?;
    let port = free_port()?;
    write(&dir, &format!("[listen]\nplain = [\"127.0.0.1:{port}\"]\n[upstreams]\n\"a.example\" = {{}}\n"))?;
    let program = dir.path().join("hookgate");
    fs::copy(harness::binary()?, &program)?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let as_user = |command: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid", "65533", "--regid", "65533", "--clear-groups"]).arg(&program);
        setpriv.args([command, "--config"]).arg(dir.path().join("hookgate.toml"));
        setpriv
    };
    let mut running = Running::start(as_user("run"))?;
    running.wait_for_stderr("listening on", Duration::from_secs(10))?;
    let beside = as_user("check").output()?;
    assert_eq!((beside.status.code(), &*beside.stderr), (Some(0), &b""[..]), "{beside:?}");
    let second = as_user("run").output()?;
    let said = String::from_utf8(second.stderr)?;
    ensure!(
        said.contains(&format!("127.0.0.1:{port} is held by hookgate (pid {})", running.pid())),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_hookgate_that_runs_is_not_in_its_own_way() -> Result<()> {
    let dir = TempDir::new("check")?;
    let (port, admin, socket) = (free_port()?, free_port()?, dir.path().join("admin.sock"));
    let text = format!(
        "[listen]\nplain = [\"127.0.0.1:{port}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         socket = {socket:?}\n[upstreams]\n\"a.example\" = {{}}\n"
    );
    let proxy = Proxy::start(&text)?;
    let folder = proxy.config().parent().context("no folder")?;
    let own = check(folder, &[])?;
    assert_eq!((own.status.code(), &*own.stderr), (Some(0), &b""[..]), "{own:?}");

    // A candidate in another file is fine as well.
    write(&dir, &text)?;
    let candidate = check(dir.path(), &[])?;
    assert_eq!((candidate.status.code(), &*candidate.stderr), (Some(0), &b""[..]), "{candidate:?}");
    // A start with it is refused.
    let mut run = Command::new(harness::binary()?);
    let other = run.args(["run", "--config", "hookgate.toml"]).current_dir(dir.path()).output()?;
    let said = String::from_utf8(other.stderr)?;
    for held in [format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin}"), socket.display().to_string()] {
        ensure!(said.contains(&format!("{held} is held by hookgate (pid ")), "{held}: {said}");
    }
    assert_eq!((other.status.code(), said.lines().count()), (Some(1), 3), "{said}");
    Ok(())
}

/// A candidate for the hookgate of `text`, with another port.
fn check_beside(dir: &TempDir, text: &str, port: u16) -> Result<Output> {
    let more = format!("[listen]\nplain = [\"127.0.0.1:{port}\", ");
    write(dir, &text.replace("[listen]\nplain = [", &more))?;
    check(dir.path(), &[])
}

/// The binary is deleted, and the process that opened the sockets has ended.
#[test]
fn a_hookgate_that_was_upgraded_is_known_again() -> Result<()> {
    let (dir, folder) = (TempDir::new("check")?, TempDir::new("installed")?);
    let (port, admin, socket) = (free_port()?, free_port()?, dir.path().join("admin.sock"));
    let text = format!(
        "[listen]\nplain = [\"127.0.0.1:{port}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         socket = {socket:?}\n[upstreams]\n\"a.example\" = {{}}\n"
    );
    let binary = folder.path().join("hookgate");
    let install = || -> Result<()> {
        let new = folder.path().join("hookgate.new");
        fs::copy(harness::binary()?, &new)?;
        Ok(fs::rename(new, &binary)?)
    };
    install()?;
    let mut proxy = Proxy::start_binary(&NetNs::here(), &binary, &text)?;
    install()?;
    let fine = check_beside(&dir, &text, free_port()?)?;
    assert_eq!((fine.status.code(), &*fine.stderr), (Some(0), &b""[..]), "before: {fine:?}");
    proxy.upgrade()?;
    wait_until("the first process ends", Duration::from_secs(10), || Ok(proxy.ended()?.is_some()))?;
    fs::remove_file(&binary)?;
    let fine = check_beside(&dir, &text, free_port()?)?;
    assert_eq!((fine.status.code(), &*fine.stderr), (Some(0), &b""[..]), "after: {fine:?}");

    // What another program holds is still a fault.
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?;
    let other = check_beside(&dir, &text, taken.port())?;
    let said = String::from_utf8(other.stderr)?;
    ensure!(said.contains(&format!("{taken} is held by ")) && said.lines().count() == 1, "{said}");
    assert_eq!(other.status.code(), Some(1));
    Ok(())
}

#[test]
fn a_program_that_only_looks_like_hookgate_is_in_the_way() -> Result<()> {
    if !require(&[Need::Program("python3")]) {
        return Ok(());
    }
    const SERVER: &str = "#!/usr/bin/env python3\nimport socket, sys, time\n\
        s = socket.socket(); s.bind((\"127.0.0.1\", int(sys.argv[2]))); s.listen()\n\
        open(\"/proc/self/comm\", \"w\").write(\"hookgate\")\n\
        print(\"ready\", file=sys.stderr, flush=True)\ntime.sleep(60)\n";
    let (dir, port) = (TempDir::new("check")?, free_port()?);
    let script = dir.write("hookgate", SERVER)?;
    let mut command = Command::new("python3");
    command.arg(script).args(["run", &port.to_string()]);
    let mut running = Running::start(command)?;
    running.wait_for_stderr("ready", Duration::from_secs(10))?;
    write(&dir, &format!("[listen]\nplain = [\"127.0.0.1:{port}\"]\n[upstreams]\n\"a.example\" = {{}}\n"))?;
    let output = check(dir.path(), &[])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(said.contains(&format!("127.0.0.1:{port} is held by hookgate (pid ")), "{said}");
    assert_eq!(output.status.code(), Some(1));
    Ok(())
}

#[test]
fn an_interface_that_a_hookgate_guards_is_no_fault_while_that_runs() -> Result<()> {
    if !require(&[Need::Root, Need::Guard, Need::Program("ethtool")]) {
        return Ok(());
    }
    let (edge, net, dir) = (NetNs::new()?, NetNs::new()?, TempDir::new("check")?);
    NetNs::link((&edge, "wan0"), (&net, "wan0"))?;
    let config = |port: u16, pin: &str| {
        format!(
            "[listen]\nplain = [\"127.0.0.1:{port}\"]\n[guard]\ninterfaces = [\"wan0\"]\npin = \"{pin}\"\n\
             state = {:?}\nrefresh = \"off\"\n[upstreams]\n\"a.example\" = {{}}\n",
            dir.path().join("prefixes")
        )
    };
    let candidate = |port, pin: &str| -> Result<(Option<i32>, String)> {
        let file = dir.write("hookgate.toml", config(port, pin))?;
        let mut command = Command::new(harness::binary()?);
        command.args(["check", "--config"]).arg(file);
        let output = edge.enter(&command).output()?;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    let mut proxy = Proxy::start_in(&edge, &config(8080, "running"))?;
    proxy.wait_for_stderr("guard: ", Duration::from_secs(10))?;
    assert_eq!(candidate(8080, "running")?, (Some(0), String::new()));
    // A new `pin` takes a restart; the warning tells what to do.
    let (code, said) = candidate(8080, "next")?;
    ensure!(
        code == Some(0) && said.contains("warning: guard.interfaces: wan0 runs the guard of another"),
        "{said}"
    );
    // Without a running hookgate the pinned guard is a fault.
    proxy.stop()?;
    let (code, said) = candidate(8080, "next")?;
    ensure!(code == Some(1) && said.contains("wan0 already runs the guard of another hookgate"), "{said}");
    Ok(())
}
