//! Which worker thread has a connection, as the kernel shows it: each thread that accepts has an
//! epoll instance of its own, with its duplicate of the listener and its connections in it.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::process;

/// The target of a link to an epoll instance, in a process's `fd` folder.
const EPOLL: &str = "anon_inode:[eventpoll]";

/// The threads that accept at one port.
pub struct Threads {
    /// The client's port of each connection that a thread has, by the thread's duplicate of the
    /// listener.
    ports: BTreeMap<u32, Vec<u16>>,
}

/// An IPv4 socket at the port that is looked at.
#[derive(Debug, PartialEq, Eq)]
enum Socket {
    Listener,
    /// The client's port.
    Connection(u16),
}

impl Threads {
    /// Those of a process and its descendants.
    ///
    /// # Errors
    /// It does not listen there; it is gone, or belongs to another user.
    pub fn of(pid: u32, port: u16) -> Result<Self> {
        let table = fs::read_to_string("/proc/net/tcp").context("reading /proc/net/tcp")?;
        let sockets = sockets(&table, port);
        let mut ports = BTreeMap::new();
        for pid in process::tree(pid)? {
            for epoll in epolls(pid)? {
                let path = format!("/proc/{pid}/fdinfo/{epoll}");
                let info = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
                // The runtime has two descriptors of each instance, which show the same.
                ports.extend(watched(&info, &sockets));
            }
        }
        ensure!(!ports.is_empty(), "no thread waits for connections at port {port}");
        Ok(Self { ports })
    }

    /// The thread that has the client's connection from this port; `None`: it is closed.
    pub fn owner(&self, port: u16) -> Option<u32> {
        self.ports.iter().find(|(_, ports)| ports.contains(&port)).map(|(listener, _)| *listener)
    }

    /// How many of these connections each thread has.
    pub fn counts(&self, among: &[u16]) -> Vec<usize> {
        let of_thread = |ports: &Vec<u16>| ports.iter().filter(|port| among.contains(port)).count();
        self.ports.values().map(of_thread).collect()
    }
}

/// The epoll descriptors of a process.
fn epolls(pid: u32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/fd");
    let mut found = Vec::new();
    for entry in fs::read_dir(&path).with_context(|| format!("reading {path}"))? {
        let entry = entry?;
        // An error: it was closed meanwhile.
        if fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == EPOLL) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// The lines of /proc/net/tcp with this local port, by inode.
fn sockets(table: &str, port: u16) -> BTreeMap<u64, Socket> {
    const ESTABLISHED: &str = "01";
    const LISTEN: &str = "0A";
    let port_of = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let socket = |line: &str| {
        let fields = line.split_whitespace().collect::<Vec<_>>();
        let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
        let socket = match state {
            LISTEN => Socket::Listener,
            ESTABLISHED => Socket::Connection(port_of(remote)?),
            _ => return None,
        };
        (port_of(local)? == port).then_some((inode.parse().ok()?, socket))
    };
    table.lines().filter_map(socket).collect()
}

/// What an epoll instance waits for, of these sockets: its descriptor of the listener, and the
/// clients' ports. `None`: the listener is not among it.
fn watched(info: &str, sockets: &BTreeMap<u64, Socket>) -> Option<(u32, Vec<u16>)> {
    let (mut listener, mut ports) = (None, Vec::new());
    for line in info.lines() {
        let Some(entry) = line.strip_prefix("tfd:") else { continue };
        let mut fields = entry.split_whitespace();
        let descriptor = fields.next()?.parse().ok()?;
        let inode = u64::from_str_radix(fields.find_map(|field| field.strip_prefix("ino:"))?, 16).ok()?;
        match sockets.get(&inode) {
            Some(Socket::Listener) => listener = Some(descriptor),
            Some(Socket::Connection(port)) => ports.push(*port),
            None => {}
        }
    }
    Some((listener?, ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_what_waits_for_them_are_read_as_the_kernel_prints_them() {
        const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 255 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 256 1 0 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:A001 06 00000000:00000000 03:00000176 00000000     0        0 0 3 0
   3: 0100007F:A000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 257 1 0 20 4 30 10 -1
";
        let sockets = sockets(TABLE, 8080);
        assert_eq!(sockets, BTreeMap::from([(255, Socket::Listener), (256, Socket::Connection(0xa000))]));
        const INFO: &str = "\
pos:\t0
flags:\t02000002
mnt_id:\t15
ino:\t2057
tfd:       17 events: 80002005 data:     7f6ae0012340  pos:0 ino:100 sdev:8
tfd:       12 events: 8000201d data:     7f6ae0012280  pos:0 ino:ff sdev:8
tfd:        8 events: 80000001 data: ffffffffffffffff  pos:0 ino:809 sdev:f
";
        assert_eq!(watched(INFO, &sockets), Some((12, vec![0xa000])));
        assert_eq!(watched("tfd: 17 events: 1 data: 1  pos:0 ino:100 sdev:8\n", &sockets), None);
    }
}
