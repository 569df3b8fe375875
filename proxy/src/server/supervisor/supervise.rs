//! The supervisor's loop: signals, the worker's calls, files, interfaces and successors, until the worker has ended.

use std::future::pending;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroize as _;

use super::takeover::TakeoverListener;
use super::{SuccessorSource, Supervisor};
use crate::access::MAX_STATE_BYTES;
use crate::config::Guard;
use crate::guard::Watch;
use crate::observe::Log;
use crate::server::ipc::{Command, CommandSender, Refusal, Request, Served, line, send};

/// The signals that become commands.
const SIGNALS: [(SignalKind, Command); 3] = [
    (SignalKind::hangup(), Command::Reload),
    (SignalKind::interrupt(), Command::Stop),
    (SignalKind::terminate(), Command::Stop),
];
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Room for every prefix that there may be.
const MAX_REQUEST_BYTES: u64 = 1 << 20;

/// Serves the worker until it has ended. Returns the exit code.
pub(super) async fn supervise(
    socket: StdUnixStream,
    mut supervisor: Supervisor,
    worker: Pid,
    commands: CommandSender,
) -> io::Result<ExitCode> {
    for (kind, command) in SIGNALS {
        let mut caught = signal(kind)?;
        let (commands, log) = (commands.clone(), supervisor.log.clone());
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                commands.send(command, &log);
            }
        });
    }
    socket.set_nonblocking(true)?;
    let mut socket = BufReader::new(UnixStream::from_std(socket)?);
    let mut child_ended = signal(SignalKind::child())?;
    let mut file_check = interval(FILE_CHECK_INTERVAL);
    file_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Growing would leave copies of keys behind.
    let (mut line, mut listens) = (Vec::with_capacity(2 * MAX_STATE_BYTES), true);
    let interfaces = Arc::new(Notify::new());
    if supervisor.allowed.guard.as_ref().is_some_and(Guard::is_attached) {
        tokio::spawn(watch_interfaces(Arc::clone(&interfaces), supervisor.log.clone()));
    }
    let mut takeover = signal(SignalKind::user_defined2())?;
    let (report, mut handovers) = mpsc::channel(1);
    let code = loop {
        if let Some(code) = exit_code(worker, &supervisor.log)? {
            break code;
        }
        tokio::select! {
            request = read_call(&mut socket, &mut line), if listens => {
                let served = match request {
                    Ok(request) => reply(&mut socket, request.served_by(&mut supervisor)).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = served {
                    listens = false;
                    // It has closed its end, and is about to end itself.
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        supervisor.log.note(&format!("the worker gets no more replies: {error}"));
                    }
                }
            }
            _ = child_ended.recv() => {}
            source = next_takeover(&mut takeover, supervisor.takeover_listener.as_ref()), if !supervisor.is_replaced => {
                match source.and_then(|source| supervisor.successor(source)) {
                    Ok((successor, handover)) => {
                        let report = report.clone();
                        // An error: this process has ended meanwhile.
                        thread::spawn(move || report.blocking_send(successor.hand_over(&handover)));
                    }
                    Err(error) => supervisor.log.note(&format!("nobody can take over: {error}")),
                }
            }
            Some(outcome) = handovers.recv() => {
                supervisor.pending_takeover = None;
                match outcome {
                    Ok((successor, ready)) => {
                        let pid = ready.pid;
                        supervisor.retire(ready);
                        commands.send(Command::Retire, &supervisor.log);
                        if let Err(error) = successor.confirm() {
                            supervisor.log.note(&format!("process {pid} does not listen: {error}"));
                        }
                    }
                    Err(error) => {
                        supervisor.log.note(&format!("nobody has taken over, this process goes on: {error}"));
                    }
                }
            }
            () = interfaces.notified(), if !supervisor.is_replaced => {
                if supervisor.guard.follow(&supervisor.log) {
                    commands.send(Command::RefreshInterfaces, &supervisor.log);
                }
            }
            _ = file_check.tick() => {
                if supervisor.allowed.certificates.changed() {
                    commands.send(Command::ReadCertificates, &supervisor.log);
                }
                if supervisor.allowed.configuration.as_mut().is_some_and(|files| files.changed_and_stable()) {
                    commands.send(Command::Reload, &supervisor.log);
                }
            }
        }
    };
    supervisor.clean_up();
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Notifies of changes of interfaces and routes.
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

async fn next_takeover(
    takeover: &mut unix::Signal,
    listener: Option<&TakeoverListener>,
) -> io::Result<SuccessorSource> {
    let connected = async {
        match listener {
            Some(listener) => listener.accept().await,
            None => pending().await,
        }
    };
    tokio::select! {
        _ = takeover.recv() => Ok(SuccessorSource::Start),
        successor = connected => successor.map(SuccessorSource::Connected),
    }
}

fn exit_code(worker: Pid, log: &Log) -> io::Result<Option<i32>> {
    match waitpid(worker, Some(WaitPidFlag::WNOHANG))? {
        WaitStatus::Exited(_, code) => Ok(Some(code)),
        WaitStatus::Signaled(_, signal, _) => {
            log.note(&format!("the worker was ended by {signal}"));
            Ok(Some(1))
        }
        _ => Ok(None),
    }
}

/// Serves calls until the worker closes its end.
///
/// Errors: as [`read_call`] and [`reply`].
pub(super) async fn serve_calls(
    socket: &mut BufReader<UnixStream>,
    supervisor: &mut Supervisor,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        match read_call(socket, &mut line).await {
            Ok(request) => reply(socket, request.served_by(supervisor)).await?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The next call. `line` keeps what has come of it when this is dropped, and is empty afterwards.
///
/// Errors: the worker has closed its end ([`io::ErrorKind::UnexpectedEof`]), or has sent what is no call: then no call of it
/// is to be served any more.
async fn read_call(socket: &mut BufReader<UnixStream>, line: &mut Vec<u8>) -> io::Result<Request> {
    let room = MAX_REQUEST_BYTES.saturating_sub(line.len() as u64);
    let request = match socket.take(room).read_until(b'\n', line).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => serde_json::from_slice(line).map_err(io::Error::from),
    };
    // A key may have been in it.
    line.zeroize();
    request
}

/// Errors: the worker does not take the reply.
async fn reply(
    socket: &mut BufReader<UnixStream>,
    served: anyhow::Result<Served<serde_json::Value>>,
) -> io::Result<()> {
    let (reply, mut descriptor) = match served {
        Ok(Served { reply, descriptor }) => (Ok(reply), descriptor),
        Err(error) => {
            let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            (Err(Refusal { code, why: format!("{error:#}") }), None)
        }
    };
    let text = line(&reply)?;
    let mut rest = &text[..];
    while !rest.is_empty() {
        let send = || send(socket.get_ref(), rest, descriptor.as_ref().map(|fd| fd.as_fd()));
        let sent = socket.get_ref().async_io(Interest::WRITABLE, send).await?;
        rest = &rest[sent..];
        descriptor = None;
    }
    Ok(())
}
