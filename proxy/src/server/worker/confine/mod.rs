//! What the worker can still ask of the kernel: what serving takes. seccomp refuses every other
//! call; Landlock refuses a second time, as far as the kernel has it.

mod calls;

use std::fmt;
use std::thread;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetError, RulesetStatus, Scope,
};

/// What Landlock keeps from the worker, by the version that brought it.
const GRANTS: [(ABI, &str, &str); 3] = [
    (ABI::V1, "files", "5.13"),
    (ABI::V4, "TCP ports", "6.7"),
    (ABI::V6, "signals and abstract sockets", "6.12"),
];

/// How far a thread is confined.
#[derive(Debug)]
pub struct Confinement {
    /// Why there is no Landlock; otherwise the kernel's version of it.
    landlock: Result<ABI, String>,
    /// Why seccomp does not restrict the calls.
    calls: Result<(), String>,
}

/// The worker would not be confined as `[process] confine` requires.
#[derive(Debug, thiserror::Error)]
#[error("[process] confine = \"required\": {0}; use another kernel, or confine = \"auto\"")]
pub struct ConfinementError(String);

impl Confinement {
    /// Confines this thread, and those that it will start, as far as the kernel can.
    pub(in crate::server) fn enter() -> Self {
        if cfg!(records_profile) {
            // It writes a file when it ends: `cargo xtask profile`.
            let why = || "this build records a profile".to_owned();
            return Self { landlock: Err(why()), calls: Err(why()) };
        }
        let landlock = restrict_files().map_err(|error| error.to_string()).and_then(granted);
        Self { landlock, calls: calls::restrict().map_err(|error| error.to_string()) }
    }

    /// What this kernel grants, found out by a thread that ends afterwards.
    pub fn probe() -> Self {
        let unknown = || "the thread that tried it has panicked".to_owned();
        let probe = || Self { landlock: Err(unknown()), calls: Err(unknown()) };
        thread::spawn(Self::enter).join().unwrap_or_else(|_| probe())
    }

    /// What is missing, a sentence each.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if let Err(error) = &self.calls {
            gaps.push(format!("seccomp does not restrict the system calls of the worker: {error}"));
        }
        let (what, why) = match &self.landlock {
            Err(error) => ("files, TCP ports, signals and abstract sockets".to_owned(), error.clone()),
            Ok(abi) => {
                let missing = GRANTS.iter().filter(|(since, ..)| abi < since);
                let missing = missing.map(|(_, what, version)| format!("{what} (Linux {version})"));
                (missing.collect::<Vec<_>>().join(", "), "this kernel's Landlock is older".to_owned())
            }
        };
        if !what.is_empty() {
            let rest = match self.calls {
                Ok(()) => "seccomp refuses the calls for it",
                Err(_) => "nothing else does",
            };
            gaps.push(format!("Landlock does not keep the worker from {what}: {why}; {rest}"));
        }
        gaps
    }

    /// Errors: Landlock or seccomp is missing altogether.
    pub fn ensure_required(&self) -> Result<(), ConfinementError> {
        let gaps = || Err(ConfinementError(self.gaps().join("; ")));
        if self.landlock.is_err() || self.calls.is_err() { gaps() } else { Ok(()) }
    }
}

/// What holds.
impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.calls.is_ok().then(|| "seccomp (system calls)".to_owned());
        let landlock = self.landlock.as_ref().ok().map(|abi| {
            let granted = GRANTS.iter().filter(|(since, ..)| abi >= since).map(|(_, what, _)| *what);
            format!("Landlock ({})", granted.collect::<Vec<_>>().join(", "))
        });
        let both = calls.into_iter().chain(landlock).collect::<Vec<_>>();
        f.write_str(if both.is_empty() { "nothing" } else { "" })?;
        f.write_str(&both.join(", "))
    }
}

/// No file is named, so none can be opened; no TCP port can be bound, and no process outside be
/// signalled.
fn restrict_files() -> Result<RestrictionStatus, RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(ABI::V6))?;
    ruleset.create()?.restrict_self()
}

fn granted(status: RestrictionStatus) -> Result<ABI, String> {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
            Ok(effective_abi)
        }
        LandlockStatus::NotEnabled => Err("it is off: add it to `lsm=` on the kernel's command line".into()),
        _ => Err("this kernel has no Landlock, Linux 5.13".into()),
    }
}

#[cfg(test)]
mod tests;
