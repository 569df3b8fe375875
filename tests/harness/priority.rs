use anyhow::{Context, Result};
use rustix::process::{Pid, geteuid, setpriority_process};

/// Who of a test's processes and threads gets a processor first. On real networks attackers have
/// machines of their own, and must not take the proxy's time.
#[derive(Clone, Copy)]
pub(crate) enum Priority {
    Measured,
    Attacker,
}

impl Priority {
    /// Only root may go below 0.
    fn nice(self) -> i32 {
        let base = if geteuid().is_root() { -10 } else { 0 };
        match self {
            Self::Measured => base,
            Self::Attacker => base + 10,
        }
    }

    /// For this thread, and those that it starts.
    pub(crate) fn take(self) -> Result<()> {
        setpriority_process(None, self.nice()).context("a thread's priority")
    }
}

/// Prefers a process that is measured to attackers.
///
/// # Errors
/// It is gone.
pub fn prefer(pid: u32) -> Result<()> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.file_name().to_string_lossy().parse()?;
        // It may have ended in the meantime.
        let _ = setpriority_process(Pid::from_raw(thread), Priority::Measured.nice());
    }
    Ok(())
}
