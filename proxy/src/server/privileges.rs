//! What this process may do after it has started: as little as it can serve with.

use std::io;

use nix::unistd::{User, initgroups, setgid, setuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};

/// What stays where it was there: listeners below port 1024 may change while the proxy runs.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

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

/// The user that `name` means; `None` for the one who started the process.
pub fn find(name: Option<&str>) -> Result<Option<User>, BadUser> {
    let Some(name) = name else { return Ok(None) };
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(BadUser::Unknown { name: name.into() }),
        Err(error) => Err(BadUser::Lookup { name: name.into(), error }),
    }
}

/// Becomes `user` and gives up every capability but [`KEPT`], also for whatever this process may execute. For the
/// calling thread alone: to be called before there is another.
pub(super) fn give_up(user: Option<&User>) -> Result<(), BadUser> {
    let io = |error: rustix::io::Errno| io::Error::from(error);
    let held = capabilities(None).map_err(io)?.permitted & KEPT;
    if let Some(user) = user.filter(|user| user.uid != nix::unistd::geteuid()) {
        set_keep_capabilities(true).map_err(io)?;
        become_user(user).map_err(|error| BadUser::Become { name: user.name.clone(), error })?;
    }
    clear_ambient_capability_set().map_err(io)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: held, permitted: held, inheritable: none })
        .map_err(io)?;
    Ok(set_no_new_privs(true).map_err(io)?)
}

fn become_user(user: &User) -> nix::Result<()> {
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    initgroups(&name, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)
}
