use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, write};
use rustix::net::{SendFlags, send};

/// Standard error, written to without ever waiting for whoever reads it: a log that nobody reads must not stop
/// a message. Lines that find no room are lost, and counted.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    lost: AtomicU64,
    /// The last line went out in part.
    torn: AtomicBool,
}

#[derive(Debug)]
enum Target {
    /// A file, which has always room or fails; or what cannot be opened anew.
    AsItIs,
    /// A pipe or terminal, opened once more: its own O_NONBLOCK does not concern those who share it.
    NonBlocking(OwnedFd),
    /// The journal's socket.
    Socket,
}

impl Sink {
    pub(super) fn standard_error() -> Self {
        let kind = fstat(std::io::stderr()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let target = match kind {
            Ok(FileType::Socket) => Target::Socket,
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                open("/proc/self/fd/2", flags, Mode::empty()).map_or(Target::AsItIs, Target::NonBlocking)
            }
            Ok(_) | Err(_) => Target::AsItIs,
        };
        Self { target, lost: AtomicU64::new(0), torn: AtomicBool::new(false) }
    }

    /// Writes whole lines, in one call where there is room, so that lines of several threads do not mix.
    pub(super) fn lines(&self, lines: &[u8]) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let torn = self.torn.swap(false, Ordering::Relaxed);
        if lost == 0 && !torn {
            return self.write(lines, lines, (lost, torn));
        }
        let end = if torn { "\n" } else { "" };
        let mut told = format!("{end}{lost} lines of the log were lost: nobody was reading\n").into_bytes();
        told.extend_from_slice(lines);
        self.write(&told, lines, (lost, torn));
    }

    /// `bytes` ends in `lines`; `untold`: what was lost and torn before, which `bytes` begins by telling.
    fn write(&self, bytes: &[u8], lines: &[u8], untold: (u64, bool)) {
        let mut left = bytes;
        while !left.is_empty() {
            match self.write_some(left) {
                Ok(count) => left = &left[count..],
                Err(Errno::INTR) => {}
                Err(_) => {
                    let unwritten = &lines[lines.len().saturating_sub(left.len())..];
                    let mut lost = unwritten.iter().filter(|b| **b == b'\n').count() as u64;
                    let mut torn = true;
                    if left.len() == bytes.len() {
                        (lost, torn) = (lost + untold.0, untold.1);
                    }
                    self.lost.fetch_add(lost, Ordering::Relaxed);
                    self.torn.fetch_or(torn, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.target {
            Target::AsItIs => write(std::io::stderr(), bytes),
            Target::NonBlocking(file) => write(file.as_fd(), bytes),
            Target::Socket => send(std::io::stderr(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_loses_lines_and_says_so() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let sink = Sink {
            target: Target::NonBlocking(writer.into()),
            lost: AtomicU64::new(0),
            torn: AtomicBool::new(false),
        };
        let line = format!("{}\n", "x".repeat(999));
        for _ in 0..100 {
            sink.lines(line.as_bytes());
        }
        let lost = sink.lost.load(Ordering::Relaxed);
        assert!((30..100).contains(&lost), "a pipe has room for 64 KiB: {lost}");
        let mut read = vec![0; 1 << 16];
        let count = reader.read(&mut read).unwrap();
        let whole = read[..count].split(|b| *b == b'\n').filter(|line| line.len() == 999).count() as u64;
        sink.lines(b"after\n");
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(
            rest.ends_with(&format!("{lost} lines of the log were lost: nobody was reading\nafter\n")),
            "{rest}"
        );
        assert_eq!(whole + lost, 100);
    }
}
