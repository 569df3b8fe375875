//! A new process in place of a running one, without a refused connection: the sockets go from parent to parent while
//! both serve, and the old one drains once the new one says that it serves.
//!
//! The successor is started by the old process (SIGUSR2), on whose standard input it finds the way back; or by somebody else
//! (`hookgate run --takeover`), and then connects to a socket beside `[admin] socket`.

use std::fs::{self, File};
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

use super::message::{line, receive, send};
use crate::config::Config;

/// Says that standard input is the way to the process that is to be replaced.
const BY_PREDECESSOR: &str = "HOOKGATE_TAKEOVER";
/// How long the other side may take to say what it can say at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the new process may take until it serves.
const START: Duration = Duration::from_secs(60);

/// What the old process gives, each with the socket itself, and then the end.
#[derive(Debug, Serialize, Deserialize)]
enum Offer {
    Listener(SocketAddr),
    AdminSocket,
    End,
}

/// What the new process says once it serves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Serving {
    pub(super) pid: u32,
    /// Where the command line finds it.
    pub(super) admin_socket: Option<PathBuf>,
}

/// Why no process was replaced.
#[derive(Debug, thiserror::Error)]
pub enum BadTakeover {
    #[error(
        "--takeover finds the running hookgate beside its [admin] socket: configure one, or send it SIGUSR2"
    )]
    NoSocket,
    #[error("{}: no running hookgate can be reached there: {error}", path.display())]
    Unreachable { path: PathBuf, error: io::Error },
    #[error("the running hookgate did not hand over: {0}")]
    Talk(#[from] io::Error),
}

/// The process that is to be replaced, seen from the new one.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// What it has handed over.
#[derive(Default)]
pub(super) struct HandedOver {
    pub(super) listeners: Vec<(SocketAddr, Socket)>,
    pub(super) admin_socket: Option<UnixListener>,
}

/// Whether others' sockets are given to this process, so that it binds none that they have: whoever started it says so.
pub fn is_given_sockets() -> bool {
    ["LISTEN_FDS", BY_PREDECESSOR].iter().any(|name| std::env::var_os(name).is_some())
}

/// Whether this process was started to replace the one that has started it.
pub(super) fn is_by_predecessor() -> bool {
    std::env::var_os(BY_PREDECESSOR).is_some()
}

impl Predecessor {
    /// Whoever started this process to be replaced by it; or else, with `asked`, the one that runs with this
    /// configuration.
    pub(super) fn find(config: &Config, asked: bool) -> Result<Option<Self>, BadTakeover> {
        if is_by_predecessor() {
            let way = io::stdin().as_fd().try_clone_to_owned()?;
            // Nobody else may keep it open.
            rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
            return Ok(Some(Self(way.into())));
        }
        if !asked {
            return Ok(None);
        }
        let socket = config.admin_socket();
        let path = beside(socket.ok_or(BadTakeover::NoSocket)?);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Some(Self(stream))),
            Err(error) => Err(BadTakeover::Unreachable { path, error }),
        }
    }

    pub(super) fn sockets(&self) -> io::Result<HandedOver> {
        self.0.set_read_timeout(Some(PATIENCE))?;
        let mut handed_over = HandedOver::default();
        loop {
            let (text, socket) = receive(&self.0)?;
            let socket = || socket.ok_or_else(|| io::Error::other("an offer came without its socket"));
            match serde_json::from_slice(&text)? {
                Offer::Listener(address) => handed_over.listeners.push((address, socket()?.into())),
                Offer::AdminSocket => handed_over.admin_socket = Some(socket()?.into()),
                Offer::End => return Ok(handed_over),
            }
            // It gives one after the other.
            send(&self.0, b"\n", None)?;
        }
    }

    /// This process serves; returns once the other one takes no clients any more.
    pub(super) fn replace(self, admin_socket: Option<&Path>) -> io::Result<()> {
        let serving = Serving { pid: std::process::id(), admin_socket: admin_socket.map(Path::to_owned) };
        send(&self.0, &line(&serving)?, None)?;
        receive(&self.0).map(drop)
    }
}

/// What is handed over.
pub(super) type Offered = (Vec<(SocketAddr, Socket)>, Option<OwnedFd>);

/// The new process, seen from the one that is to be replaced.
pub(super) struct Successor {
    way: UnixStream,
    /// Where this process has started it: a child that leaves it behind, and leads its process group.
    child: Option<Child>,
}

impl Successor {
    /// Starts what lies now where this process's binary lay, with the same arguments.
    pub(super) fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut arguments = std::env::args_os();
        let binary = arguments.next().ok_or_else(|| io::Error::other("this process has no name"))?;
        let child = Command::new(binary)
            .args(arguments)
            .env(BY_PREDECESSOR, "stdin")
            // They are about this process.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .process_group(0)
            .spawn()?;
        Ok(Self { way: ours, child: Some(child) })
    }

    /// Gives it the sockets and waits until it serves; whoever it is then. Blocks.
    ///
    /// Errors: it has ended, or does not begin to serve.
    pub(super) fn converse(mut self, offered: &Offered) -> io::Result<(Self, Serving)> {
        let serving = self.offer(offered).and_then(|()| {
            self.way.set_read_timeout(Some(START))?;
            Ok(serde_json::from_slice(&receive(&self.way)?.0)?)
        });
        let Some(child) = &mut self.child else { return Ok((self, serving?)) };
        if serving.is_err() {
            kill_group(Pid::from_child(child));
        }
        let status = child.wait()?;
        match serving {
            Ok(serving) => Ok((self, serving)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(io::Error::other(format!("the new one did not serve within {} s", START.as_secs())))
            }
            Err(_) if status.code().is_some_and(|code| code != 0) => {
                Err(io::Error::other(format!("the new one ended with {status}")))
            }
            Err(error) => Err(io::Error::other(format!("the new one ended before it served ({error})"))),
        }
    }

    /// For whoever waits for [`Successor::converse`] elsewhere.
    pub(super) fn under_way(&self) -> io::Result<UnderWay> {
        Ok(UnderWay { way: self.way.try_clone()?, group: self.child.as_ref().map(Pid::from_child) })
    }

    fn offer(&self, (listeners, admin_socket): &Offered) -> io::Result<()> {
        self.way.set_read_timeout(Some(START))?;
        self.way.set_write_timeout(Some(PATIENCE))?;
        let listeners = listeners.iter().map(|(address, socket)| (Offer::Listener(*address), socket.as_fd()));
        let admin_socket = admin_socket.iter().map(|socket| (Offer::AdminSocket, socket.as_fd()));
        for (offer, socket) in listeners.chain(admin_socket) {
            send(&self.way, &line(&offer)?, Some(socket))?;
            receive(&self.way)?;
        }
        send(&self.way, &line(&Offer::End)?, None).map(drop)
    }

    /// From now on no client comes here any more.
    pub(super) fn confirm(&self) -> io::Result<()> {
        send(&self.way, b"\n", None).map(drop)
    }
}

/// A process that is about to take over.
pub(super) struct UnderWay {
    way: UnixStream,
    group: Option<Pid>,
}

impl UnderWay {
    /// It gets nothing any more, and ends.
    pub(super) fn give_up(self) {
        // It may have ended.
        let _ = self.way.shutdown(Shutdown::Both);
        if let Some(group) = self.group {
            kill_group(group);
        }
    }
}

/// Nobody may be left of it.
fn kill_group(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
}

/// Where a process that runs is reached by whoever is to replace it: by the same user alone, or root.
pub(super) struct Meeting {
    listener: tokio::net::UnixListener,
    path: PathBuf,
}

impl Meeting {
    /// Beside `[admin] socket`. Whoever met there before has gone, or is being replaced.
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

    /// Whoever comes, if it may.
    pub(super) async fn accept(&self) -> io::Result<Successor> {
        let (way, _) = self.listener.accept().await?;
        let uid = way.peer_cred()?.uid();
        if uid != 0 && uid != geteuid().as_raw() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "another user wants to take over"));
        }
        let way = way.into_std()?;
        way.set_nonblocking(false)?;
        Ok(Successor { way, child: None })
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
