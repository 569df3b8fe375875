//! CIDR networks, and which of them are Meta's.

mod network;

pub use network::{BadNetwork, Network};
