//! The supervisor's loop: signals, the worker's calls and its end, files, interfaces, and
//! successors.

use std::future::pending;
use std::io;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};
use zeroize::Zeroize as _;

use super::file_watch::FileWatch;
use super::state::{SuccessorSource, Supervisor};
use super::takeover::TakeoverListener;
use crate::access::MAX_STATE_BYTES;
use crate::config::Guard;
use crate::guard::Watch;
use crate::observe::Log;
use crate::server::ipc::{Command, Refusal, Request, Served, line, send};

const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Room for every prefix that there may be.
const MAX_REQUEST_BYTES: u64 = 1 << 20;

/// Serves the worker, and those that follow it after a crash, until the last one has ended. Returns
/// the exit code.
///
/// Errors: no worker can be started, or the kernel reports no signals.
pub(super) async fn supervise(mut supervisor: Supervisor) -> io::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut child_ended = signal(SignalKind::child())?;
    let mut takeover = signal(SignalKind::user_defined2())?;
    let mut file_check = interval(FILE_CHECK_INTERVAL);
    file_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let interfaces = Arc::new(Notify::new());
    if supervisor.allowed.guard.as_ref().is_some_and(Guard::is_attached) {
        tokio::spawn(watch_interfaces(Arc::clone(&interfaces), supervisor.log.clone()));
    }
    let (report, mut handovers) = mpsc::channel(1);
    let mut worker = supervisor.start_worker()?;
    // Growing would leave copies of keys behind.
    let (mut line, mut listens) = (Vec::with_capacity(2 * MAX_STATE_BYTES), true);
    let code = loop {
        if let Some(status) = worker.ended()? {
            let Some(delay) = supervisor.restart_delay(status) else { break status.code() };
            tokio::select! {
                () = sleep(delay) => {}
                () = signals.stop() => break None,
            }
            worker = supervisor.start_worker()?;
            line.zeroize();
            listens = true;
        }
        tokio::select! {
            request = read_call(&mut worker.calls, &mut line), if listens => {
                let served = match request {
                    Ok(request) => reply(&mut worker.calls, request.served_by(&mut supervisor)).await,
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
            command = signals.next() => {
                if command == Command::Stop {
                    supervisor.restarts.stop();
                }
                worker.commands.send(command, &supervisor.log);
            }
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
                        worker.commands.send(Command::Retire, &supervisor.log);
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
                    worker.commands.send(Command::RefreshInterfaces, &supervisor.log);
                }
            }
            _ = file_check.tick() => {
                supervisor.guard.log_diagnostics(&supervisor.log);
                if supervisor.allowed.certificates.changed() {
                    worker.commands.send(Command::ReadCertificates, &supervisor.log);
                }
                if supervisor.allowed.configuration_files.as_mut().is_some_and(FileWatch::changed_and_stable) {
                    worker.commands.send(Command::Reload, &supervisor.log);
                }
            }
        }
    };
    supervisor.clean_up();
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The signals that become commands.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next command. Cancelling loses none.
    async fn next(&mut self) -> Command {
        tokio::select! {
            _ = self.hangup.recv() => Command::Reload,
            _ = self.interrupt.recv() => Command::Stop,
            _ = self.terminate.recv() => Command::Stop,
        }
    }

    /// Returns at the next [`Command::Stop`].
    async fn stop(&mut self) {
        while self.next().await != Command::Stop {}
    }
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
    takeover: &mut Signal,
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

/// The next call. `line` keeps the part that has arrived when this is dropped, and is empty
/// afterwards.
///
/// Errors: the worker has closed its end ([`io::ErrorKind::UnexpectedEof`]), or has sent what is no
/// call: then no further call of it may be served.
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
