use tokio::sync::watch;

/// How far the process has come. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Serving,
    /// Another process has taken the listeners over: whoever is connected here may ask once more.
    Replaced,
    /// What is under way finishes; nothing else begins.
    Draining,
    /// What is under way is cut.
    Ending,
}

/// The process's life, seen from any number of tasks.
#[derive(Clone)]
pub struct Life(watch::Receiver<Stage>);

impl Life {
    pub fn new(stage: watch::Receiver<Stage>) -> Self {
        Self(stage)
    }

    pub fn has_reached(&self, stage: Stage) -> bool {
        *self.0.borrow() >= stage
    }

    /// Returns when `stage` is reached.
    pub fn reaches(&self, stage: Stage) -> impl Future<Output = ()> + use<> {
        let mut now = self.0.clone();
        async move {
            // An error means that the server is gone, and that every stage is over.
            let _ = now.wait_for(|now| *now >= stage).await;
        }
    }
}
