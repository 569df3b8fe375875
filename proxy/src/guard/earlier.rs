use std::fmt;
use std::os::fd::OwnedFd;

use super::error::Error;
use super::interface::{Interface, in_words};
use super::maps::Maps;
use super::pins::Folder;
use super::{attachment, policy};
use crate::config::{Mode, PinName};
use crate::prefixes::Network;

/// A guard that an earlier start has left, and that goes on.
pub struct EarlierGuard {
    pub interfaces: Vec<Interface>,
    pub mode: Option<Mode>,
    /// As [`super::Attached::funnel`] and [`super::Attached::rows`], where its maps are of this
    /// version's layout.
    pub maps: Option<(OwnedFd, Vec<(Network, u32)>)>,
}

/// To what it is attached.
impl fmt::Display for EarlierGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guard of an earlier start goes on, attached to {}", in_words(&self.interfaces))?;
        self.mode.map_or(Ok(()), |mode| write!(f, ", mode {mode}"))
    }
}

/// The guard that is attached, by this process or another; `None`: there is none.
///
/// Errors: no permission to look.
pub fn earlier(pin: &PinName) -> Result<Option<EarlierGuard>, Error> {
    let folder = Folder::named(pin);
    let interfaces = attachment::attached(&folder)?;
    if interfaces.is_empty() {
        return Ok(None);
    }
    let maps = Maps::writable(&folder).ok();
    let mode = maps.as_ref().and_then(|maps| policy::mode(maps.settings().ok()?.mode));
    let maps = maps.and_then(|maps| Some((maps.funnel().ok()?, maps.numbered().ok()?)));
    Ok(Some(EarlierGuard { interfaces, mode, maps }))
}
