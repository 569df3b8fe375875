//! Idle connections to upstreams, one pool a worker: nothing here is shared between cores.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::net::Stream;

/// The most idle connections that one upstream may have in one worker.
const MOST_IDLE: usize = 256;
/// How often connections that have been idle for too long are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How often a connection is looked at that has something to say: a few session tickets are well meant.
const MOST_LOOKS: usize = 4;

/// Idle connections by upstream's serial, the most recently used one last: what was connected under one configuration does
/// not serve another.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
    filled: Notify,
}

struct Idle {
    stream: Stream,
    expires: Instant,
}

impl Pool {
    /// A connection to the upstream with that serial that was alive a moment ago: the most recently used one, so that the pool
    /// shrinks to what is needed.
    pub async fn take(&self, upstream: u64) -> Option<Stream> {
        loop {
            let Idle { mut stream, expires } = self.pop(upstream)?;
            if Instant::now() < expires && is_alive(&mut stream).await {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection for `age` at most, if there is room.
    pub fn keep(&self, upstream: u64, stream: Stream, age: Duration) {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(upstream).or_default();
        if connections.len() < MOST_IDLE {
            connections.push(Idle { stream, expires: Instant::now() + age });
            self.filled.notify_one();
        }
    }

    /// Closes what has been idle for too long, for ever.
    pub async fn sweep(&self) {
        loop {
            if self.idle.borrow().is_empty() {
                self.filled.notified().await;
            }
            sleep(SWEEP_INTERVAL).await;
            let now = Instant::now();
            self.idle.borrow_mut().retain(|_, connections| {
                connections.retain(|idle| now < idle.expires);
                !connections.is_empty()
            });
        }
    }

    fn pop(&self, upstream: u64) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let Entry::Occupied(mut connections) = idle.entry(upstream) else { return None };
        connections.get_mut().pop()
    }
}

/// Whether the upstream has neither closed nor said anything. The kernel is asked, since the runtime learns of
/// a close only when it next polls.
async fn is_alive(stream: &mut Stream) -> bool {
    for _ in 0..MOST_LOOKS {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match socket2::SockRef::from(stream.tcp()).peek(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            // It may be a session ticket, which reading takes out of the way.
            Ok(1..) if matches!(stream, Stream::Tls(_)) => {
                let mut byte = [0];
                let mut to = ReadBuf::new(&mut byte);
                let read = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_read(cx, &mut to))).await;
                if read.is_ready() {
                    return false;
                }
                yield_now().await;
            }
            // Over plaintext nothing may come before a request.
            Ok(_) | Err(_) => return false,
        }
    }
    false
}
