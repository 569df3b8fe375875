//! Files that a configuration names: read from the disk, or through the process that may.

mod disk;
mod replace;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use disk::{Disk, DiskState, open, open_below, read_state};
pub use replace::{folder_of, replace};

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

/// A folder whose files outlive the process: no other process reads them, and each is replaced as a
/// whole. May block.
pub trait State: Send + Sync {
    /// Makes the folder, and that one above it, where they are missing.
    fn prepare(&self) -> io::Result<()>;

    /// `None`: there is no such file.
    fn read(&self, file: StateFile) -> io::Result<Option<Zeroizing<Vec<u8>>>>;

    /// The old file, or the new one, whatever happens on the way.
    ///
    /// Errors: also beyond [`MAX_STATE_BYTES`].
    fn replace(&self, file: StateFile, bytes: &[u8]) -> io::Result<()>;

    /// [`StateFile::Certificate`] of every folder beside this one that can be read.
    fn certificates_beside(&self) -> io::Result<Vec<Zeroizing<Vec<u8>>>>;

    /// No other process holds it until this is closed.
    ///
    /// Errors: [`io::ErrorKind::WouldBlock`] while another one does.
    fn lock(&self) -> io::Result<OwnedFd>;
}

/// A file of [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateFile {
    /// A key and its chain, PEM.
    Certificate,
    /// An authority's account and its key, JSON.
    Account,
    /// How asking the authority has gone, JSON.
    Attempts,
}

impl StateFile {
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate.pem",
            Self::Account => "account.json",
            Self::Attempts => "attempts.json",
        }
    }
}

/// The most that one file of [`State`] takes: twice what an authority's answer may have.
pub const MAX_STATE_BYTES: usize = 128 << 10;
