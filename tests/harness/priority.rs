use anyhow::{Context, Result};
use rustix::process::{Pid, geteuid, setpriority_process};

/// Who gets a processor first. Measured is the proxy, not what else this machine does; attackers have machines of their own
/// on real networks, and must not take the proxy's.
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

/// Prefers a process that is measured to whatever else this machine does, as far as we may.
///
/// # Errors
/// It is gone.
pub fn prefer(pid: u32) -> Result<()> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.file_name().to_string_lossy().parse()?;
        setpriority_process(Pid::from_raw(thread), Priority::Measured.nice())
            .context("a thread's priority")?;
    }
    Ok(())
}
