//! hookgate on this machine, with a receiver to deliver to.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{APP_SECRET, Certs, Reading, Receiver, VERIFY_TOKEN};
use harness_core::{Cleanup, Running, TempDir, free_port, is_root, quoted, quoted_path, wait_until};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::bpffs;

/// hookgate here, in front of a receiver of its own; prints a command to try it with
#[derive(clap::Args)]
pub struct Args {
    /// The binary
    #[arg(long)]
    hookgate: PathBuf,
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// Why the binary has no guard inside
    #[arg(long, value_name = "WHY")]
    guard_missing: Option<String>,
}

const UPSTREAM: &str = "receiver.example";
const PAYLOAD: &str = r#"{"object":"whatsapp_business_account","entry":[{"id":"108271902233441","changes":[{"field":"messages","value":{"messaging_product":"whatsapp","messages":[{"from":"5511955550101","type":"text","text":{"body":"It works"}}]}}]}]}"#;

pub fn main(args: &Args) -> Result<ExitCode> {
    let listen = args.listen;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).context("listening for signals")?;
    let dir = TempDir::new("run")?;
    let mut cleanup = Cleanup::new()?;
    cleanup.add(&format!("rm -rf {}", quoted_path(dir.path())))?;
    let guard = match guard(args, &mut cleanup) {
        Ok(pin) => Some(pin),
        Err(e) => {
            eprintln!("demo: without the guard: {e:#}");
            None
        }
    };

    let theirs = Certs::new(&[UPSTREAM])?;
    let [upstream_ca, ..] = theirs.write(&dir, "receiver")?;
    let receiver = Receiver::start_with(&theirs, Reading::All, |line| eprintln!("receiver: {line}"))?;
    let [ca, cert, key] = own_certs(listen)?.write(&dir, "hookgate")?;
    let (page, socket) = (page_address()?, dir.path().join("admin.sock"));
    let mut config = format!(
        "[listen]\nhttps = [\"{listen}\"]\n\n[tls]\ncert = {cert:?}\nkey = {key:?}\n\n\
         [upstreams]\n{UPSTREAM:?} = {{ address = \"{}\", ca = {upstream_ca:?} }}\n\n\
         [admin]\nlisten = \"{page}\"\nsocket = {socket:?}\n[insight]\nstate = \"insight\"\n",
        receiver.address()
    );
    if let Some(pin) = &guard {
        config += &format!(
            "\n[guard]\ninterfaces = [\"lo\"]\nports = [{}]\nrefresh = \"off\"\npin = {pin:?}\n",
            listen.port()
        );
    }
    let config = dir.write("hookgate.toml", config)?;
    let hookgate = |command: &str| {
        format!("{} {command} --config {}", quoted_path(&args.hookgate), quoted_path(&config))
    };
    if guard.is_some() {
        cleanup.add(&hookgate("guard detach"))?;
    }

    let mut command = Command::new(&args.hookgate);
    command.args(["run", "--config"]).arg(&config);
    let mut proxy = Running::start_aloud(command)?;
    let condition = format!("hookgate listens on {listen} and {page}");
    wait_until(condition, Duration::from_secs(10), || {
        proxy.still_running()?;
        Ok(harness::listens(proxy.pid(), &[listen, page]))
    })?;

    let lines = format!(
        "try: {}\nsend: {}\npage: http://{page}/\nstats: {}\ndeliveries: {}\n",
        curl(&ca, listen),
        send(&args.hookgate, &ca, listen),
        hookgate("stats"),
        hookgate("deliveries")
    );
    let mut stdout = std::io::stdout();
    stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush())?;
    for signal in signals.forever() {
        if signal == SIGCHLD {
            proxy.still_running()?;
        } else {
            break;
        }
    }
    eprintln!("demo: stopping");
    let status = proxy.stop()?;
    ensure!(status.success(), "hookgate ended with {status}");
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that the guard has what it needs, and returns its pin folder: a fresh one, so that a
/// hookgate that is installed on this machine is not touched.
fn guard(args: &Args, cleanup: &mut Cleanup) -> Result<String> {
    if !is_root() {
        bail!("attaching an XDP program needs root (sudo cargo xtask run)");
    }
    if let Some(why) = &args.guard_missing {
        bail!("{why}");
    }
    let bpf = bpffs::PATH;
    if !bpffs::is_mounted()? {
        bpffs::mount().with_context(|| format!("no BPF file system at {bpf}, and it can't be mounted"))?;
        eprintln!("demo: mounted the BPF file system at {bpf} while this runs");
        // Unless another program has pinned something meanwhile: maps.debug and progs.debug are the
        // kernel's own.
        cleanup.add(&format!("ls -A {bpf} | grep -qv '[.]debug$' || umount {bpf}"))?;
    }
    Ok(format!("hookgate-run-{}", std::process::id()))
}

fn own_certs(listen: SocketAddr) -> Result<Certs> {
    let address = reachable(listen.ip()).to_string();
    let mut names = vec!["localhost", "127.0.0.1", "::1"];
    if !names.contains(&address.as_str()) {
        names.push(&address);
    }
    // With the authority's certificate, as the files of a public authority have it: `check` warns
    // of less.
    let mut certs = Certs::new(&names)?;
    certs.cert += &certs.ca;
    Ok(certs)
}

/// Where the status page is: the port of the documentation, or any that is free.
fn page_address() -> Result<SocketAddr> {
    const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9432);
    if TcpListener::bind(USUAL).is_ok() {
        return Ok(USUAL);
    }
    Ok(SocketAddr::new(USUAL.ip(), free_port()?))
}

/// Where a client on this machine finds a listener.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn callback_url(listen: SocketAddr) -> String {
    let host = SocketAddr::new(reachable(listen.ip()), listen.port());
    format!("https://{host}/{UPSTREAM}/webhooks/whatsapp/%2B5511999999999")
}

/// Updates as they come under load: several in one delivery.
fn send(hookgate: &Path, ca: &Path, listen: SocketAddr) -> String {
    let words = ["--secret", APP_SECRET, "--verify-token", VERIFY_TOKEN, "--batch", "10"];
    let words = words.map(quoted).join(" ");
    let url = quoted(&callback_url(listen));
    format!("{} send {url} --ca {} {words}", quoted_path(hookgate), quoted_path(ca))
}

/// A delivery as Meta would send it.
fn curl(ca: &Path, listen: SocketAddr) -> String {
    let url = callback_url(listen);
    let signature = format!("X-Hub-Signature-256: {}", harness::signature(PAYLOAD.as_bytes()));
    let ca = ca.to_string_lossy();
    let words = [
        "curl",
        "-sS",
        "-i",
        "--globoff",
        "--noproxy",
        "*",
        "--cacert",
        &ca,
        "-H",
        "User-Agent: facebookexternalua",
    ];
    let more = ["-H", "Content-Type: application/json", "-H", &signature, "--data-binary", PAYLOAD, &url];
    words.iter().chain(&more).map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}
