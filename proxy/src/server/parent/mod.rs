//! Two processes: the parent, which may bind, read keys, attach the guard and talk to the service manager, and does so
//! for what the configuration names alone; and the worker, which parses everything that comes from the network, and may do
//! nothing else. They end together.

mod acts;
mod handle;
mod message;
mod named;
mod takeover;

use std::future::pending;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setpgid};
use rustix::process::{getpid, getppid, set_parent_process_death_signal};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::runtime;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

pub(super) use handle::Parent;
pub use handle::ParentError;
pub(super) use message::InForce;
pub use takeover::BadTakeover;

use super::confine::confine;
use super::systemd::Sockets;
use super::{Machine, StartError, privileges, worker_user};
use crate::config::Config;
use crate::observe::Log;
use crate::prefixes::Standing;
use crate::sys::{ForkResult, fork, give_back_free_memory};
use acts::{Given, Privileged};
use message::Request;
use takeover::{HandedOver, Meeting, Predecessor, Serving, Successor};

/// The signals that are for the worker.
const FORWARDED: [(SignalKind, Signal); 3] = [
    (SignalKind::hangup(), Signal::SIGHUP),
    (SignalKind::interrupt(), Signal::SIGINT),
    (SignalKind::terminate(), Signal::SIGTERM),
];
/// What the worker is told when the certificates' files have changed.
pub(super) const CERTIFICATES_CHANGED: Signal = Signal::SIGUSR1;
/// What the worker is told when another process has taken over.
pub(super) const REPLACED: Signal = Signal::SIGUSR2;
/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The longest request, in bytes: room for every prefix that there may be.
const LONGEST: u64 = 1 << 20;

/// What a start begins with.
pub struct Start {
    /// Where `config` was read.
    pub file: PathBuf,
    pub config: Config,
    /// Meta's prefixes.
    pub standing: Standing,
    /// The guard may filter even where that will most likely lock somebody out.
    pub may_lock_out: bool,
    /// In place of the process that runs with this configuration.
    pub takes_over: bool,
    pub log: Log,
}

/// Runs the proxy until it ends; how it ended.
///
/// Errors: it does not start.
pub fn run(start: Start) -> Result<ExitCode, StartError> {
    let user = worker_user(&start.config)?;
    let machine = Machine::measure();
    let mut inherited = Sockets::inherited()?;
    let predecessor = match Predecessor::find(&start.config, start.takes_over)? {
        None => None,
        Some(predecessor) => {
            let HandedOver { listeners, admin_socket } = predecessor.sockets().map_err(BadTakeover::from)?;
            inherited.add(listeners);
            Some((predecessor, admin_socket))
        }
    };
    let (ours, theirs) = StdUnixStream::pair()?;
    let parent = getpid();
    match fork()? {
        ForkResult::Child => {
            drop((ours, inherited, predecessor));
            // Ctrl-C is for the parent, which passes it on; the worker would otherwise get it twice.
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(io::Error::from)?;
            privileges::give_up(user.as_ref())?;
            end_with(parent)?;
            confine(&start.log);
            let Start { file, config, standing, log, .. } = start;
            super::serve(config, standing, machine, Parent::new(theirs)?, log, file)?;
            Ok(ExitCode::SUCCESS)
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let privileged = Privileged::new(start, inherited, predecessor, user);
            give_back_free_memory();
            let control = runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(control.block_on(attend(ours, privileged, child))?)
        }
    }
}

/// The same in one process that gives up nothing, and until it ends: for whoever looks inside of it, as a fuzzer does.
///
/// Errors: it does not start.
pub fn run_unsplit(start: Start) -> Result<(), StartError> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (config, standing, log) = (start.config.clone(), start.standing.clone(), start.log.clone());
    let file = start.file.clone();
    let control = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        let mut privileged = Privileged::new(start, Sockets::default(), None, None);
        control.block_on(async {
            let mut socket = BufReader::new(UnixStream::from_std(ours)?);
            let mut line = Vec::new();
            while read_line(&mut socket, &mut line).await? {
                answer(&mut socket, &mut privileged, &line).await?;
                line.clear();
            }
            Ok::<_, io::Error>(())
        })
    });
    super::serve(config, standing, Machine::measure(), Parent::new(theirs)?, log, file)
}

/// From now on this process ends with its parent. To be called once it has become who it stays: when its user changes, the
/// kernel forgets.
///
/// Errors: the parent has gone already.
fn end_with(parent: rustix::process::Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    match getppid() {
        Some(still) if still == parent => Ok(()),
        _ => Err(io::Error::other("the process that started this one has ended")),
    }
}

/// Does what the worker asks until it has ended; how it ended.
async fn attend(socket: StdUnixStream, mut privileged: Privileged, worker: Pid) -> io::Result<ExitCode> {
    for (kind, forwarded) in FORWARDED {
        let mut caught = signal(kind)?;
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                tell(worker, forwarded);
            }
        });
    }
    socket.set_nonblocking(true)?;
    let mut socket = BufReader::new(UnixStream::from_std(socket)?);
    let mut ended = signal(SignalKind::child())?;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut line, mut listens) = (Vec::new(), true);
    let mut takeover = signal(SignalKind::user_defined2())?;
    let (report, mut outcomes) = mpsc::channel(1);
    let mut is_handing_over = false;
    let code = loop {
        if let Some(code) = how_it_ended(worker, &privileged.log)? {
            break code;
        }
        tokio::select! {
            read = read_line(&mut socket, &mut line), if listens => {
                let answered = match read {
                    Ok(true) => answer(&mut socket, &mut privileged, &line).await,
                    // It has closed its end, and is about to go.
                    Ok(false) => Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(error) => Err(error),
                };
                line.clear();
                if let Err(error) = answered {
                    listens = false;
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        privileged.log.note(&format!("no longer answering the process that serves: {error}"));
                    }
                }
            }
            _ = ended.recv() => {}
            arrived = successor(&mut takeover, privileged.meeting.as_ref()), if !is_handing_over => {
                let offered = privileged.offered();
                match arrived.and_then(|successor| Ok((successor, offered?))) {
                    Ok((successor, offered)) => {
                        is_handing_over = true;
                        let report = report.clone();
                        // Nobody to tell any more: this process has ended.
                        thread::spawn(move || report.blocking_send(successor.converse(&offered)));
                    }
                    Err(error) => privileged.log.note(&format!("nobody can take over: {error}")),
                }
            }
            Some(outcome) = outcomes.recv() => {
                is_handing_over = false;
                match outcome {
                    Ok((successor, Serving { pid })) => {
                        privileged.step_aside(pid);
                        tell(worker, REPLACED);
                        if let Err(error) = successor.confirm() {
                            privileged.log.note(&format!("process {pid} does not listen: {error}"));
                        }
                    }
                    Err(error) => {
                        let log = &privileged.log;
                        log.note(&format!("nobody has taken over, this process goes on: {error}"));
                    }
                }
            }
            _ = look.tick() => {
                if privileged.named.certificates.changed() {
                    tell(worker, CERTIFICATES_CHANGED);
                }
                if privileged.named.configuration.as_mut().is_some_and(|files| files.settled()) {
                    tell(worker, Signal::SIGHUP);
                }
            }
        }
    };
    if let Some(socket) = privileged.admin_socket.take() {
        socket.remove();
    }
    if let Some(meeting) = privileged.meeting.take() {
        meeting.close();
    }
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Whoever is to replace this process: started because of a signal, or come by itself.
async fn successor(takeover: &mut unix::Signal, meeting: Option<&Meeting>) -> io::Result<Successor> {
    let arrived = async {
        match meeting {
            Some(meeting) => meeting.accept().await,
            None => pending().await,
        }
    };
    tokio::select! {
        _ = takeover.recv() => Successor::start(),
        arrived = arrived => arrived,
    }
}

/// Only a process that has ended cannot be signalled, and that is noticed elsewhere.
fn tell(worker: Pid, signal: Signal) {
    let _ = kill(worker, signal);
}

fn how_it_ended(worker: Pid, log: &Log) -> io::Result<Option<i32>> {
    match waitpid(worker, Some(WaitPidFlag::WNOHANG))? {
        WaitStatus::Exited(_, code) => Ok(Some(code)),
        WaitStatus::Signaled(_, signal, _) => {
            log.note(&format!("the process that serves was ended by {signal}; the guard goes on"));
            Ok(Some(1))
        }
        _ => Ok(None),
    }
}

/// Appends a whole line, or what there is of it when this is dropped. False: there is none any more.
async fn read_line(socket: &mut BufReader<UnixStream>, line: &mut Vec<u8>) -> io::Result<bool> {
    let room = LONGEST.saturating_sub(line.len() as u64);
    Ok(socket.take(room).read_until(b'\n', line).await? > 0)
}

/// Errors: what came is no request, or the answer is not taken; whoever does such a thing is not to be trusted with more.
async fn answer(
    socket: &mut BufReader<UnixStream>,
    privileged: &mut Privileged,
    line: &[u8],
) -> io::Result<()> {
    let (answer, beside): Given = privileged.act(serde_json::from_slice::<Request>(line)?);
    let text = message::line(&answer)?;
    let (mut rest, mut beside) = (&text[..], beside);
    while !rest.is_empty() {
        use std::os::fd::AsFd as _;
        let send = || message::send(socket.get_ref(), rest, beside.as_ref().map(|fd| fd.as_fd()));
        let sent = socket.get_ref().async_io(Interest::WRITABLE, send).await?;
        rest = &rest[sent..];
        beside = None;
    }
    Ok(())
}
