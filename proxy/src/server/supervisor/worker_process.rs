//! Starting the worker, and another one after a crash.

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Child, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::BufReader;
use tokio::net::UnixStream;

use crate::server::ipc::{CommandSender, channel};
use crate::server::worker;

/// Also where another version has been installed meanwhile.
const OWN_BINARY: &str = "/proc/self/exe";
/// Before the second worker in a row that did not serve; each further one doubles it.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// How many workers in a row may end before they serve.
const MAX_FAILED_STARTS: u32 = 6;

/// A worker that runs, and the supervisor's ends of its sockets.
pub(super) struct WorkerProcess {
    child: Child,
    pub(super) calls: BufReader<UnixStream>,
    pub(super) commands: CommandSender,
}

impl WorkerProcess {
    /// Starts a worker, with an address layout of its own. Returns also its end of the channel of
    /// commands. To be called within a runtime.
    pub(super) fn start() -> io::Result<(Self, StdUnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (commands, receiver) = channel()?;
        let mut command = process::Command::new(OWN_BINARY);
        // For `ps`, and for commands that look for the hookgate of a configuration.
        let mut arguments = env::args_os();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env_clear().env(worker::VARIABLE, "stdin");
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().map_err(|error| {
            let text = format!("the worker, which is {OWN_BINARY} once more: {error} (is /proc mounted?)");
            io::Error::new(error.kind(), text)
        })?;
        Ok((Self { child, calls: BufReader::new(UnixStream::from_std(ours)?), commands }, receiver))
    }

    /// How it has ended; `None`: it runs.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

/// `exit code 1`, `SIGKILL`
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal().and_then(|number| Signal::try_from(number).ok())) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => signal.as_str().to_owned(),
        (None, None) => status.to_string(),
    }
}

/// Whether a worker that has ended is followed by another.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    count: u64,
    failed_starts: u32,
    /// The present worker has come so far.
    serves: bool,
    /// Some worker has.
    has_served: bool,
    is_stopping: bool,
}

impl Restarts {
    /// How many workers have followed a crashed one.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn worker_serves(&mut self) {
        (self.serves, self.has_served, self.failed_starts) = (true, true, 0);
    }

    /// The next end is the last one.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// How long to wait before another worker is started; `None`: the process ends with this one.
    pub(super) fn after(&mut self, status: ExitStatus) -> Option<Duration> {
        // What keeps the first worker from serving is told to the operator who starts hookgate.
        if self.is_stopping || status.success() || !self.has_served {
            return None;
        }
        let has_served = std::mem::take(&mut self.serves);
        if !has_served {
            self.failed_starts += 1;
        }
        if self.failed_starts == MAX_FAILED_STARTS {
            return None;
        }
        self.count += 1;
        Some(match self.failed_starts.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => RESTART_DELAY * 2_u32.pow(doublings),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: i32 = 9;

    #[test]
    fn a_worker_that_has_served_is_replaced_at_once_and_however_often() {
        let mut restarts = Restarts::default();
        for count in 0..100 {
            restarts.worker_serves();
            assert_eq!(restarts.count(), count);
            assert_eq!(restarts.after(ExitStatus::from_raw(KILLED)), Some(Duration::ZERO));
        }
    }

    #[test]
    fn workers_that_never_serve_end_the_process_after_a_while() {
        let mut restarts = Restarts::default();
        restarts.worker_serves();
        let delays: Vec<_> =
            (0..MAX_FAILED_STARTS + 1).map(|_| restarts.after(ExitStatus::from_raw(KILLED))).collect();
        let expected = [0, 100, 200, 400, 800, 1600].map(|delay| Some(Duration::from_millis(delay)));
        assert_eq!(delays[..6], expected);
        assert_eq!(delays[6], None);
    }

    #[test]
    fn an_intended_end_is_the_end() {
        let failed = ExitStatus::from_raw(1 << 8);
        assert_eq!(Restarts::default().after(failed), None, "it never served");
        let mut restarts = Restarts::default();
        restarts.worker_serves();
        assert_eq!(restarts.after(ExitStatus::from_raw(0)), None);
        restarts.stop();
        assert_eq!(restarts.after(ExitStatus::from_raw(KILLED)), None);
    }
}
