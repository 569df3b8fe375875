use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{pace, wait_until};

/// A process that ends when this value does: SIGTERM, and SIGKILL after [`GRACE`]. Should *we* be
/// killed, the kernel kills it (`PR_SET_PDEATHSIG`, which counts the thread that started it).
pub struct Running {
    name: String,
    child: Child,
    stderr: Arc<Mutex<String>>,
    ended: Option<ExitStatus>,
}

const GRACE: Duration = Duration::from_secs(10);

impl Running {
    /// Starts `command` with its standard error kept for [`Running::stderr`].
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(command: Command) -> Result<Self> {
        Self::start_into(command, Stdio::null())
    }

    /// The same, with its standard output going to `stdout`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_into(command: Command, stdout: Stdio) -> Result<Self> {
        let mut running = Self::spawn(command, stdout, Stdio::piped())?;
        if let Some(pipe) = running.child.stderr.take() {
            let kept = running.stderr.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push_str(&String::from_utf8_lossy(&line));
                    kept.push('\n');
                }
            });
        }
        Ok(running)
    }

    /// Starts `command` with its standard output and error going to `log`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_logged(command: Command, log: File) -> Result<Self> {
        let stdout = log.try_clone().context("sharing a log file")?;
        Self::spawn(command, stdout.into(), log.into())
    }

    /// Starts `command` with our own standard output and error.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_aloud(command: Command) -> Result<Self> {
        Self::spawn(command, Stdio::inherit(), Stdio::inherit())
    }

    fn spawn(command: Command, stdout: Stdio, stderr: Stdio) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = wrapped("setpriv", &["--pdeathsig", "KILL", "--"], &command)
            .process_group(0) // Ctrl-C is for us alone, who then end it in order
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {name} through setpriv (util-linux)"))?;
        Ok(Self { name, child, stderr: Arc::default(), ended: None })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far; empty after [`Running::start_logged`] and
    /// [`Running::start_aloud`].
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// # Errors
    /// The line has not come within `limit`, or the process ended before it.
    pub fn wait_for_stderr(&mut self, text: &str, limit: Duration) -> Result<()> {
        let condition = format!("{} says {text:?}", self.name);
        let said = wait_until(condition, limit, || {
            // Looked at first: it may say it with its last words.
            let is_said = self.stderr().contains(text);
            if !is_said {
                self.still_running()?;
            }
            Ok(is_said)
        });
        said.map(drop).with_context(|| format!("it said:\n{}", self.stderr()))
    }

    /// The exit status, once it has ended.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("waiting for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// # Errors
    /// It has ended; the error holds what it said.
    pub fn still_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.stderr()),
        }
    }

    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ensure!(self.ended.is_none(), "{} has ended", self.name);
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("not a process id")?;
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// Ends it in order, as systemd would, and says how it went.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        let condition = format!("{} ends after SIGTERM", self.name);
        if wait_until(condition, GRACE, || Ok(self.ended()?.is_some())).is_err() {
            self.child
                .kill()
                .and_then(|()| self.child.wait())
                .with_context(|| format!("killing {}", self.name))?;
            bail!("{} took no notice of SIGTERM for {GRACE:?} and was killed:\n{}", self.name, self.stderr());
        }
        self.ended()?.context("ended without a status")
    }
}

/// A process that is stopped for as long as this value is there.
pub struct Stopped(Pid);

impl Stopped {
    /// # Errors
    /// It is gone, or goes on.
    pub fn new(pid: u32) -> Result<Self> {
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
        kill_process(process, Signal::STOP).with_context(|| format!("stopping process {pid}"))?;
        let stopped = Self(process);
        let is_stopped = || Ok(std::fs::read_to_string(format!("/proc/{pid}/status"))?.contains("(stopped)"));
        wait_until(format!("process {pid} is stopped"), GRACE, is_stopped)?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Random moments at which to kill a process.
pub struct Moments {
    random: u32,
    within: Duration,
}

impl Moments {
    pub fn within(within: Duration) -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        Self { random: seed ^ std::process::id(), within }
    }

    fn pick(&mut self) -> Duration {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.within.mul_f64(f64::from(self.random >> 8) / f64::from(1 << 24))
    }

    /// Waits for the next one.
    pub fn pass(&mut self) {
        pace(self.pick());
    }
}

/// Whether a process runs: one that has ended, and was not waited for, does not. Each of its
/// threads is looked at: the first may have ended, and others still hold its listeners.
pub fn is_there(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything, comes the state (proc_pid_stat(5)).
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        let stopped = self.stop();
        if std::thread::panicking() {
            // What a failed test's reader wants to know.
            eprintln!("--- {} said:\n{}", self.name, self.stderr());
        }
        if let Err(e) = stopped {
            let _ = writeln!(std::io::stderr(), "{e:#}");
        }
    }
}

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// It can't be started or fails; the error holds what it said.
pub fn run(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}:\n{stderr}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` with `input` on its standard input, and returns its standard output.
///
/// # Errors
/// It can't be started or fails; it has said why itself.
pub fn run_with_input(mut command: Command, input: &[u8]) -> Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let mut stdin = child.stdin.take().context("a process without input")?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        let written = writer.join().map_err(|_| anyhow!("writing to {command:?}"))?;
        written.with_context(|| format!("writing to {command:?}"))?;
        Ok(output.stdout)
    })
}

/// `command` as the last arguments of `program`, which is one that becomes the program it is given.
pub fn wrapped(program: &str, args: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(args).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(key, value),
            None => outer.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        outer.current_dir(dir);
    }
    outer
}

/// Runs `command` with our own standard output and error.
///
/// # Errors
/// It can't be started or fails; it has said why itself.
pub fn run_aloud(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    let args = command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
    ensure!(status.success(), "{} {args}: {status}", command.get_program().display());
    Ok(())
}

/// Whether a program is installed.
pub fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Users other than root often lack sbin, where nginx and others lie.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(name).is_file())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
