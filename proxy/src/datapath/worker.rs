//! What the connections of one worker thread share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::context::{Context, WorkerContext};
use super::scratch::ScratchPool;
use super::strangers::StrangersTime;
use crate::net::{Buffers, Limits, StrangersHandshakes};
use crate::prefixes::Class;
use crate::upstream::Pool;

/// What a worker spends on content on its way, beyond a buffer for each connection that has
/// something in it: at most 0.6 MiB of free small buffers, as much in large ones, and 16 MiB of the
/// kernel's in pipes.
const MEMORY: Limits = Limits { free: 32, large: 8, pipes: 16 };

/// What the connections of one worker share.
pub struct Worker {
    /// Counted for this worker alone: each request takes it.
    context: RefCell<Rc<WorkerContext>>,
    pub(super) pool: Pool,
    pub(super) buffers: Rc<Buffers>,
    pub(super) scratch_pool: ScratchPool,
    pub(super) strangers: StrangersHandshakes,
    pub(super) strangers_time: StrangersTime,
}

impl Worker {
    pub fn new(context: Arc<Context>) -> Self {
        let context = RefCell::new(WorkerContext::new(context));
        let buffers = Buffers::new(MEMORY);
        let (pool, scratch_pool, strangers, strangers_time) = Default::default();
        Self { context, pool, buffers, scratch_pool, strangers, strangers_time }
    }

    /// What the next request is served with.
    pub fn context(&self) -> Rc<WorkerContext> {
        Rc::clone(&self.context.borrow())
    }

    /// Looks after idle connections to upstreams, for ever.
    pub async fn sweep(&self) {
        self.pool.sweep(|| Arc::clone(&self.context().dns)).await;
    }

    /// Gives strangers their turns, in TLS handshakes and in all that comes behind, for ever.
    pub async fn give_turns(&self) {
        tokio::join!(self.strangers.give_turns(|| self.is_shared()), self.strangers_time.give());
    }

    /// Whether a client is connected that is no stranger.
    pub(super) fn is_shared(&self) -> bool {
        let context = self.context();
        let connected = |class| context.admission.count(class) > 0;
        connected(Class::Meta) || connected(Class::Allowed)
    }

    /// From now on requests are served with another.
    pub fn set_context(&self, context: Arc<Context>) {
        *self.context.borrow_mut() = WorkerContext::new(context);
    }
}
