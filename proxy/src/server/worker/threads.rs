//! One thread a core, each with its own runtime, connections and buffers. Shared between cores are
//! atomic counters, and what a reload replaces.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use super::generation::{BoundListener, Generation};
use super::watchdog::{Heartbeat, Watchdog};
use crate::datapath::{Lifecycle, Protocol, Stage, Worker, serve};
use crate::observe::{Deliveries, Log};
use crate::server::listen::Listener;

/// How long accepting pauses when the process is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a listener says that it still cannot accept.
const ACCEPT_NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// The worker threads.
pub(super) struct WorkerThreads(Vec<oneshot::Receiver<usize>>);

impl WorkerThreads {
    /// Starts one for each heartbeat. They serve with what is in `generations`.
    pub(super) fn start(
        watchdog: &Watchdog,
        generations: &watch::Receiver<Arc<Generation>>,
        lifecycle: &Lifecycle,
    ) -> io::Result<Self> {
        let start = |(index, heartbeat)| {
            WorkerThread::start(index, heartbeat, generations.clone(), lifecycle.clone())
        };
        Ok(Self(watchdog.heartbeats().enumerate().map(start).collect::<Result<_, _>>()?))
    }

    /// Waits for all of them to end; returns how many connections they cut.
    pub(super) async fn finished(self) -> usize {
        let mut cut = 0;
        for worker in self.0 {
            // An error: the thread panicked; tokio has already reported it.
            cut += worker.await.unwrap_or(0);
        }
        cut
    }
}

struct WorkerThread {
    lifecycle: Lifecycle,
    active: Rc<Active>,
    local: Worker,
}

/// Accepts from one listener.
struct AcceptTask {
    task: JoinHandle<()>,
    /// The protocol for new connections.
    protocol: Rc<RefCell<Protocol>>,
    listener: Arc<Listener>,
}

impl WorkerThread {
    fn start(
        index: usize,
        heartbeat: Heartbeat,
        generations: watch::Receiver<Arc<Generation>>,
        lifecycle: Lifecycle,
    ) -> io::Result<oneshot::Receiver<usize>> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().on_thread_park(Log::write_batch).build()?;
        let (report, finished) = oneshot::channel();
        thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let context = Arc::clone(&generations.borrow().context);
            context.log.batch_on_this_thread();
            #[cfg(feature = "count-allocations")]
            crate::sys::count_on_this_thread();
            Deliveries::use_part(index);
            let worker = Self { lifecycle, active: Rc::default(), local: Worker::new(context) };
            let cut = worker.run(&runtime, heartbeat, generations);
            // An error: the process is ending at once.
            let _ = report.send(cut);
        })?;
        Ok(finished)
    }

    fn run(
        self,
        runtime: &Runtime,
        heartbeat: Heartbeat,
        mut generations: watch::Receiver<Arc<Generation>>,
    ) -> usize {
        let tasks = LocalSet::new();
        let active = Rc::clone(&self.active);
        tasks.block_on(runtime, async move {
            let worker = Rc::new(self);
            let sweeper = Rc::clone(&worker);
            drop(spawn_local(async move { sweeper.local.sweep().await }));
            let giver = Rc::clone(&worker);
            drop(spawn_local(async move { giver.local.give_turns().await }));
            drop(spawn_local(heartbeat.run()));
            let mut accepting = Vec::new();
            let mut served = pin!(worker.lifecycle.reached(Stage::Replaced));
            loop {
                let generation = Arc::clone(&generations.borrow_and_update());
                accepting = worker.adopt(&generation, accepting);
                drop(generation);
                tokio::select! {
                    // An error: the process is about to end.
                    Ok(()) = generations.changed() => {}
                    () = &mut served => break,
                }
            }
            // The accept tasks end by themselves; this closes the sockets.
            drop(accepting);
            tokio::select! {
                () = worker.active.none() => {}
                () = worker.lifecycle.reached(Stage::Ending) => {}
            }
        });
        // Dropping the tasks drops their connections.
        let cut = active.count.get();
        drop(tasks);
        Log::write_batch();
        cut
    }

    /// Serves with `generation` from now on: listeners that it keeps go on, others end.
    fn adopt(self: &Rc<Self>, generation: &Generation, mut former: Vec<AcceptTask>) -> Vec<AcceptTask> {
        self.local.set_context(Arc::clone(&generation.context));
        let mut accepting = Vec::new();
        for BoundListener { listener, protocol } in &generation.listeners {
            let same = former.iter().position(|one| Arc::ptr_eq(&one.listener, listener));
            match same.map(|at| former.swap_remove(at)) {
                Some(one) => {
                    *one.protocol.borrow_mut() = protocol.clone();
                    accepting.push(one);
                }
                None => match listener.share().and_then(TcpListener::from_std) {
                    Ok(socket) => {
                        let protocol = Rc::new(RefCell::new(protocol.clone()));
                        let task = spawn_local(Rc::clone(self).accept(socket, Rc::clone(&protocol)));
                        accepting.push(AcceptTask { task, protocol, listener: Arc::clone(listener) });
                    }
                    Err(error) => {
                        generation.context.log.note(&format!("cannot accept on {listener}: {error}"));
                    }
                },
            }
        }
        for one in former {
            one.task.abort();
        }
        accepting
    }

    /// Accepts connections while the worker serves.
    async fn accept(self: Rc<Self>, listener: TcpListener, protocol: Rc<RefCell<Protocol>>) {
        let mut served = pin!(self.lifecycle.reached(Stage::Replaced));
        let mut noted: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut served => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let protocol = protocol.borrow().clone();
                    // Counted at once: the process must not end before the task runs first.
                    let counted = Counted::new(&self.active);
                    drop(spawn_local(Rc::clone(&self).serve(tcp, peer, protocol, counted)));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    if noted.is_none_or(|at| at.elapsed() >= ACCEPT_NOTE_INTERVAL) {
                        noted = Some(Instant::now());
                        self.local.context().log.note(&format!("cannot accept connections for now: {error}"));
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Rc<Self>, tcp: TcpStream, peer: SocketAddr, protocol: Protocol, _counted: Counted) {
        // Else a response may wait for an acknowledgement. An error: the connection is dead
        // already.
        let _ = tcp.set_nodelay(true);
        serve(tcp, peer, protocol, &self.local, self.lifecycle.clone()).await;
    }
}

/// Whether accepting can go on at once: the connection died before it was accepted (accept(2),
/// "Error handling").
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The connections of one worker.
#[derive(Default)]
struct Active {
    count: Cell<usize>,
    changed: Notify,
}

impl Active {
    /// Returns when there is none.
    async fn none(&self) {
        while self.count.get() > 0 {
            self.changed.notified().await;
        }
    }
}

/// One connection's place in the count.
struct Counted(Rc<Active>);

impl Counted {
    fn new(active: &Rc<Active>) -> Self {
        active.count.set(active.count.get() + 1);
        Self(Rc::clone(active))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.changed.notify_one();
    }
}
