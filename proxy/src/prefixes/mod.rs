//! CIDR networks, and which of them are Meta's: as built in, and as the routing registry says.

mod classifier;
mod cover;
mod list;
mod network;
mod refresh;
mod registered;
mod rpsl;
mod special;
mod state;
mod table;

pub use classifier::{Class, Classifier, CounterIndex, Source};
pub use cover::Family;
pub use list::{BadLine, BadList, BadPrefix, FileError};
pub use network::{BadNetwork, Network};
pub use refresh::{BadRefresh, Before, Changes, PrefixState, Refresh, Violation};
pub use registered::{BadAnswer, BadObject, LeftOut, ObjectError, QUERY, Registered, ThirdParty};
pub use state::{BadState, StateFault};
pub use table::Table;
