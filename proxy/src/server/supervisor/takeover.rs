//! Replacing a running process without a refused connection: the old supervisor passes its sockets
//! to the new one while both serve, and drains once the new one serves.
//!
//! The old process starts its successor (SIGUSR2), whose standard input is a socket between them;
//! or an operator does (`hookgate run --takeover`), and the successor connects to a socket beside
//! `[admin] socket`.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::config::Config;
use crate::server::ipc::{line, receive, send, socket_on_stdin};

/// Tells a successor that its standard input is the socket to its predecessor.
const TAKEOVER_VARIABLE: &str = "HOOKGATE_TAKEOVER";
/// How long the other side may take for a message that needs no work.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a successor may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Room for two paths.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// A message of the old process. The socket itself is beside it.
#[derive(Debug, Serialize, Deserialize)]
enum Offer {
    Listener(SocketAddr),
    AdminSocket,
    End,
}

/// The message of the new process once it serves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SuccessorReady {
    pub(super) pid: u32,
    /// Its path for the command line.
    pub(super) admin_socket: Option<PathBuf>,
}

/// Why no process was replaced.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error(
        "--takeover finds the running hookgate beside its [admin] socket: configure one, or send it SIGUSR2"
    )]
    NoSocket,
    #[error("{}: no running hookgate can be reached there: {error}", path.display())]
    Unreachable { path: PathBuf, error: io::Error },
    #[error("the running hookgate did not hand over: {0}")]
    Talk(#[from] io::Error),
}

/// The process to be replaced, seen from the new one.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// What a predecessor has passed on.
#[derive(Default)]
pub(super) struct InheritedSockets {
    pub(super) listeners: Vec<(SocketAddr, Socket)>,
    pub(super) admin_socket: Option<UnixListener>,
}

/// Whether this process was started with sockets, so that their addresses are taken already.
pub fn inherits_sockets() -> bool {
    ["LISTEN_FDS", TAKEOVER_VARIABLE].iter().any(|name| std::env::var_os(name).is_some())
}

/// Whether this process was started to replace the one that has started it.
pub(super) fn is_by_predecessor() -> bool {
    std::env::var_os(TAKEOVER_VARIABLE).is_some()
}

impl Predecessor {
    /// The process that has started this one as its successor; or else, with `asked`, the one that
    /// runs with this configuration.
    pub(super) fn find(config: &Config, asked: bool) -> Result<Option<Self>, TakeoverError> {
        if is_by_predecessor() {
            return Ok(Some(Self(socket_on_stdin()?)));
        }
        if !asked {
            return Ok(None);
        }
        let socket = config.admin_socket();
        let path = beside(socket.ok_or(TakeoverError::NoSocket)?);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Some(Self(stream))),
            Err(error) => Err(TakeoverError::Unreachable { path, error }),
        }
    }

    pub(super) fn sockets(&self) -> io::Result<InheritedSockets> {
        self.0.set_read_timeout(Some(MESSAGE_TIMEOUT))?;
        let mut handed_over = InheritedSockets::default();
        loop {
            let (text, socket) = receive(&self.0, MAX_MESSAGE_BYTES)?;
            let socket = || socket.ok_or_else(|| io::Error::other("an offer came without its socket"));
            match serde_json::from_slice(&text)? {
                Offer::Listener(address) => handed_over.listeners.push((address, socket()?.into())),
                Offer::AdminSocket => handed_over.admin_socket = Some(socket()?.into()),
                Offer::End => return Ok(handed_over),
            }
            // The other side waits for this before the next one.
            send(&self.0, b"\n", None)?;
        }
    }

    /// Reports that this process serves. Returns once the other one takes no new clients.
    pub(super) fn replace(self, admin_socket: Option<&Path>) -> io::Result<()> {
        let serving =
            SuccessorReady { pid: std::process::id(), admin_socket: admin_socket.map(Path::to_owned) };
        send(&self.0, &line(&serving)?, None)?;
        receive(&self.0, MAX_MESSAGE_BYTES).map(drop)
    }
}

/// What a successor gets.
pub(super) struct Handover {
    pub(super) listeners: Vec<(SocketAddr, Socket)>,
    pub(super) admin_socket: Option<OwnedFd>,
}

/// The new process, seen from the one that it replaces.
pub(super) struct Successor {
    socket: UnixStream,
    /// The child that this process has started. The successor itself is that child's child, in its
    /// process group.
    child: Option<Child>,
}

impl Successor {
    /// Starts the binary that is now at this process's path, with the same arguments.
    pub(super) fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut arguments = std::env::args_os();
        let binary = arguments.next().ok_or_else(|| io::Error::other("this process has no name"))?;
        let child = Command::new(binary)
            .args(arguments)
            .env(TAKEOVER_VARIABLE, "stdin")
            // They are about this process.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .process_group(0)
            .spawn()?;
        Ok(Self { socket: ours, child: Some(child) })
    }

    /// Passes the sockets and waits until the successor serves. Blocks.
    ///
    /// Errors: it has ended, or does not begin to serve.
    pub(super) fn hand_over(mut self, handover: &Handover) -> io::Result<(Self, SuccessorReady)> {
        let serving = self.offer(handover).and_then(|()| {
            self.socket.set_read_timeout(Some(START_TIMEOUT))?;
            Ok(serde_json::from_slice(&receive(&self.socket, MAX_MESSAGE_BYTES)?.0)?)
        });
        let Some(child) = &mut self.child else { return Ok((self, serving?)) };
        if serving.is_err() {
            kill_group(Pid::from_child(child));
        }
        let status = child.wait()?;
        match serving {
            Ok(serving) => Ok((self, serving)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(
                io::Error::other(format!("the new one did not serve within {} s", START_TIMEOUT.as_secs())),
            ),
            Err(_) if status.code().is_some_and(|code| code != 0) => {
                Err(io::Error::other(format!("the new one ended with {status}")))
            }
            Err(error) => Err(io::Error::other(format!("the new one ended before it served ({error})"))),
        }
    }

    /// A handle that cancels [`Successor::hand_over`] from another thread.
    pub(super) fn pending(&self) -> io::Result<PendingTakeover> {
        Ok(PendingTakeover {
            socket: self.socket.try_clone()?,
            group: self.child.as_ref().map(Pid::from_child),
        })
    }

    fn offer(&self, Handover { listeners, admin_socket }: &Handover) -> io::Result<()> {
        self.socket.set_read_timeout(Some(START_TIMEOUT))?;
        self.socket.set_write_timeout(Some(MESSAGE_TIMEOUT))?;
        let listeners = listeners.iter().map(|(address, socket)| (Offer::Listener(*address), socket.as_fd()));
        let admin_socket = admin_socket.iter().map(|socket| (Offer::AdminSocket, socket.as_fd()));
        for (offer, socket) in listeners.chain(admin_socket) {
            send(&self.socket, &line(&offer)?, Some(socket))?;
            receive(&self.socket, MAX_MESSAGE_BYTES)?;
        }
        send(&self.socket, &line(&Offer::End)?, None).map(drop)
    }

    /// Reports that this process takes no new clients.
    pub(super) fn confirm(&self) -> io::Result<()> {
        send(&self.socket, b"\n", None).map(drop)
    }
}

/// A process that is about to take over.
pub(super) struct PendingTakeover {
    socket: UnixStream,
    group: Option<Pid>,
}

impl PendingTakeover {
    /// Ends the successor.
    pub(super) fn cancel(self) {
        // It may have ended.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(group) = self.group {
            kill_group(group);
        }
    }
}

/// Ends every process of a group; it may be empty.
fn kill_group(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
}

/// Where successors connect that an operator has started. Only root and this process's user may.
pub(super) struct TakeoverListener {
    listener: tokio::net::UnixListener,
    path: PathBuf,
}

impl TakeoverListener {
    /// Beside `[admin] socket`. A socket that is there belongs to a process that has ended or is
    /// being replaced.
    pub(super) fn open(admin_socket: &Path) -> io::Result<Self> {
        let path = beside(admin_socket);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = tokio::net::UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// The next successor.
    ///
    /// Errors: also that another user has connected.
    pub(super) async fn accept(&self) -> io::Result<Successor> {
        let (socket, _) = self.listener.accept().await?;
        let uid = socket.peer_cred()?.uid();
        if uid != 0 && uid != geteuid().as_raw() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "another user wants to take over"));
        }
        let socket = socket.into_std()?;
        socket.set_nonblocking(false)?;
        Ok(Successor { socket, child: None })
    }

    pub(super) fn close(self) {
        // A user who may not do so leaves a file that the next start removes.
        let _ = fs::remove_file(&self.path);
    }
}

fn beside(admin_socket: &Path) -> PathBuf {
    let mut path = admin_socket.as_os_str().to_owned();
    path.push(".takeover");
    path.into()
}
