//! How problems are reported, by which user, and what is no problem.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Need, Proxy, TempDir, free_port, require};
use serde_json::{Value, json};

use super::{check, files};

fn write(dir: &TempDir, text: &str) -> Result<()> {
    dir.write("hookgate.toml", text).map(drop)
}

#[test]
fn as_json_for_programs() -> Result<()> {
    let dir = TempDir::new("check")?;
    files::write(&dir)?;
    let port = free_port()?;
    let fine = format!(
        "[listen]\nhttps = [\"127.0.0.1:{port}\"]\n[tls]\ncert = \"good.pem\"\nkey = \"good.key\"\n\
         [upstreams]\n\"a.example\" = {{}}\n"
    );
    for (text, code, expected) in [
        (fine.clone(), 0, json!({ "version": 1, "ok": true, "starts": true, "problems": [] })),
        (
            fine.replace("good.", "nameless."),
            0,
            json!({ "version": 1, "ok": true, "starts": true, "problems": [{
                "severity": "warning", "file": "hookgate.toml", "line": 4, "column": 8, "key": "tls.cert",
                "message": "the certificate names no host: use one for the name in the callback URL",
            }] }),
        ),
        (
            fine.replace("good.", "expired.").replace("[upstreams]", "[relay]\nnaem = \"a\"\n[upstreams]"),
            1,
            json!({ "version": 1, "ok": false, "starts": false, "problems": [
                {
                    "severity": "error", "file": "hookgate.toml", "line": 4, "column": 8, "key": "tls.cert",
                    "message": "the certificate expired on 2020-12-31T00:00:00Z: renew it; Meta delivers nothing",
                },
                {
                    "severity": "error", "file": "hookgate.toml", "line": 7, "column": 1,
                    "message": "unknown key `relay.naem`; did you mean `relay.name`?",
                },
            ] }),
        ),
    ] {
        write(&dir, &text)?;
        let output = check(dir.path(), &["--json"])?;
        let document: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!((output.status.code(), &document), (Some(code), &expected), "{text}");
        assert_eq!(String::from_utf8(output.stderr)?, "");
    }
    fs::remove_file(dir.path().join("hookgate.toml"))?;
    let output = check(dir.path(), &["--json"])?;
    let document: Value = serde_json::from_slice(&output.stdout)?;
    let problem = document["problems"][0].as_object().context("no problem")?;
    assert_eq!(problem.keys().collect::<Vec<_>>(), ["file", "message", "severity"], "{document:#}");
    assert_eq!(check(dir.path(), &["--jsn"])?.status.code(), Some(2));
    Ok(())
}

#[test]
fn a_start_says_the_same() -> Result<()> {
    let dir = TempDir::new("check")?;
    files::write(&dir)?;
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let broken = format!(
        "[listen]\nhttps = [\"{}\"]\n[tls]\ncert = \"nameless.pem\"\nkey = \"other.key\"\n\
         [process]\nuser = \"no-such-user\"\n[upstreams]\n\"a.example\" = {{ verify = false }}\n",
        holder.local_addr()?
    );
    write(&dir, &broken)?;
    let checked = String::from_utf8(check(dir.path(), &[])?.stderr)?;
    assert_eq!(checked.lines().count(), 4, "{checked}");
    let mut run = Command::new(harness::binary()?);
    let run = run.args(["run", "--config", "hookgate.toml"]).current_dir(dir.path()).output()?;
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(String::from_utf8(run.stderr)?, format!("hookgate: {checked}"));

    // What is no reason not to start is logged.
    let [cert, key] = ["expired.pem", "expired.key"].map(|name| dir.path().join(name));
    let mut proxy = Proxy::start(&format!(
        "[listen]\nhttps = [\"127.0.0.1:{}\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n",
        free_port()?
    ))?;
    for (place, text) in [
        (":4:8: tls.cert: ", "the certificate expired on 2020-12-31T00:00:00Z"),
        (": warning: upstreams: ", "empty: every request will be answered 403"),
    ] {
        let line = format!("{}{place}{text}", proxy.config().display());
        proxy.wait_for_stderr(&line, Duration::from_secs(5))?;
    }
    Ok(())
}

/// As a user who may do nothing, with `text` for a configuration in `dir`: exit code and lines.
fn check_as_another_user(dir: &TempDir, text: &str) -> Result<(Option<i32>, Vec<String>)> {
    let config = dir.write("hookgate.toml", text)?;
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
    let binary = dir.path().join("hookgate");
    fs::copy(harness::binary()?, &binary)?;
    // Any hookgate of root's that this user saw might hold the ports: other tests have some.
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--", "setpriv"]);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]);
    let output = command.arg(binary).args(["check", "--config"]).arg(config).output()?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?.lines().map(str::to_owned).collect()))
}

/// Only root can see who has a port, or take a low one.
#[test]
fn what_a_user_may_not_see_is_no_error() -> Result<()> {
    if !require(&[Need::Root, Need::Program("setpriv")]) {
        return Ok(());
    }
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?;
    let text =
        format!("[listen]\nplain = [\"{taken}\", \"127.0.0.1:1\"]\n[upstreams]\n\"a.example\" = {{}}\n");
    let (code, said) = check_as_another_user(&TempDir::new("check")?, &text)?;
    for (line, text) in said.iter().zip([
        "is held by a process that this user may not see: run this as root to see by whom",
        "127.0.0.1:1 may not be taken by this user: ports below 1024 need root",
    ]) {
        ensure!(line.contains(" warning: ") && line.contains(text), "{text}: {line}");
    }
    assert_eq!((code, said.len()), (Some(0), 2), "{said:?}");
    Ok(())
}

#[test]
fn what_a_user_may_not_read_or_write_is_told() -> Result<()> {
    if !require(&[Need::Root, Need::Program("setpriv")]) {
        return Ok(());
    }
    let dir = TempDir::new("check")?;
    files::write(&dir)?;
    let key = dir.path().join("good.key");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600))?;
    let text = format!(
        "[listen]\nhttps = [\"127.0.0.1:{}\"]\n[tls]\ncert = \"good.pem\"\nkey = \"good.key\"\n[acme]\n\
         domains = [\"p.example\"]\nchallenge = \"tls-alpn-01\"\nstate = \"state\"\n[admin]\n\
         socket = \"run/admin.sock\"\n[upstreams]\n\"a.example\" = {{}}\n",
        free_port()?
    );
    let (code, said) = check_as_another_user(&dir, &text)?;
    let folder = dir.path().display();
    for (line, text) in said.iter().zip([
        format!(":5:7: tls.key: cannot read {}: Permission denied", key.display()),
        format!(":9:9: acme.state: cannot write in {folder}: Permission denied"),
        format!(":11:10: admin.socket: cannot write in {folder}: Permission denied"),
    ]) {
        ensure!(line.contains(&text) && line.contains(": let the user that "), "{text}: {line}");
    }
    assert_eq!((code, said.len()), (Some(1), 3), "{said:?}");
    Ok(())
}

#[test]
fn fifty_thousand_upstreams_with_a_fault_each_are_told_at_once() -> Result<()> {
    const UPSTREAMS: usize = 50_000;
    let dir = TempDir::new("check")?;
    let mut text = format!("[listen]\nplain = [\"127.0.0.1:{}\"]\n[upstreams]\n", free_port()?);
    // Not as they are compared: each has to be found where it is written all the same.
    for number in 0..UPSTREAMS {
        text += &format!("\"Host{number}.Example\" = {{ ca = \"nowhere.pem\" }}\n");
    }
    write(&dir, &text)?;
    let begin = Instant::now();
    let said = String::from_utf8(check(dir.path(), &[])?.stderr)?;
    let took = begin.elapsed();
    assert_eq!(said.lines().count(), UPSTREAMS);
    let last = said.lines().last().context("nothing")?;
    let line = UPSTREAMS + 3;
    assert!(
        last.starts_with(&format!("hookgate.toml:{line}:30: upstreams.\"host49999.example\".ca: ")),
        "{last}"
    );
    assert!(took < Duration::from_secs(15), "{took:?}: with the square of their number it takes minutes");
    Ok(())
}
