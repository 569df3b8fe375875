//! What the worker may do: serve, and nothing else; and what is left to its supervisor.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Group, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

use serde::{Deserialize, Serialize};

use crate::config::{Config, Guard};

/// The package's user for the worker.
const PACKAGED_USER: &str = "hookgate-worker";
/// The worker's user and group where the machine has no user for it: neither Debian (Policy §9.2.2)
/// nor systemd (UIDS-GIDS.md) assigns it, and no other program uses it, unlike user 65534.
const UNNAMED_ID: u32 = 65_530;
/// Whose members may use the command line's socket.
const ADMIN_GROUP: &str = "hookgate-admin";
/// Daemons without a group of their own share it.
const SHARED_GROUP: &str = "nogroup";

/// What the supervisor does besides the guard: ports below 1024, the worker's user, a successor's
/// end, and, for root, files of other users.
const SUPERVISOR_CAPABILITIES: CapabilitySet = CapabilitySet::NET_BIND_SERVICE
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH);
/// The guard's; a kernel's own cgroup2 hierarchy may have to be mounted.
const GUARD_CAPABILITIES: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_ADMIN);

/// The user that the worker runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerUser {
    /// `None`: the ids belong to no user.
    name: Option<String>,
    uid: u32,
    gid: u32,
}

/// Why the process does not start with less.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error(
        "[process] user = {name:?}: there is no such user on this machine: create it, or leave `user` out"
    )]
    Unknown { name: String },
    #[error("[process] user = {name:?}: cannot look it up: {error}")]
    Lookup { name: String, error: nix::Error },
    #[error("cannot look up who has the id {UNNAMED_ID}: {0}")]
    LookupId(nix::Error),
    #[error(
        "the worker would take the id {UNNAMED_ID}, which belongs to {owner:?}: create the user \
         {PACKAGED_USER} (`useradd --system --shell /usr/sbin/nologin {PACKAGED_USER}`), or name another in [process] user"
    )]
    IdTaken { owner: String },
    #[error("cannot become {user}: {error}: only root can; start as root, or leave [process] user out")]
    Become { user: String, error: nix::Error },
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] io::Error),
}

/// The user that the worker runs as; `None`: the supervisor's, since it can't change users.
///
/// Errors: the configured user does not exist, or the id for a machine without one is in use.
pub fn worker_user(config: &Config) -> Result<Option<WorkerUser>, UserError> {
    if let Some(name) = &config.process.user {
        let user = find(name)?;
        return user.map(Some).ok_or_else(|| UserError::Unknown { name: name.clone() });
    }
    let permitted = capabilities(None).map_err(io::Error::from)?.permitted;
    if !permitted.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        return Ok(None);
    }
    match find(PACKAGED_USER)? {
        Some(user) => Ok(Some(user)),
        None => unnamed(UNNAMED_ID).map(Some),
    }
}

fn find(name: &str) -> Result<Option<WorkerUser>, UserError> {
    let user = User::from_name(name).map_err(|error| UserError::Lookup { name: name.into(), error })?;
    Ok(user.map(|User { name, uid, gid, .. }| WorkerUser {
        name: Some(name),
        uid: uid.as_raw(),
        gid: gid.as_raw(),
    }))
}

/// Errors: `id` belongs to a user or group.
fn unnamed(id: u32) -> Result<WorkerUser, UserError> {
    let user = User::from_uid(id.into()).map_err(UserError::LookupId)?.map(|user| user.name);
    let group = Group::from_gid(id.into()).map_err(UserError::LookupId)?.map(|group| group.name);
    match user.or(group) {
        Some(owner) => Err(UserError::IdTaken { owner }),
        None => Ok(WorkerUser { name: None, uid: id, gid: id }),
    }
}

/// Becomes `user` and gives up every capability, also for whatever this process may execute. For
/// the calling thread alone: to be called before there is another.
pub(super) fn give_up(user: Option<&WorkerUser>) -> Result<(), UserError> {
    if let Some(user) = user.filter(|user| user.uid != geteuid().as_raw()) {
        let name = || user.name.clone().unwrap_or_else(|| format!("the user with the id {}", user.uid));
        become_user(user).map_err(|error| UserError::Become { user: name(), error })?;
    }
    let none = CapabilitySet::empty();
    clear_ambient_capability_set().map_err(io::Error::from)?;
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(io::Error::from)?;
    set_no_new_privs(true).map_err(io::Error::from)?;
    // To become another user has set it to `fs.suid_dumpable`.
    Ok(keep_memory_private()?)
}

/// The group that may use the command line's socket: `hookgate-admin`, or else that of the
/// configured user; `None`: the parent's.
pub(super) fn admin_group(config: &Config, user: Option<&WorkerUser>) -> nix::Result<Option<Gid>> {
    if let Some(group) = Group::from_name(ADMIN_GROUP)? {
        return Ok(Some(group.gid));
    }
    let Some(user) = user.filter(|_| config.process.user.is_some()) else { return Ok(None) };
    let group = Group::from_gid(user.gid.into())?;
    Ok(group.filter(|group| group.name != SHARED_GROUP).map(|group| group.gid))
}

/// Gives up what the supervisor will not need any more, also for whatever it may execute. For the
/// calling thread alone, as [`give_up`].
pub(super) fn keep_what_is_needed(config: &Config) -> io::Result<()> {
    let has_guard = config.guard.as_ref().is_some_and(Guard::is_attached);
    let needed =
        if has_guard { SUPERVISOR_CAPABILITIES | GUARD_CAPABILITIES } else { SUPERVISOR_CAPABILITIES };
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
    let kept = CapabilitySets {
        effective: effective & needed,
        permitted: permitted & needed,
        inheritable: inheritable & needed,
    };
    set_capabilities(None, kept)?;
    Ok(set_no_new_privs(true)?)
}

/// Keeps this process's memory, and with it keys and messages, from core files and from other
/// processes of its user.
pub(super) fn keep_memory_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn become_user(user: &WorkerUser) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    match &user.name {
        Some(name) => initgroups(&CString::new(name.as_str()).map_err(|_| nix::Error::EINVAL)?, gid)?,
        None => setgroups(&[gid])?,
    }
    setgid(gid)?;
    setuid(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_somebodys_is_refused() {
        let root = unnamed(0).unwrap_err();
        assert!(root.to_string().contains("belongs to \"root\": create the user hookgate-worker"), "{root}");
        assert_eq!(unnamed(UNNAMED_ID).unwrap().name, None);
    }

    #[test]
    fn nobodys_group_is_not_given_the_socket() {
        let text = "[listen]\nplain = [\"127.0.0.1:1\"]\n[process]\nuser = \"nobody\"\n";
        let config = Config::parse(std::path::Path::new("hookgate.toml"), text).unwrap();
        if let Some(unprivileged) = find("nobody").unwrap() {
            let group = admin_group(&config, Some(&unprivileged)).unwrap();
            let name = group.and_then(|group| Group::from_gid(group).unwrap()).map(|group| group.name);
            assert!(name.as_deref().is_none_or(|name| name == ADMIN_GROUP), "{name:?}");
        }
    }
}
