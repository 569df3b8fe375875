//! Pipes that carry content from socket to socket without its passing user space (splice(2)).

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe is to hold: the most that Linux gives anybody (`pipe-max-size`), since few large
/// moves cost a third of many small ones.
const PIPE_BYTES: usize = 1 << 20;
/// With less, copying is as good. Users who have many pipes already get no more than this, and then
/// 8 KiB (pipe(7)).
const LEAST_BYTES: usize = 64 * 1024;

/// Free pipes that are kept; each has two descriptors, which connections may need.
const MAX_FREE: usize = 4;

/// One that is lent while it holds content.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity: usize,
    filled: usize,
    made: Rc<Cell<usize>>,
}

impl Pipe {
    fn new(made: &Rc<Cell<usize>>) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let capacity = fcntl_setpipe_size(&writer, PIPE_BYTES).or_else(|_| fcntl_getpipe_size(&writer))?;
        if capacity < LEAST_BYTES {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        made.set(made.get().saturating_add(1));
        Ok(Self { reader, writer, capacity, filled: 0, made: Rc::clone(made) })
    }

    /// How many bytes it holds.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Moves up to `most` bytes into an empty pipe: then it is the socket that has no more, never
    /// the pipe that is full. Ready with 0 at the end of the input.
    ///
    /// Errors: `InvalidInput` where only a read can tell what is there; otherwise the socket's.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.filled, 0);
        let most = usize::try_from(most).map_or(self.capacity, |most| most.min(self.capacity));
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || transfer(from, &self.writer, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A record of the kernel's TLS that is no content, or not what it should be.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EINVAL | libc::EBADMSG | libc::EMSGSIZE)
                    ) =>
                {
                    return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                }
                moved => {
                    self.filled = *moved.as_ref().unwrap_or(&0);
                    return Poll::Ready(moved);
                }
            }
        }
    }

    /// Moves out what the socket takes.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || transfer(&self.reader, to, self.filled)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                moved => {
                    self.filled = self.filled.saturating_sub(*moved.as_ref().unwrap_or(&0));
                    return Poll::Ready(moved);
                }
            }
        }
    }
}

fn transfer(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.made.set(self.made.get().saturating_sub(1));
    }
}

/// The pipes of one worker.
pub struct Pipes {
    free: RefCell<Vec<Pipe>>,
    /// How many there are, lent ones included.
    made: Rc<Cell<usize>>,
    most: Cell<usize>,
}

impl Pipes {
    pub(super) fn new(most: usize) -> Self {
        Self { free: RefCell::default(), made: Rc::default(), most: Cell::new(most) }
    }

    /// An empty one; `None` when there are enough, or the system gives no more: then content is
    /// copied.
    pub fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.free.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.made.get() >= self.most.get() {
            return None;
        }
        let pipe = Pipe::new(&self.made);
        if pipe.is_err() {
            // No need to ask again for every piece of every body.
            self.most.set(self.made.get());
        }
        pipe.ok()
    }

    /// Takes one back; one that is not empty is closed.
    pub fn give(&self, pipe: Pipe) {
        let mut free = self.free.borrow_mut();
        if pipe.filled == 0 && free.len() < MAX_FREE {
            free.push(pipe);
        }
    }
}
