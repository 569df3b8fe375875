//! The product at work on this machine, with a receiver to deliver to; or, with arguments, the product itself.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Certs, Receiver};
use harness_core::{Cleanup, Running, TempDir, Workspace, is_root, quoted, quoted_path};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::bpffs;
use crate::build::{self, Built, Profile};

/// Runs hookgate here, in front of a receiver of its own; prints a command to try it with
#[derive(clap::Args)]
pub struct Args {
    /// Without optimisation
    #[arg(long)]
    dev: bool,
    /// As it is shipped: a few per cent faster, and built in twice the time
    #[arg(long, conflicts_with = "dev")]
    release: bool,
    /// Where the demo listens
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Arguments for `hookgate run`: the real thing instead of the demo, for instance `-- --config FILE`
    #[arg(last = true)]
    hookgate: Vec<String>,
}

const UPSTREAM: &str = "receiver.example";
const PAYLOAD: &str = r#"{"object":"whatsapp_business_account","entry":[{"id":"108271902233441","changes":[{"field":"messages","value":{"messaging_product":"whatsapp","messages":[{"from":"5511955550101","type":"text","text":{"body":"It works"}}]}}]}]}"#;

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let profile = match (args.dev, args.release) {
        (true, _) => Profile::Dev,
        (_, true) => Profile::Release,
        _ => Profile::Local,
    };
    if !args.hookgate.is_empty() {
        let binary = build::both(workspace, profile)?.binary;
        let error = Command::new(&binary).arg("run").args(&args.hookgate).exec();
        return Err(error).with_context(|| format!("starting {}", binary.display()));
    }
    ensure_free(args.listen)?;
    let built = build::both(workspace, profile)?;
    demonstrate(&built, args.listen)
}

fn demonstrate(built: &Built, listen: SocketAddr) -> Result<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).context("listening for signals")?;
    let dir = TempDir::new("run")?;
    let mut cleanup = Cleanup::new()?;
    cleanup.add(&format!("rm -rf {}", quoted_path(dir.path())))?;
    let guard = match guard(built, &mut cleanup) {
        Ok(pin) => Some(pin),
        Err(e) => {
            eprintln!("xtask: without the guard: {e:#}");
            None
        }
    };

    let theirs = Certs::new(&[UPSTREAM])?;
    let [upstream_ca, ..] = theirs.write(&dir, "receiver")?;
    let receiver = Receiver::start(&theirs)?;
    let [ca, cert, key] = own_certs(listen)?.write(&dir, "hookgate")?;
    let (page, socket) = (page_address()?, dir.path().join("admin.sock"));
    let mut config = format!(
        "[listen]\nhttps = [\"{listen}\"]\n\n[tls]\ncert = {cert:?}\nkey = {key:?}\n\n\
         [upstreams]\n{UPSTREAM:?} = {{ address = \"{}\", ca = {upstream_ca:?} }}\n\n\
         [admin]\nlisten = \"{page}\"\nsocket = {socket:?}\n",
        receiver.address()
    );
    if let Some(pin) = &guard {
        config += &format!(
            "\n[guard]\ninterfaces = [\"lo\"]\nports = [{}]\nrefresh = \"off\"\npin = {pin:?}\n",
            listen.port()
        );
    }
    let config = dir.write("hookgate.toml", config)?;
    let hookgate =
        |command: &str| format!("{} {command} --config {}", quoted_path(&built.binary), quoted_path(&config));
    if guard.is_some() {
        cleanup.add(&hookgate("guard detach"))?;
    }

    let mut command = Command::new(&built.binary);
    command.args(["run", "--config"]).arg(&config);
    let mut proxy = Running::start_aloud(command)?;
    let up = harness_core::wait_until(Duration::from_secs(10), || {
        proxy.still_running()?;
        Ok(harness::listens(proxy.pid(), &[listen, page]))
    })?;
    ensure!(up, "hookgate does not listen on {listen} and {page} after 10 s");

    let lines = format!(
        "try: {}\npage: http://{page}/\nstats: {}\ndeliveries: {}\n",
        curl(&ca, listen),
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
    eprintln!("xtask: stopping");
    let status = proxy.stop()?;
    ensure!(status.success(), "hookgate ended with {status}");
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that the guard has what it needs, and returns its pin folder: a fresh one, so that a hookgate that is
/// installed on this machine is not touched.
fn guard(built: &Built, cleanup: &mut Cleanup) -> Result<String> {
    if !is_root() {
        bail!("attaching an XDP program needs root (sudo cargo xtask run)");
    }
    if let Some(why) = &built.guard_missing {
        bail!("{why}");
    }
    let bpf = bpffs::PATH;
    if !bpffs::is_mounted()? {
        bpffs::mount().with_context(|| format!("no BPF file system at {bpf}, and it can't be mounted"))?;
        eprintln!("xtask: mounted the BPF file system at {bpf} while this runs");
        // Unless somebody else has moved in meanwhile: maps.debug and progs.debug are the kernel's own.
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
    // With the authority's certificate, as the files of a public authority have it: `check` warns of less.
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
    Ok(SocketAddr::new(USUAL.ip(), harness_core::free_port()?))
}

/// Where a client on this machine finds a listener.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// A delivery as Meta would send it.
fn curl(ca: &Path, listen: SocketAddr) -> String {
    let host = SocketAddr::new(reachable(listen.ip()), listen.port());
    let url = format!("https://{host}/{UPSTREAM}/webhooks/whatsapp/%2B5511999999999");
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

fn ensure_free(listen: SocketAddr) -> Result<()> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = holder(listen.port()).unwrap_or_else(|| "another program".to_owned());
            let other = SocketAddr::new(listen.ip(), listen.port().wrapping_add(1000).max(1024));
            bail!("{listen} is taken by {holder}: stop it, or choose another with --listen {other}")
        }
        Err(e) => {
            Err(e).with_context(|| format!("can't listen on {listen}; choose another address with --listen"))
        }
    }
}

/// Who listens on a port, as far as ss may tell us: `nginx (process 12)`.
fn holder(port: u16) -> Option<String> {
    let mut ss = Command::new("ss");
    ss.args(["-Hltnp", &format!("sport = :{port}")]);
    let sockets = harness_core::run(ss).ok()?;
    let (_, user) = sockets.split_once("users:((\"")?;
    let (name, rest) = user.split_once('"')?;
    let pid = rest.strip_prefix(",pid=")?.split(',').next()?;
    Some(format!("{name} (process {pid})"))
}
