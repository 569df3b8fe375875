//! One thread a core, each with its own runtime, connections and buffers: nothing that a request needs is
//! shared between cores.

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

use super::generation::{Door, Generation};
use super::listen::Listener;
use super::pulse::{Beat, Pulse};
use crate::datapath::{Life, Local, Protocol, Stage, serve};
use crate::observe::{Deliveries, Log};

/// How long accepting pauses when the process is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a listener says that it still cannot accept.
const ACCEPT_NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// The worker threads.
pub(super) struct Workers(Vec<oneshot::Receiver<usize>>);

impl Workers {
    /// Starts one for each beat. They serve with whatever is in `generations`.
    pub(super) fn start(
        pulse: &Pulse,
        generations: &watch::Receiver<Arc<Generation>>,
        life: &Life,
    ) -> io::Result<Self> {
        let start = |(index, beat)| Worker::start(index, beat, generations.clone(), life.clone());
        Ok(Self(pulse.beats().enumerate().map(start).collect::<Result<_, _>>()?))
    }

    /// Waits for all of them to end; returns how many connections they cut.
    pub(super) async fn finished(self) -> usize {
        let mut cut = 0;
        for worker in self.0 {
            // A worker that ended without a word has panicked, and the panic was reported.
            cut += worker.await.unwrap_or(0);
        }
        cut
    }
}

struct Worker {
    life: Life,
    active: Rc<Active>,
    local: Local,
}

/// A listener that this worker accepts from.
struct Accepting {
    task: JoinHandle<()>,
    /// What is spoken with whoever comes next.
    protocol: Rc<RefCell<Protocol>>,
    listener: Arc<Listener>,
}

impl Worker {
    fn start(
        index: usize,
        beat: Beat,
        generations: watch::Receiver<Arc<Generation>>,
        life: Life,
    ) -> io::Result<oneshot::Receiver<usize>> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().on_thread_park(Log::write_batch).build()?;
        let (say, finished) = oneshot::channel();
        thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let context = Arc::clone(&generations.borrow().context);
            context.log.batch_on_this_thread();
            #[cfg(feature = "count-allocations")]
            crate::sys::count_on_this_thread();
            Deliveries::use_part(index);
            let worker = Self { life, active: Rc::default(), local: Local::new(context) };
            let cut = worker.run(&runtime, beat, generations);
            // Nobody listens any more when the process is ending at once.
            let _ = say.send(cut);
        })?;
        Ok(finished)
    }

    fn run(self, runtime: &Runtime, beat: Beat, mut generations: watch::Receiver<Arc<Generation>>) -> usize {
        let tasks = LocalSet::new();
        let active = Rc::clone(&self.active);
        tasks.block_on(runtime, async move {
            let worker = Rc::new(self);
            let sweeper = Rc::clone(&worker);
            drop(spawn_local(async move { sweeper.local.sweep().await }));
            let giver = Rc::clone(&worker);
            drop(spawn_local(async move { giver.local.give_turns().await }));
            drop(spawn_local(beat.keep()));
            let mut accepting = Vec::new();
            let mut served = pin!(worker.life.reaches(Stage::Replaced));
            loop {
                let generation = Arc::clone(&generations.borrow_and_update());
                accepting = worker.adopt(&generation, accepting);
                drop(generation);
                tokio::select! {
                    // An error: there will be no other one, and the process is about to end.
                    Ok(()) = generations.changed() => {}
                    () = &mut served => break,
                }
            }
            // The tasks that accept end by themselves; with these the sockets are closed.
            drop(accepting);
            tokio::select! {
                () = worker.active.none() => {}
                () = worker.life.reaches(Stage::Ending) => {}
            }
        });
        // Dropping the tasks drops their connections.
        let cut = active.count.get();
        drop(tasks);
        Log::write_batch();
        cut
    }

    /// Serves with `generation` from now on: listeners that are there already go on, those that are no longer named end.
    fn adopt(self: &Rc<Self>, generation: &Generation, mut former: Vec<Accepting>) -> Vec<Accepting> {
        self.local.set_context(Arc::clone(&generation.context));
        let mut accepting = Vec::new();
        for Door { listener, protocol } in &generation.doors {
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
                        accepting.push(Accepting { task, protocol, listener: Arc::clone(listener) });
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

    /// Accepts while the process serves.
    async fn accept(self: Rc<Self>, listener: TcpListener, protocol: Rc<RefCell<Protocol>>) {
        let mut served = pin!(self.life.reaches(Stage::Replaced));
        let mut noted: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut served => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let protocol = protocol.borrow().clone();
                    // Counted at once: the process must not end between here and the task's first turn.
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
        // Without it an answer may wait for an acknowledgement; with an error the connection is dead already.
        let _ = tcp.set_nodelay(true);
        serve(tcp, peer, protocol, &self.local, self.life.clone()).await;
    }
}

/// Whether accepting can go on at once: the connection died before it was accepted (accept(2), "Error handling").
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
