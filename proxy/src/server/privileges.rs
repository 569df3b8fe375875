//! What the worker may do: serve, and nothing else.

use std::io;

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

use crate::config::Config;

/// Whom the worker becomes, where it can be somebody else and nobody is configured: the first that is there.
const USERS: [&str; 2] = ["hookgate-worker", "nobody"];

/// What the parent does besides the guard: ports below 1024, the worker's user, a successor's end, and, for root, files of
/// other users.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH);
/// The guard's; a kernel's own cgroup2 hierarchy may have to be mounted.
const KEPT_FOR_GUARD: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_ADMIN);

/// Why the process does not start with less.
#[derive(Debug, thiserror::Error)]
pub enum BadUser {
    #[error(
        "[process] user = {name:?}: there is no such user on this machine: create it, or leave `user` out"
    )]
    Unknown { name: String },
    #[error("[process] user = {name:?}: cannot look it up: {error}")]
    Lookup { name: String, error: nix::Error },
    #[error(
        "[process] user = {name:?}: cannot become it: {error}: only root can; start as root, or leave `user` out"
    )]
    Become { name: String, error: nix::Error },
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] io::Error),
}

/// Whom the worker becomes; `None`: it stays who it is, as it can't be anybody else.
///
/// Errors: the configured user is not there.
pub fn worker_user(config: &Config) -> Result<Option<User>, BadUser> {
    if let Some(name) = &config.process.user {
        let user = find(name)?;
        return user.map(Some).ok_or_else(|| BadUser::Unknown { name: name.clone() });
    }
    let permitted = capabilities(None).map_err(io::Error::from)?.permitted;
    if !permitted.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        return Ok(None);
    }
    for name in USERS {
        if let Some(user) = find(name)? {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

fn find(name: &str) -> Result<Option<User>, BadUser> {
    User::from_name(name).map_err(|error| BadUser::Lookup { name: name.into(), error })
}

/// Becomes `user` and gives up every capability, also for whatever this process may execute. For the calling thread alone:
/// to be called before there is another.
pub(super) fn give_up(user: Option<&User>) -> Result<(), BadUser> {
    let io = |error: rustix::io::Errno| io::Error::from(error);
    if let Some(user) = user.filter(|user| user.uid != geteuid()) {
        become_user(user).map_err(|error| BadUser::Become { name: user.name.clone(), error })?;
    }
    clear_ambient_capability_set().map_err(io)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(io)?;
    set_no_new_privs(true).map_err(io)?;
    // To become another user has set it to `fs.suid_dumpable`.
    Ok(keep_memory_private()?)
}

/// Gives up what the parent will not need any more, also for whatever it may execute. For the calling thread alone, as
/// [`give_up`].
pub(super) fn keep_what_is_needed(config: &Config) -> io::Result<()> {
    let needed = if config.guard.is_some() { KEPT | KEPT_FOR_GUARD } else { KEPT };
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
    let kept = CapabilitySets {
        effective: effective & needed,
        permitted: permitted & needed,
        inheritable: inheritable & needed,
    };
    set_capabilities(None, kept)?;
    Ok(set_no_new_privs(true)?)
}

/// Keeps this process's memory, and with it keys and messages, from core files and from other processes of its user.
pub(super) fn keep_memory_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn become_user(user: &User) -> nix::Result<()> {
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    initgroups(&name, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)
}
