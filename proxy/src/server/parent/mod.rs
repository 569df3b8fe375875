//! Two processes: the parent, which may bind, read keys, attach the guard and talk to the service manager, and does so
//! for what the configuration names alone; and the worker, which parses everything that comes from the network, and may do
//! nothing else. The parent reads the worker's requests (JSON), whose strings the network may have chosen. They end together.

mod acts;
mod guarding;
mod handle;
mod message;
mod named;
mod order;
mod takeover;

use std::future::pending;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{getpid, getppid, set_parent_process_death_signal};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::runtime;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroize as _;

pub(super) use handle::Parent;
pub use handle::ParentError;
pub(super) use message::InForce;
pub use message::read_and_write;
pub(super) use order::{Order, Orders};
pub use takeover::{BadTakeover, is_given_sockets};

use super::confine::Confinement;
use super::systemd::Sockets;
use super::{Machine, StartError, privileges, worker_user};
use crate::access::MAX_STATE_BYTES;
use crate::config::{Config, Confine, Guard};
use crate::guard::Watch;
use crate::observe::Log;
use crate::prefixes::Standing;
use crate::sys::{ForkResult, fork, give_back_free_memory};
use acts::{Given, Privileged};
use message::Request;
use order::Commander;
use takeover::{HandedOver, Meeting, Predecessor, Successor};

/// What signals are for the worker, who hears of them as orders.
const SIGNALS: [(SignalKind, Order); 3] = [
    (SignalKind::hangup(), Order::Reload),
    (SignalKind::interrupt(), Order::Stop),
    (SignalKind::terminate(), Order::Stop),
];
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
    // What goes on is nobody's child but the service manager's, which hears of its end at once and waits for it, however
    // long the old process drains.
    if takeover::is_by_predecessor()
        && let ForkResult::Parent { .. } = fork()?
    {
        return Ok(ExitCode::SUCCESS);
    }
    privileges::keep_memory_private()?;
    let user = worker_user(&start.config)?;
    let admin_group = privileges::admin_group(&start.config, user.as_ref()).map_err(io::Error::from)?;
    let machine = Machine::measure();
    let mut inherited = Sockets::inherited()?;
    let predecessor = match Predecessor::find(&start.config, start.takes_over)? {
        None => None,
        Some(predecessor) => {
            let HandedOver { listeners, admin_socket } = predecessor.sockets().map_err(BadTakeover::from)?;
            inherited.add_handed_over(listeners);
            Some((predecessor, admin_socket))
        }
    };
    let (ours, theirs) = StdUnixStream::pair()?;
    let (worker, orders) = order::way()?;
    let parent = getpid();
    match fork()? {
        ForkResult::Child => {
            drop((ours, worker, inherited, predecessor));
            leave_signals_to_parent()?;
            privileges::give_up(user.as_ref())?;
            end_with(parent)?;
            let Start { file, config, standing, log, .. } = start;
            let confinement = Confinement::enter();
            if config.process.confine == Confine::Required {
                confinement.ensure_required()?;
            }
            for gap in confinement.gaps() {
                log.note(&gap);
            }
            super::serve(config, standing, machine, Parent::new(theirs)?, orders, log, file)?;
            Ok(ExitCode::SUCCESS)
        }
        ForkResult::Parent { child } => {
            drop((theirs, orders));
            privileges::keep_what_is_needed(&start.config)?;
            let privileged = Privileged::new(start, inherited, predecessor, admin_group);
            give_back_free_memory();
            let control = runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(control.block_on(attend(ours, privileged, child, worker))?)
        }
    }
}

/// The same in one process that gives up nothing, and until it ends: for whoever looks inside of it, as a fuzzer does.
///
/// Errors: it does not start.
pub fn run_unsplit(start: Start) -> Result<(), StartError> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    // Nobody gives any.
    let (_commander, orders) = order::way()?;
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
    super::serve(config, standing, Machine::measure(), Parent::new(theirs)?, orders, log, file)
}

/// Whoever signals every process of this name or terminal means the parent, and is to be heard once.
fn leave_signals_to_parent() -> io::Result<()> {
    let all = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR2];
    Ok(all.into_iter().collect::<SigSet>().thread_block()?)
}

/// From now on this process ends with its parent, if that may signal it; if not, it still hears that no orders will come. To
/// be called once it has become who it stays: when its user changes, the kernel forgets.
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
async fn attend(
    socket: StdUnixStream,
    mut privileged: Privileged,
    worker: Pid,
    commander: Commander,
) -> io::Result<ExitCode> {
    for (kind, order) in SIGNALS {
        let mut caught = signal(kind)?;
        let (commander, log) = (commander.clone(), privileged.log.clone());
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                commander.give(order, &log);
            }
        });
    }
    socket.set_nonblocking(true)?;
    let mut socket = BufReader::new(UnixStream::from_std(socket)?);
    let mut ended = signal(SignalKind::child())?;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Growing would leave copies behind.
    let (mut line, mut listens) = (Vec::with_capacity(2 * MAX_STATE_BYTES), true);
    let interfaces = Arc::new(Notify::new());
    if privileged.named.guard.as_ref().is_some_and(Guard::is_attached) {
        tokio::spawn(watch_interfaces(Arc::clone(&interfaces), privileged.log.clone()));
    }
    let mut takeover = signal(SignalKind::user_defined2())?;
    let (report, mut outcomes) = mpsc::channel(1);
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
                // A key may have been in it.
                line.zeroize();
                if let Err(error) = answered {
                    listens = false;
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        privileged.log.note(&format!("no longer answering the process that serves: {error}"));
                    }
                }
            }
            _ = ended.recv() => {}
            wish = wish(&mut takeover, privileged.meeting.as_ref()), if !privileged.is_replaced() => {
                match wish.and_then(|wish| privileged.successor(wish)) {
                    Ok((successor, offered)) => {
                        let report = report.clone();
                        // Nobody to tell any more: this process has ended.
                        thread::spawn(move || report.blocking_send(successor.converse(&offered)));
                    }
                    Err(error) => privileged.log.note(&format!("nobody can take over: {error}")),
                }
            }
            Some(outcome) = outcomes.recv() => {
                privileged.under_way = None;
                match outcome {
                    Ok((successor, serving)) => {
                        let pid = serving.pid;
                        privileged.step_aside(serving);
                        commander.give(Order::StepAside, &privileged.log);
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
            () = interfaces.notified(), if !privileged.is_replaced() => {
                if privileged.guarding.follow(&privileged.log) {
                    commander.give(Order::AskForInterfaces, &privileged.log);
                }
            }
            _ = look.tick() => {
                if privileged.named.certificates.changed() {
                    commander.give(Order::ReadCertificates, &privileged.log);
                }
                if privileged.named.configuration.as_mut().is_some_and(|files| files.settled()) {
                    commander.give(Order::Reload, &privileged.log);
                }
            }
        }
    };
    privileged.leave();
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Tells when the interfaces are to be looked at again.
async fn watch_interfaces(changed: Arc<Notify>, log: Log) {
    let watching = async {
        let watch = Watch::begin()?;
        loop {
            watch.next().await?;
            changed.notify_one();
        }
    };
    let Err::<(), io::Error>(error) = watching.await else { return };
    log.note(&format!(
        "guard: can't watch the interfaces, one that comes back needs `hookgate guard attach`: {error}"
    ));
}

/// By whom this process is to be replaced.
enum Wish {
    /// By one that is to be started.
    Start,
    By(Successor),
}

async fn wish(takeover: &mut unix::Signal, meeting: Option<&Meeting>) -> io::Result<Wish> {
    let arrived = async {
        match meeting {
            Some(meeting) => meeting.accept().await,
            None => pending().await,
        }
    };
    tokio::select! {
        _ = takeover.recv() => Ok(Wish::Start),
        arrived = arrived => arrived.map(Wish::By),
    }
}

fn how_it_ended(worker: Pid, log: &Log) -> io::Result<Option<i32>> {
    match waitpid(worker, Some(WaitPidFlag::WNOHANG))? {
        WaitStatus::Exited(_, code) => Ok(Some(code)),
        WaitStatus::Signaled(_, signal, _) => {
            log.note(&format!("the process that serves was ended by {signal}"));
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
