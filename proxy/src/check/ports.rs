//! The addresses to listen on: free, ours already, or whose.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::Diagnostic;
use super::holder::{Holder, holders, socket_holders};
use crate::config::{Config, Key, Severity};
use crate::server;

/// A hookgate that was killed lets go of its listeners a moment after it is gone for those who
/// waited for its end.
const LETTING_GO: Duration = Duration::from_secs(2);

/// Returns once what this configuration listens on is free, or after [`LETTING_GO`].
#[expect(clippy::disallowed_methods, reason = "before a start there is nothing but this thread")]
pub(super) fn wait_until_free(config: &Config) {
    const PAUSE: Duration = Duration::from_millis(10);
    let socket = config.admin_socket();
    let addresses = addresses(config);
    let is_held = || {
        let in_use = |error: io::Error| error.kind() == ErrorKind::AddrInUse;
        addresses.iter().any(|(_, address)| server::can_bind(*address).is_err_and(in_use))
            || socket.is_some_and(|path| UnixStream::connect(path).is_ok())
    };
    let deadline = Instant::now() + LETTING_GO;
    while is_held() && Instant::now() < deadline {
        thread::sleep(PAUSE);
    }
}

/// `is_accepted`: which processes may hold what this configuration names.
pub(super) fn faults(config: &Config, is_accepted: impl Fn(&Holder) -> bool) -> Vec<Diagnostic> {
    let addresses = addresses(config).into_iter();
    let socket = config.admin_socket().and_then(|path| socket_fault(path, &is_accepted));
    addresses.filter_map(|(key, address)| port(key, address, &is_accepted).err()).chain(socket).collect()
}

/// Of the first address at which this configuration's hookgate listens already: nothing that is
/// wrong, unless one is to start. `file`: the configuration's, by which that is known.
pub(super) fn already_running(config: &Config, file: &Path) -> Option<Diagnostic> {
    addresses(config).into_iter().find_map(|(key, address)| {
        let ours = port(key.clone(), address, |holder| holder.runs(file)).ok();
        let ours = ours.filter(|ours| !ours.is_empty())?;
        let names = ours.iter().map(Holder::to_string).collect::<Vec<_>>().join(", ");
        let text = format!("{address} is held by {names}, which runs with this configuration already");
        let next = "`hookgate reload` has it read the files again, `hookgate run --takeover` takes its place";
        Some(Diagnostic::new(Severity::Fatal, key, text, next))
    })
}

/// All of TCP that the proxy listens on, and where it is written; without what it leaves out on a
/// machine without IPv6.
pub fn addresses(config: &Config) -> Vec<(Key, SocketAddr)> {
    let listen = &config.listen;
    let admin = config.admin_listen();
    let lists =
        [("listen.https", &listen.https), ("listen.http", &listen.http), ("listen.plain", &listen.plain)];
    let written = |(key, list): (&'static str, &Vec<SocketAddr>)| {
        let element = |(number, address): (usize, &SocketAddr)| (Key::new(key).element(number), *address);
        list.iter().enumerate().map(element).collect::<Vec<_>>()
    };
    let admin = admin.map(|address| (Key::new("admin.listen"), address));
    let mut all: Vec<_> = lists.into_iter().flat_map(written).chain(admin).collect();
    if !server::has_ipv6() {
        let others: Vec<SocketAddr> = all.iter().map(|(_, address)| *address).collect();
        all.retain(|(_, address)| !server::is_optional(*address, &others));
    }
    all
}

/// The accepted holders of the address; empty: it is free.
///
/// Errors: it can't be had, or it can't be seen whether it can.
pub fn port(
    key: Key,
    address: SocketAddr,
    is_accepted: impl Fn(&Holder) -> bool,
) -> Result<Vec<Holder>, Diagnostic> {
    let Err(error) = server::can_bind(address) else { return Ok(Vec::new()) };
    if error.kind() == ErrorKind::AddrInUse {
        return held(key, address, holders(address), is_accepted);
    }
    let fault = |severity, text: String, next| Err(Diagnostic::new(severity, key, text, next));
    match error.kind() {
        ErrorKind::PermissionDenied => fault(
            Severity::Warning,
            format!("{address} may not be taken by this user"),
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE; run this as root",
        ),
        ErrorKind::AddrNotAvailable => fault(
            Severity::Fatal,
            format!("{address}: this machine does not have the address"),
            "`ip address` lists those it has",
        ),
        _ => fault(Severity::Fatal, format!("{address} can't be taken: {error}"), "listen elsewhere"),
    }
}

fn held(
    key: Key,
    address: SocketAddr,
    holders: Vec<Holder>,
    is_accepted: impl Fn(&Holder) -> bool,
) -> Result<Vec<Holder>, Diagnostic> {
    let (ours, others): (Vec<_>, Vec<_>) = holders.into_iter().partition(|holder| is_accepted(holder));
    let names = others.iter().map(Holder::to_string).collect::<Vec<_>>().join(", ");
    let fault = |severity, text: String, next| Err(Diagnostic::new(severity, key, text, next));
    match &others[..] {
        [] if ours.is_empty() && geteuid().is_root() => fault(
            Severity::Fatal,
            format!("{address} is held by a process that can't be seen from here (in another container?)"),
            "`ss -ltnp` outside of it shows by whom",
        ),
        [] if ours.is_empty() => fault(
            Severity::Warning,
            format!("{address} is held by a process that this user may not see"),
            "run this as root to see by whom",
        ),
        [] => Ok(ours),
        // It hands the socket to the service that it is for.
        [Holder { pid: 1, .. }] if !ours.is_empty() => Ok(ours),
        [Holder { pid: 1, .. }] => fault(
            Severity::Warning,
            format!("{address} is held by {names}, for a socket unit"),
            "start hookgate by the unit that it belongs to (`systemctl list-sockets`)",
        ),
        _ => {
            fault(Severity::Fatal, format!("{address} is held by {names}"), "stop that, or listen elsewhere")
        }
    }
}

/// Of `[admin] socket`, if a process listens there.
fn socket_fault(path: &Path, is_accepted: impl Fn(&Holder) -> bool) -> Option<Diagnostic> {
    let peer = UnixStream::connect(path).ok()?;
    let mut holders = socket_holders(path);
    if holders.is_empty() {
        // The process that made the socket; it may have passed it on since.
        let pid = socket_peercred(&peer).ok()?.pid.as_raw_nonzero().get();
        holders.push(Holder::of(u32::try_from(pid).ok()?));
    }
    let holder = holders.into_iter().find(|holder| !is_accepted(holder))?;
    let text = format!("{} is held by {holder}", path.display());
    let next = "another hookgate needs another `socket`";
    Some(Diagnostic::new(Severity::Fatal, Key::new("admin.socket"), text, next))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    fn key() -> Key {
        Key::new("listen.plain")
    }

    #[test]
    fn a_held_port_has_a_holder() {
        let nobodys = |_: &Holder| false;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let fault = port(key(), address, nobodys).unwrap_err();
        assert_eq!(fault.severity, Severity::Fatal, "{fault}");
        assert!(fault.text.contains(&format!("(pid {})", std::process::id())), "{fault}");
        drop(listener);
        assert_eq!(port(key(), address, nobodys), Ok(Vec::new()));
        let elsewhere = port(key(), "192.0.2.1:80".parse().unwrap(), nobodys).unwrap_err();
        assert!(elsewhere.text.ends_with("this machine does not have the address"), "{elsewhere}");
    }

    #[test]
    fn who_is_in_the_way() {
        let severity = |pids: &[u32]| {
            let holders = pids.iter().map(|pid| Holder { name: "other".into(), pid: *pid }).collect();
            held(key(), "127.0.0.1:1".parse().unwrap(), holders, |_| false).map_err(|fault| fault.severity)
        };
        // No process has numbers as high as that.
        assert_eq!(severity(&[u32::MAX, 1]), Err(Severity::Fatal));
        assert_eq!(severity(&[1]), Err(Severity::Warning), "socket activation");
        let unseen = if geteuid().is_root() { Severity::Fatal } else { Severity::Warning };
        assert_eq!(severity(&[]), Err(unseen), "nobody that may be seen");
    }
}
