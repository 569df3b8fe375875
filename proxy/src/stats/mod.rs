//! What is known of every prefix, kernel and user space joined: one document, which `hookgate stats
//! --json` prints, the admin socket serves, and tables and metrics are made of.

mod document;
mod exposition;
mod live;
mod total;
mod window;

pub use document::{Counts, Document, Funnel, Guard, HiddenSources, Interface, Prefix, Seen, State, Step};
pub use exposition::{expose, lost_attempts};
pub use live::{Interval, Live, Whose, rows};
