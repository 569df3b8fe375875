//! Files that a configuration names: read from the disk, or through whoever may read them.

mod disk;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

pub use disk::{Disk, DiskState, create_anew, open, open_below};

/// Reads what a configuration names. May block.
pub trait Access: fmt::Debug + Send + Sync {
    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The machine's own root certificates.
    fn roots(&self) -> io::Result<MachineRoots>;

    /// A folder whose files outlive the process.
    fn state(&self, folder: PathBuf) -> Box<dyn State>;
}

/// The machine's root certificates that can be read.
#[derive(Debug, Default)]
pub struct MachineRoots {
    pub certificates: Vec<CertificateDer<'static>>,
    /// What is wrong with the file that holds them.
    pub fault: Option<String>,
}

impl MachineRoots {
    /// No certificate, because of `fault`.
    pub fn none(fault: String) -> Self {
        Self { certificates: Vec::new(), fault: Some(fault) }
    }
}

/// A folder whose files outlive the process: nobody else reads them, and each is replaced as a whole. May block.
pub trait State: Send + Sync {
    /// Makes the folder, and that one above it, where they are missing.
    fn prepare(&self) -> io::Result<()>;

    /// `None`: there is no such file.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The old file, or the new one, whatever happens on the way.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// The file of that name in every folder beside this one that can be read.
    fn beside(&self, name: &str) -> io::Result<Vec<Vec<u8>>>;

    /// Nobody else holds it until this is closed.
    ///
    /// Errors: [`io::ErrorKind::WouldBlock`] while somebody does.
    fn lock(&self) -> io::Result<OwnedFd>;
}
