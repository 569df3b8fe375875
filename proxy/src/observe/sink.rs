use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, write};
use rustix::net::{SendFlags, send};
use rustix::pipe::{PIPE_BUF, fcntl_setpipe_size};

use super::Counter;

/// What a pipe is made to hold, the most that the kernel allows everybody: 3 s of lines at 1,000
/// requests a second.
const PIPE_BYTES: usize = 1 << 20;

/// How many bytes of lines that must not be lost wait for room.
const MAX_WAITING_BYTES: usize = 256 << 10;

/// Standard error, written to without ever waiting for its reader: an unread log must not stop a
/// message. Lines that find no room are lost, and counted. Lines that must not be lost wait, and so
/// does the rest of a line that was begun.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    state: Mutex<State>,
    /// Whether there is something in `state`.
    is_behind: AtomicBool,
    /// All that were lost, ever.
    pub(super) lost_lines: Counter,
}

#[derive(Debug, Default)]
struct State {
    /// The end of a line that went out in part, and whole lines that wait for room.
    waiting: Vec<u8>,
    /// Lines that were lost since that was last said.
    lost: u64,
}

#[derive(Debug)]
enum Target {
    /// A file, which has always room or fails.
    File,
    /// A pipe or terminal, opened once more: its own O_NONBLOCK does not concern those who share
    /// it.
    NonBlocking(OwnedFd),
    /// A pipe or terminal that cannot be opened anew, since it belongs to another user. It is asked
    /// for room first.
    Polled,
    /// The journal's socket.
    Socket,
}

impl Sink {
    pub(super) fn standard_error() -> Self {
        let kind = fstat(std::io::stderr()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let target = match kind {
            Ok(FileType::Socket) => Target::Socket,
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                // A terminal has no such size, and a pipe may be larger already.
                let _ = fcntl_setpipe_size(std::io::stderr(), PIPE_BYTES);
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                open("/proc/self/fd/2", flags, Mode::empty()).map_or(Target::Polled, Target::NonBlocking)
            }
            Ok(_) | Err(_) => Target::File,
        };
        Self::new(target)
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            state: Mutex::default(),
            is_behind: AtomicBool::new(false),
            lost_lines: Counter::default(),
        }
    }

    /// Whether lines were lost and it was not said, or something waits for room.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Writes whole lines, in one call where there is room, so that lines of several threads do not
    /// mix. `kept` is where in `lines` those lie that must not be lost; `note` makes the line that
    /// says how many were lost before.
    pub(super) fn lines(&self, lines: &[u8], kept: &[Range<usize>], note: impl FnOnce(u64) -> Vec<u8>) {
        let mut state = self.state();
        let taken = match self.write_waiting(&mut state.waiting) {
            true if state.lost == 0 => self.write(lines, &mut state.waiting),
            true => self.write_after(&note(state.lost), lines, &mut state),
            false => 0,
        };
        let mut lost = lines[taken..].iter().filter(|byte| **byte == b'\n').count();
        for line in kept.iter().filter(|line| line.start >= taken) {
            if state.waiting.len() + line.len() <= MAX_WAITING_BYTES {
                state.waiting.extend_from_slice(&lines[line.clone()]);
                lost -= 1;
            }
        }
        state.lost += lost as u64;
        self.lost_lines.add(lost as u64);
        self.is_behind.store(state.lost > 0 || !state.waiting.is_empty(), Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits for room; whether that is all written.
    fn write_waiting(&self, waiting: &mut Vec<u8>) -> bool {
        let written = self.write_most(waiting);
        waiting.drain(..written);
        waiting.is_empty()
    }

    /// Writes `note`, which says what was lost, and `lines` after it; how many bytes of `lines` are
    /// taken care of.
    fn write_after(&self, note: &[u8], lines: &[u8], state: &mut State) -> usize {
        let taken = self.write(&[note, lines].concat(), &mut state.waiting);
        if taken >= note.len() {
            state.lost = 0;
        }
        taken.saturating_sub(note.len())
    }

    /// Writes lines while there is room; the end of one that was begun goes to `waiting`. Returns
    /// how many bytes are taken care of, always whole lines.
    fn write(&self, lines: &[u8], waiting: &mut Vec<u8>) -> usize {
        let written = self.write_most(lines);
        let is_between_lines = written == 0 || lines[written - 1] == b'\n';
        if is_between_lines {
            return written;
        }
        let end = lines[written..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(lines.len(), |at| written + at + 1);
        waiting.extend_from_slice(&lines[written..end]);
        end
    }

    /// Writes while there is room; how many bytes that were.
    fn write_most(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_some(&bytes[written..]) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        written
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.target {
            Target::File => write(std::io::stderr(), bytes),
            Target::NonBlocking(file) => write(file.as_fd(), bytes),
            // A pipe that says it has room has it for PIPE_BUF bytes.
            Target::Polled if has_room(std::io::stderr().as_fd())? => {
                write(std::io::stderr(), &bytes[..bytes.len().min(PIPE_BUF)])
            }
            Target::Polled => Err(Errno::AGAIN),
            Target::Socket => send(std::io::stderr(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        }
    }
}

fn has_room(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut files = [PollFd::new(&file, PollFlags::OUT)];
    poll(&mut files, Some(&Timespec::default()))?;
    Ok(files[0].revents().contains(PollFlags::OUT))
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::slice::from_ref;

    use super::*;

    fn note(lost: u64) -> Vec<u8> {
        format!("{lost} lost\n").into_bytes()
    }

    fn pipe() -> (PipeReader, Sink) {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        (reader, Sink::new(Target::NonBlocking(writer.into())))
    }

    #[test]
    fn a_pipe_without_a_reader_loses_whole_lines_and_says_how_many() {
        for length in [999, 1000, 5000] {
            let (mut reader, sink) = pipe();
            let line = format!("{}\n", "x".repeat(length));
            for _ in 0..100 {
                sink.lines(line.repeat(3).as_bytes(), &[], note);
            }
            assert!(sink.is_behind() && sink.state().lost > 0, "a pipe has room for 64 KiB");
            let mut read = vec![0; 1 << 16];
            let count = reader.read(&mut read).unwrap();
            sink.lines(b"", &[], note);
            assert!(!sink.is_behind());
            sink.lines(b"after\n", &[], note);
            drop(sink);
            let mut all = String::from_utf8(read[..count].to_vec()).unwrap();
            reader.read_to_string(&mut all).unwrap();
            let whole = all.lines().filter(|own| *own == line.trim_end()).count();
            let said = all.lines().filter_map(|own| own.strip_suffix(" lost")?.parse::<usize>().ok());
            let (said, times) = said.fold((0, 0), |(sum, times), lost| (sum + lost, times + 1));
            assert_eq!(whole + said, 300, "{said} were said to be lost");
            assert_eq!(all.lines().count(), whole + times + 1, "no line is torn");
            assert!(all.ends_with(" lost\nafter\n"), "{all}");
        }
    }

    #[test]
    fn what_must_not_be_lost_waits_in_bounded_memory() {
        let (mut reader, sink) = pipe();
        let line = |word: &str| format!("{word}{}\n", "x".repeat(994));
        let (failed, delivered) = (line("fail "), line("fine "));
        let lines = [&*delivered, &*failed, &*delivered].concat();
        let kept = delivered.len()..delivered.len() + failed.len();
        for _ in 0..1000 {
            sink.lines(lines.as_bytes(), from_ref(&kept), note);
        }
        assert!(sink.state().waiting.len() <= MAX_WAITING_BYTES + failed.len());
        let mut all = String::new();
        while sink.is_behind() {
            let mut bytes = vec![0; 1 << 16];
            let count = reader.read(&mut bytes).unwrap();
            all += std::str::from_utf8(&bytes[..count]).unwrap();
            sink.lines(b"", &[], note);
        }
        drop(sink);
        reader.read_to_string(&mut all).unwrap();
        let count = |line: &str| all.lines().filter(|own| *own == line.trim_end()).count();
        let said = all.lines().filter_map(|own| own.strip_suffix(" lost")?.parse::<usize>().ok());
        assert!((MAX_WAITING_BYTES / 1000 - 1..1000).contains(&count(&failed)), "{}", count(&failed));
        assert_eq!(count(&failed) + count(&delivered) + said.sum::<usize>(), 3000);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_reason_to_wait() {
        let (reader, sink) = pipe();
        drop(reader);
        sink.lines(b"a\nb\n", &[], note);
        assert_eq!(sink.state().lost, 2);
    }
}
