//! The program that is told of completed handshakes: on the root of the cgroup hierarchy, through a
//! pinned link of its own. Without it the guard counts everything else.

use std::os::fd::AsFd as _;
use std::path::Path;

use aya::programs::CgroupAttachMode;
use aya::programs::links::FdLink;

use super::error::Error;
use super::maps::Continuity;
use super::pins::Folder;
use super::program::Program;
use super::{cgroup, fdinfo};
use crate::sys::bpf;

/// Attached; goes with this value unless it is pinned.
pub struct Attachment(Option<FdLink>);

/// Puts the program in the place of the pinned link's, without a gap, where it counts in the same
/// maps; or attaches it anew, beside that.
///
/// Errors: no cgroup2, or a kernel that refuses.
pub fn attach(program: &mut Program, folder: &Folder, counters: Continuity) -> Result<Attachment, Error> {
    program.begin_sweeps()?;
    let sock_ops = program.load_handshakes()?;
    if counters == Continuity::Kept
        && let Ok(pinned) = bpf::open_link(&folder.handshakes())
    {
        let fd = sock_ops.fd().map_err(|error| Error::from_loading(error.into()))?;
        if bpf::update_link(pinned.as_fd(), fd.as_fd()).is_ok() {
            return Ok(Attachment(None));
        }
    }
    // A link leaves room for other programs, and takes no flags to say so.
    let link = sock_ops.attach(cgroup::root()?, CgroupAttachMode::Single);
    let link = link.and_then(|id| sock_ops.take_link(id)).map_err(Error::Cgroup)?;
    FdLink::try_from(link).map(|link| Attachment(Some(link))).map_err(|_| Error::NoLinks)
}

impl Attachment {
    pub fn pin(self, folder: &Folder) -> Result<(), Error> {
        let Some(link) = self.0 else { return Ok(()) };
        let path = folder.handshakes();
        folder.unlink(&path)?;
        link.pin(&path).map(|_| ()).map_err(|source| Error::Pin { path, source })
    }
}

/// Why a guard that is attached does not count them; `None`: it does.
pub fn why_uncounted(folder: &Folder) -> Result<Option<Error>, Error> {
    let path = folder.handshakes();
    match path.try_exists() {
        Ok(true) => Ok(has_lost_its_cgroup(&path).then_some(Error::CgroupGone)),
        Ok(false) => Ok(Some(cgroup::root().err().unwrap_or(Error::HandshakesRefused))),
        Err(source) => Err(Error::Folder { doing: "look for", path, source }),
    }
}

/// Whether the kernel has detached a pinned link because its cgroup, a container's for example, is
/// gone.
fn has_lost_its_cgroup(link: &Path) -> bool {
    let id = bpf::open_link(link).and_then(|link| fdinfo::field(link.as_fd(), "cgroup_id"));
    id.is_ok_and(|id| id.as_deref() == Some("0"))
}
