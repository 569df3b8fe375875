//! Frames in a file that tcpdump, tshark and Wireshark read: pcap with nanoseconds.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;

const NANOSECONDS: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
const ETHERNET: u32 = 1;
/// Packets may hold secrets.
const MODE: u32 = 0o600;

pub(super) struct Pcap<W: Write>(W);

impl Pcap<BufWriter<File>> {
    /// Errors: there is a file, or a link, of this name already.
    pub(super) fn create(path: &Path, snap_bytes: u32) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
        Self::begin(BufWriter::new(file), snap_bytes)
    }
}

impl<W: Write> Pcap<W> {
    /// `snap_bytes`: the most that is kept of a frame.
    fn begin(mut to: W, snap_bytes: u32) -> io::Result<Self> {
        to.write_all(&NANOSECONDS.to_ne_bytes())?;
        for number in VERSION {
            to.write_all(&number.to_ne_bytes())?;
        }
        for number in [0, 0, snap_bytes, ETHERNET] {
            to.write_all(&number.to_ne_bytes())?;
        }
        Ok(Self(to))
    }

    /// A frame of `bytes` bytes, of which `start` was kept.
    pub(super) fn write(&mut self, time: Timestamp, bytes: u32, start: &[u8]) -> io::Result<()> {
        // Seconds are unsigned and end in 2106.
        let seconds = u32::try_from(time.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(time.subsec_nanosecond()).unwrap_or(0);
        for number in [seconds, nanoseconds, start.len() as u32, bytes] {
            self.0.write_all(&number.to_ne_bytes())?;
        }
        self.0.write_all(start)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_its_owners_alone_and_no_link_is_followed() {
        let dir = std::env::temp_dir().join(format!("hookgate-pcap-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let [file, link, victim] = ["file", "link", "victim"].map(|name| dir.join(name));
        symlink(&victim, &link).unwrap();
        Pcap::create(&file, 128).unwrap().flush().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&file).unwrap().len(), 24);
        for taken in [&file, &link] {
            assert_eq!(Pcap::create(taken, 128).err().map(|e| e.kind()), Some(io::ErrorKind::AlreadyExists));
        }
        assert!(!victim.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
