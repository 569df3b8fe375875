//! CIDR networks, and which of them are Meta's.

mod list;
mod network;
mod table;

pub use list::{BadLine, BadList, FileError};
pub use network::{BadNetwork, Network};
pub use table::Table;
