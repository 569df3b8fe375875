use tokio::sync::watch;

/// The stages of a worker's life, in order; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Serving,
    /// Another process has taken the listeners over: each connected client gets one more response.
    Replaced,
    /// Requests under way finish; no other begins.
    Draining,
    /// Requests under way are cut.
    Ending,
}

/// The stage, observed from any number of tasks.
#[derive(Clone)]
pub struct Lifecycle(watch::Receiver<Stage>);

impl Lifecycle {
    pub fn new(stage: watch::Receiver<Stage>) -> Self {
        Self(stage)
    }

    pub fn has_reached(&self, stage: Stage) -> bool {
        *self.0.borrow() >= stage
    }

    /// Returns when `stage` is reached.
    pub fn reached(&self, stage: Stage) -> impl Future<Output = ()> + use<> {
        let mut now = self.0.clone();
        async move {
            // An error: the sender is gone, and every stage is over.
            let _ = now.wait_for(|now| *now >= stage).await;
        }
    }
}
