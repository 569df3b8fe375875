use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{self, Child, Command};

use nix::sys::signal::kill;
use nix::unistd::{Pid, execv};
use rustix::thread::gettid;
use socket2::{Domain, Protocol, Socket, Type};

use super::*;
use crate::sys::signal_thread;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const REFUSED: Option<i32> = Some(libc::EPERM);

/// Another process of the same user, which waits to be ended.
struct Other(Child);

impl Other {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn bound(kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, None)?;
    socket.bind(&LOOPBACK.into())?;
    Ok(socket)
}

fn signal(other: Pid) -> io::Result<()> {
    Ok(kill(other, None)?)
}

/// What a worker never has to do, with the result; each does no harm where it is allowed.
fn harmless(other: Pid) -> Vec<(&'static str, io::Result<()>)> {
    let unbound = || Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| socket.listen(1));
    let other_id = other.as_raw().unsigned_abs();
    vec![
        ("open a file", File::open("/etc/passwd").map(drop)),
        ("bind a TCP port", bound(Type::STREAM).map(drop)),
        ("bind a UDP port", bound(Type::DGRAM).map(drop)),
        ("listen on a port of the kernel's choice", unbound()),
        ("a Unix socket", Socket::new(Domain::UNIX, Type::STREAM, None).map(drop)),
        ("a pair that can be connected anew", Socket::pair(Domain::UNIX, Type::DGRAM, None).map(drop)),
        ("a netlink socket", Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, None).map(drop)),
        ("kill(2) another process", signal(other)),
        ("tgkill(2) another process", signal_thread(other_id, other_id, 0)),
        ("start a process", Command::new("true").status().map(drop)),
    ]
}

/// The same, of which a kernel may refuse some to others, too.
fn harmful() -> Vec<(&'static str, io::Result<()>)> {
    let socket =
        |kind, protocol: i32| Socket::new(Domain::IPV4, kind, Some(Protocol::from(protocol))).map(drop);
    vec![
        ("an MPTCP socket", socket(Type::STREAM, libc::IPPROTO_MPTCP)),
        ("an SCTP socket", socket(Type::STREAM, libc::IPPROTO_SCTP)),
        ("an SCTP socket with messages", socket(Type::SEQPACKET, libc::IPPROTO_SCTP)),
        ("a UDP-Lite socket", socket(Type::DGRAM, libc::IPPROTO_UDPLITE)),
        ("a raw socket", socket(Type::RAW, libc::IPPROTO_ICMP)),
        ("a ping socket", socket(Type::DGRAM, libc::IPPROTO_ICMP)),
        ("execute a program", execv(c"/nonexistent", &[c"nonexistent"]).map(drop).map_err(io::Error::from)),
    ]
}

/// What serving takes.
fn serve() -> io::Result<()> {
    let tcp = Socket::new(Domain::IPV6, Type::STREAM.nonblocking(), Some(Protocol::TCP));
    // Not for machines without IPv6.
    tcp.map(drop).or_else(|error| match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => Ok(()),
        _ => Err(error),
    })?;
    Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let udp = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    udp.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, 9)).into())?;
    Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    signal_thread(process::id(), gettid().as_raw_nonzero().get().unsigned_abs(), 0)
}

/// The results on a thread that `confine` confines.
fn on_a_thread<T: Send>(confine: impl FnOnce() + Send, act: impl FnOnce() -> T + Send) -> T {
    let confined = || {
        confine();
        act()
    };
    thread::scope(|scope| scope.spawn(confined).join()).unwrap()
}

fn assert_refused(confine: impl FnOnce() + Send) {
    let other = Other::start();
    let pid = other.pid();
    let act = || ([harmless(pid), harmful()].into_iter().flatten().collect::<Vec<_>>(), serve());
    let (attempts, serving) = on_a_thread(confine, act);
    for (what, outcome) in attempts {
        let errno = outcome.as_ref().err().and_then(io::Error::raw_os_error);
        assert_eq!(errno, REFUSED, "{what}: {outcome:?}");
    }
    serving.unwrap();
}

#[test]
fn a_thread_that_is_confined_can_serve_and_nothing_else() {
    let other = Other::start();
    for (what, outcome) in harmless(other.pid()) {
        assert!(outcome.is_ok(), "{what} is refused to those who are not confined, too: {outcome:?}");
    }
    assert_refused(|| assert_eq!(Confinement::enter().calls, Ok(())));
}

#[test]
fn without_landlock_the_same_is_refused() {
    assert_refused(|| calls::restrict().unwrap());
}

/// Whichever version of Landlock this kernel has.
#[test]
fn landlock_alone_refuses_what_it_is_said_to() {
    let other = Other::start();
    let pid = other.pid();
    let refused = |outcome: io::Result<()>| outcome.is_err();
    let (landlock, attempts) = thread::scope(|scope| {
        let confined = || {
            let landlock = restrict_files().map_err(|error| error.to_string()).and_then(granted);
            let attempts = [
                ("files", refused(File::open("/etc/passwd").map(drop))),
                ("TCP ports", refused(bound(Type::STREAM).map(drop))),
                ("signals and abstract sockets", refused(signal(pid))),
            ];
            (landlock, attempts)
        };
        scope.spawn(confined).join().unwrap()
    });
    let confinement = Confinement { landlock, calls: Ok(()) };
    let gaps = confinement.gaps().concat();
    for (what, is_refused) in attempts {
        assert_eq!(gaps.contains(what), !is_refused, "{what}: {gaps:?}");
        assert_eq!(confinement.to_string().contains(what), is_refused, "{what}: {confinement}");
    }
}

#[test]
fn what_a_kernel_lacks_is_named() {
    let confinement = |landlock: Result<ABI, &str>, calls: Result<(), &str>| Confinement {
        landlock: landlock.map_err(str::to_owned),
        calls: calls.map_err(str::to_owned),
    };
    let none = || Err("this kernel has no Landlock, Linux 5.13");
    for (confinement, has_both, expected) in [
        (confinement(Ok(ABI::V6), Ok(())), true, ""),
        (
            confinement(Ok(ABI::V4), Ok(())),
            true,
            "Landlock does not keep the worker from signals and abstract sockets (Linux 6.12): \
             this kernel's Landlock is older; seccomp refuses the calls for it",
        ),
        (
            confinement(Ok(ABI::V1), Ok(())),
            true,
            "Landlock does not keep the worker from TCP ports (Linux 6.7), signals and abstract \
             sockets (Linux 6.12): this kernel's Landlock is older; seccomp refuses the calls for it",
        ),
        (
            confinement(none(), Ok(())),
            false,
            "Landlock does not keep the worker from files, TCP ports, signals and abstract \
             sockets: this kernel has no Landlock, Linux 5.13; seccomp refuses the calls for it",
        ),
        (
            confinement(Ok(ABI::V6), Err("no")),
            false,
            "seccomp does not restrict the system calls of the worker: no",
        ),
        (
            confinement(Ok(ABI::V4), Err("no")),
            false,
            "seccomp does not restrict the system calls of the worker: no / \
             Landlock does not keep the worker from signals and abstract sockets (Linux 6.12): \
             this kernel's Landlock is older; nothing else does",
        ),
    ] {
        assert_eq!(confinement.gaps().join(" / "), expected);
        assert_eq!(confinement.ensure_required().is_ok(), has_both, "{confinement:?}");
    }
}

#[test]
fn a_probe_confines_only_itself() {
    let probed = Confinement::probe();
    assert!(File::open("/etc/passwd").is_ok() && bound(Type::STREAM).is_ok(), "{probed}");
}
