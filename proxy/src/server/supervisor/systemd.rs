//! The service manager, where there is one: what it is told (sd_notify(3)), and the sockets that it
//! has opened (sd_listen_fds(3)).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use sd_notify::NotifyState;
use socket2::Socket;

use crate::observe::Log;
use crate::sys::inherited;

/// Sockets that were open before this process was there, by their addresses.
#[derive(Default)]
pub(super) struct Sockets {
    /// The service manager's.
    inherited: Vec<(SocketAddr, Socket)>,
    /// Of the process whose place this one takes.
    handed_over: Vec<(SocketAddr, Socket)>,
}

impl Sockets {
    /// All that were passed to this process.
    ///
    /// Errors: one is no TCP socket, or what the environment says of them makes no sense.
    pub(super) fn inherited() -> io::Result<Self> {
        let with_address = |fd| {
            let socket = Socket::from(fd);
            let address = socket.local_addr()?.as_socket();
            let address = address.ok_or_else(|| io::Error::other("an inherited socket is not a TCP one"))?;
            socket.set_nonblocking(true)?;
            Ok((address, socket))
        };
        let inherited = inherited()?.into_iter().map(with_address).collect::<io::Result<_>>()?;
        Ok(Self { inherited, handed_over: Vec::new() })
    }

    pub(super) fn add_handed_over(&mut self, sockets: Vec<(SocketAddr, Socket)>) {
        self.handed_over.extend(sockets);
    }

    pub(super) fn take(&mut self, address: SocketAddr) -> Option<Socket> {
        [&mut self.inherited, &mut self.handed_over].into_iter().find_map(|sockets| {
            let at = sockets.iter().position(|(its, _)| *its == address)?;
            Some(sockets.swap_remove(at).1)
        })
    }

    /// Closes those that are not configured: clients would wait there for ever. Says which of them
    /// the service manager will pass again.
    pub(super) fn close(self, log: &Log) {
        for (address, _) in self.inherited {
            log.note(&format!(
                "{address}: inherited, but not in [listen] or [admin], and closed: add it there, or remove it from the unit"
            ));
        }
    }
}

/// How often it has to hear that all is well, if it wants to (sd_watchdog_enabled(3)).
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// All is well.
pub(super) fn alive(log: &Log) {
    notify(&[NotifyState::Watchdog], log);
}

/// The proxy serves.
pub(super) fn ready(log: &Log) {
    notify(&[NotifyState::Ready], log);
}

/// Another configuration is being read; [`ready`] follows.
pub(super) fn reloading(log: &Log) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now], log),
        Err(error) => log.note(&format!("cannot tell the time to the service manager: {error}")),
    }
}

/// The proxy drains.
pub(super) fn stopping(log: &Log) {
    notify(&[NotifyState::Stopping], log);
}

/// The service is another process from now on.
pub(super) fn replaced_by(pid: u32, log: &Log) {
    notify(&[NotifyState::MainPid(pid)], log);
}

fn notify(states: &[NotifyState<'_>], log: &Log) {
    if let Err(error) = sd_notify::notify(states) {
        log.note(&format!("cannot tell the service manager ($NOTIFY_SOCKET): {error}"));
    }
}
