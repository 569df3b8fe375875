//! The pin folder: `/sys/fs/bpf/<pin>/` with a file a map, one for the program, and one a link.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hookgate_ebpf::{abi, diagnostic, event, kernel_drops, sampling, tc};
use tokio::time::Instant;

use super::answers;
use super::error::Error;
use super::interface::{Interface, Xdp};
use super::netdev::Device;
use crate::config::PinName;

pub const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

/// Settings last: they say that the others are complete.
pub const MAPS: [&str; 28] = [
    abi::COUNTERS,
    abi::PREFIXES_V4,
    abi::PREFIXES_V6,
    abi::ALLOWED_V4,
    abi::ALLOWED_V6,
    abi::PORTS,
    abi::ATTEMPTS_META,
    abi::ATTEMPTS_OTHER,
    abi::WAITING,
    abi::SWEEP,
    abi::UNTRACKED,
    abi::SEEN,
    abi::PROVEN,
    abi::STRANGERS,
    abi::BUCKETS,
    abi::DROPS,
    abi::ROWS,
    abi::REQUESTS,
    abi::TRANSPORT,
    abi::SOCKETS,
    kernel_drops::MAP,
    kernel_drops::LAYOUT,
    event::EVENTS,
    event::LOG_READER,
    event::LOG,
    diagnostic::DIAGNOSTICS,
    sampling::OCCUPANCY,
    abi::SETTINGS,
];
const PROGRAM: &str = "program";
const HANDSHAKES: &str = "handshakes";
const KERNEL_DROPS: &str = "kernel-drops";
const LINK: &str = "link-";
const REASON: &str = "reason-";

/// How long a hookgate that changes pins may keep others waiting: attaching takes some seconds,
/// where a driver resets.
const LOCK_TIMEOUT: Duration = Duration::from_secs(8);
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// Keeps other hookgates from changing pins until it is dropped.
///
/// Errors: another one has it, and does not let go.
#[expect(clippy::disallowed_methods, reason = "who changes pins does nothing else meanwhile")]
pub fn lock() -> Result<File, Error> {
    let magic = rustix::fs::statfs(BPFFS).map(|stat| stat.f_type);
    if magic != Ok(BPFFS_MAGIC) {
        return Err(Error::NoBpffs);
    }
    let failed = |source| Error::Folder { doing: "lock", path: BPFFS.into(), source };
    let folder = File::open(BPFFS).map_err(failed)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_INTERVAL),
            Err(TryLockError::WouldBlock) => return Err(Error::Locked),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn named(pin: &PinName) -> Self {
        Self { path: Path::new(BPFFS).join(&**pin) }
    }

    /// Every folder in which a hookgate may have pinned something.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir(BPFFS).into_iter().flatten().flatten();
        entries.map(|entry| Self { path: entry.path() }).collect()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn program(&self) -> PathBuf {
        self.path.join(PROGRAM)
    }

    /// The link of the program that is told of handshakes.
    pub fn handshakes(&self) -> PathBuf {
        self.path.join(HANDSHAKES)
    }

    /// The link of the program that is told of the kernel's drops.
    pub fn kernel_drops(&self) -> PathBuf {
        self.path.join(KERNEL_DROPS)
    }

    pub fn link(&self, interface: &Interface) -> PathBuf {
        self.path.join(link_name(interface))
    }

    /// Why an interface is in a worse mode than it might be.
    pub fn reason(&self, interface: &str) -> PathBuf {
        self.path.join(format!("{REASON}{}", escaped(interface)))
    }

    /// What holds the program on interfaces, alive or not.
    pub fn links(&self) -> Result<Vec<Interface>, Error> {
        Ok(self.names()?.iter().filter_map(|name| parse_link_name(name)).collect())
    }

    pub fn exists(&self) -> Result<bool, Error> {
        self.path.try_exists().map_err(self.failed("look into"))
    }

    pub fn has_program(&self) -> Result<bool, Error> {
        self.program().try_exists().map_err(self.failed("look into"))
    }

    pub fn create(&self) -> Result<(), Error> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(self.failed("create")(error)),
            _ => Ok(()),
        }
    }

    /// Removes a file if it is there.
    pub fn unlink(&self, file: &Path) -> Result<(), Error> {
        match fs::remove_file(file) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(Error::Folder { doing: "remove", path: file.into(), source })
            }
            _ => Ok(()),
        }
    }

    /// Removes what hookgate put there beside the links, and the folder. `released`: the interfaces
    /// whose links it held.
    ///
    /// Errors: also that other programs' files keep the folder; hookgate's are gone then.
    pub fn remove_without_links(&self, released: Vec<String>) -> Result<Vec<String>, Error> {
        let reasons = self.names()?.into_iter().filter(|name| name.starts_with(REASON));
        let programs = [PROGRAM, HANDSHAKES].into_iter().chain(tc::INCOMING);
        for name in MAPS.into_iter().chain(programs).map(str::to_owned).chain(reasons) {
            self.unlink(&self.path.join(name))?;
        }
        let foreign = self.names()?;
        if !foreign.is_empty() {
            return Err(Error::ForeignPins { folder: self.path.clone(), files: foreign, released });
        }
        fs::remove_dir(&self.path).map_err(self.failed("remove"))?;
        Ok(released)
    }

    /// Takes the program that sees what leaves off all interfaces, and removes its pins.
    pub fn remove_answers(&self, machine: &[Device]) -> Result<(), Error> {
        let machine: Vec<u32> = machine.iter().map(|device| device.index).collect();
        answers::Home::new(&self.path).remove(&machine).map_err(self.failed("remove links in"))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>),
        };
        let entries = entries.map_err(self.failed("read"))?;
        Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Folder { doing, path: path.clone(), source }
    }
}

/// `link-native-eth0%2E100`: interfaces may have dots in their names, files in bpffs may not.
fn link_name(interface: &Interface) -> String {
    format!("{LINK}{}-{}", interface.xdp, escaped(&interface.name))
}

fn escaped(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2E")
}

fn parse_link_name(file: &str) -> Option<Interface> {
    let (xdp, name) = file.strip_prefix(LINK)?.split_once('-')?;
    let xdp = Xdp::ALL.into_iter().find(|mode| mode.to_string() == xdp)?;
    Some(Interface { name: name.replace("%2E", ".").replace("%25", "%"), xdp, reason: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_are_files_that_bpffs_takes() {
        for (name, xdp, file) in [
            ("eth0", Xdp::Native, "link-native-eth0"),
            ("eth0.100", Xdp::Generic, "link-generic-eth0%2E100"),
            ("wg0", Xdp::Tc, "link-tc-wg0"),
            ("a-b%.2E", Xdp::Native, "link-native-a-b%25%2E2E"),
        ] {
            let interface = Interface { name: name.into(), xdp, reason: None };
            assert_eq!(link_name(&interface), file);
            assert_eq!(parse_link_name(file), Some(interface));
        }
        for other in ["program", "COUNTERS", "link-", "link-eth0", "link-odd-eth0"] {
            assert_eq!(parse_link_name(other), None, "{other}");
        }
    }
}
