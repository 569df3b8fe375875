//! Which processes listen on an address or a socket, and which of them are hookgates.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config;

/// Whether the scheduler runs a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    Runs,
    /// By a signal or a debugger.
    Stopped,
}

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub name: String,
    pub pid: u32,
}

impl Holder {
    pub(super) fn of(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { name: name.trim().to_owned(), pid }
    }

    /// Whether it is a serving hookgate, with any configuration. Its binary may be deleted since.
    pub(super) fn is_hookgate(&self) -> bool {
        let is_named_so = match fs::read_link(self.process().join("exe")) {
            Ok(path) => path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"hookgate")),
            // Only root can read the link of another user's process.
            Err(_) => self.name.starts_with("hookgate"),
        };
        (is_named_so || self.is_this_program()) && self.words().iter().any(|word| word == b"run")
    }

    /// Whether it is a hookgate with the configuration in `file`.
    pub fn runs(&self, file: &Path) -> bool {
        if !self.is_hookgate() {
            return false;
        }
        let words = self.words();
        let words: Vec<&OsStr> = words.iter().map(|word| OsStr::from_bytes(word)).collect();
        let its = self.process().join("cwd").join(configuration(&words));
        match (fs::canonicalize(its), fs::canonicalize(file)) {
            (Ok(its), Ok(ours)) => its == ours,
            _ => false,
        }
    }

    /// The id of the user that it runs as.
    fn user(&self) -> Option<u32> {
        self.status("Uid:")?.parse().ok()
    }

    /// The process that has started it.
    pub fn parent(&self) -> Option<u32> {
        self.status("PPid:")?.parse().ok()
    }

    /// `None`: it has ended.
    pub fn run_state(&self) -> Option<RunState> {
        let state = self.status("State:")?;
        Some(if matches!(&*state, "T" | "t") { RunState::Stopped } else { RunState::Runs })
    }

    /// The first word of a line of proc_pid_status(5).
    fn status(&self, field: &str) -> Option<String> {
        let status = fs::read_to_string(self.process().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next().map(str::to_owned)
    }

    /// In a container, root may list them and see nothing of any.
    fn hides_descriptors(&self) -> bool {
        let Ok(descriptors) = fs::read_dir(self.process().join("fd")) else { return true };
        let is_refused = |error: io::Error| error.kind() == ErrorKind::PermissionDenied;
        descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_err_and(is_refused))
    }

    fn process(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }

    /// Its command line.
    fn words(&self) -> Vec<Vec<u8>> {
        let line = fs::read(self.process().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    }

    /// Whether it runs the same binary as this process.
    fn is_this_program(&self) -> bool {
        let file = |process: &Path| {
            let found = fs::metadata(process.join("exe")).ok()?;
            Some((found.dev(), found.ino()))
        };
        file(&self.process()).is_some_and(|its| file(Path::new("/proc/self")) == Some(its))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Which one a command line names.
fn configuration<'w>(words: &[&'w OsStr]) -> &'w Path {
    let joined = words.iter().find_map(|word| word.as_bytes().strip_prefix(b"--config="));
    let option = words.iter().position(|word| *word == "--config");
    let apart = option.and_then(|at| words.get(at + 1)).map(|word| word.as_bytes());
    let written = joined.or(apart).map_or(OsStr::new(config::DEFAULT_PATH), OsStr::from_bytes);
    Path::new(written)
}

/// Whether a hookgate serves in this network namespace, as far as this user can see.
pub(super) fn is_hookgate_running() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let ours = namespace("self");
    let mut neighbours = pids().filter(|pid| ours.is_some() && namespace(&pid.to_string()) == ours);
    neighbours.any(|pid| Holder::of(pid).is_hookgate())
}

/// The processes of this network namespace that listen on `address`, as far as this user can see.
pub(super) fn holders(address: SocketAddr) -> Vec<Holder> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|file| fs::read_to_string(file).unwrap_or_default());
    let sockets = |matches: fn(SocketAddr, SocketAddr) -> bool| {
        let found = tables.iter().flat_map(|table| listening(table, |own| matches(own, address)));
        found.collect::<Vec<_>>()
    };
    // A holder of exactly this address rules out holders of overlapping ones.
    let same = sockets(|own, address| own == address);
    let sockets = if same.is_empty() { sockets(do_addresses_conflict) } else { same };
    let (sockets, owners): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
    let seen = processes_with(&sockets);
    if seen.is_empty() { hidden_hookgates(&owners) } else { seen }
}

/// The hookgates of these users that show their descriptors to root alone, as each does once it
/// runs.
fn hidden_hookgates(owners: &[u32]) -> Vec<Holder> {
    let is_hidden = |holder: &Holder| {
        holder.hides_descriptors()
            && holder.user().is_some_and(|user| owners.contains(&user))
            && holder.is_hookgate()
    };
    pids().map(Holder::of).filter(is_hidden).collect()
}

/// The processes that listen at the Unix socket `path`.
pub fn socket_holders(path: &Path) -> Vec<Holder> {
    let table = fs::read("/proc/self/net/unix").unwrap_or_default();
    let real = fs::canonicalize(path).unwrap_or_default();
    let inodes = [path, &real].map(|path| listening_at(&table, path.as_os_str().as_bytes()));
    processes_with(&inodes.concat())
}

/// The processes that hold one of `sockets`, which are named as in `/proc/PID/fd`.
fn processes_with(sockets: &[String]) -> Vec<Holder> {
    let has = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter_map(|link| link.into_os_string().into_string().ok()).any(|link| sockets.contains(&link))
    };
    pids().filter(has).map(Holder::of).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The sockets that listen on a matching address and their owners' user ids, from a table of
/// proc_net_tcp(5).
fn listening(table: &str, is_it: impl Fn(SocketAddr) -> bool) -> Vec<(String, u32)> {
    const LISTEN: &str = "0A";
    let rows = table.lines().skip(1).filter_map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let (ip, port) = columns.get(1)?.rsplit_once(':')?;
        let own = SocketAddr::new(ip_of(ip)?, u16::from_str_radix(port, 16).ok()?);
        let (owner, inode) = (columns.get(7)?.parse().ok()?, columns.get(9)?);
        (is_it(own) && *columns.get(3)? == LISTEN).then_some((format!("socket:[{inode}]"), owner))
    });
    rows.collect()
}

/// The kernel prints an address as integers of 32 bits in host byte order.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into())
        }
        _ => None,
    }
}

fn do_addresses_conflict(one: SocketAddr, other: SocketAddr) -> bool {
    // A socket on [::] may accept IPv4 as well.
    let takes = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    let (one_ip, other_ip) = (one.ip(), other.ip());
    let is_in_the_way = one_ip == other_ip || takes(one_ip, other_ip) || takes(other_ip, one_ip);
    one.port() == other.port() && is_in_the_way
}

/// The Unix sockets that listen at `path`, from /proc/net/unix.
fn listening_at(table: &[u8], path: &[u8]) -> Vec<String> {
    /// `__SO_ACCEPTCON`.
    const LISTENS: &str = "00010000";
    let rows = table.split(|byte| *byte == b'\n').filter(|row| row.ends_with(path));
    let inode = |row: &[u8]| {
        let head = std::str::from_utf8(row.strip_suffix(path)?).ok()?;
        let columns: Vec<&str> = head.split_whitespace().collect();
        let [_, _, _, flags, _, _, inode] = columns[..] else { return None };
        (flags == LISTENS).then(|| format!("socket:[{inode}]"))
    };
    rows.filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_name_a_configuration() {
        for (line, expected) in [
            ("hookgate run", config::DEFAULT_PATH),
            ("hookgate run --config a.toml", "a.toml"),
            ("hookgate --config=/b.toml run", "/b.toml"),
            ("hookgate run --config", config::DEFAULT_PATH),
        ] {
            let words: Vec<&OsStr> = line.split(' ').map(OsStr::new).collect();
            assert_eq!(configuration(&words), Path::new(expected), "{line}");
        }
    }

    #[test]
    fn who_is_in_the_way_of_an_address() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 x\n\
             1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 x\n\
             2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 13 1 x\n";
        let found = |address: &str| {
            let address = address.parse().unwrap();
            let found = listening(table, |own| do_addresses_conflict(own, address)).into_iter();
            found.map(|(socket, _)| socket).collect::<Vec<_>>()
        };
        // The table depends on the byte order.
        if cfg!(target_endian = "little") {
            assert_eq!(found("127.0.0.1:8080"), ["socket:[11]"]);
            assert_eq!(found("0.0.0.0:8080"), ["socket:[11]"]);
            assert_eq!(found("127.0.0.2:8080"), [""; 0], "another address");
            assert_eq!(found("127.0.0.2:8081"), ["socket:[12]"]);
            assert_eq!(found("[::1]:8081"), [""; 0], "another family");
            assert_eq!(found("[::]:8081"), ["socket:[12]"]);
            assert_eq!(ip_of("B80D0120000000000000000001000000"), Some("2001:db8::1".parse().unwrap()));
        }
    }

    #[test]
    fn who_listens_at_a_path() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000: 00000002 00000000 00010000 0001 01 21 /run/a b.sock\n\
            0000: 00000003 00000000 00000000 0001 03 22 /run/a b.sock\n\
            0000: 00000002 00000000 00010000 0001 01 23 /run/other.sock\n";
        assert_eq!(listening_at(table, b"/run/a b.sock"), ["socket:[21]"]);
        assert_eq!(listening_at(table, b"b.sock"), [""; 0]);
    }
}
