//! Sockets and buffers.

// Peers decide most lengths here.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing))]

mod account;
mod buffer;
mod handshakes;
pub mod http_client;
mod kernel;
mod pipe;
mod session;
mod socket;
mod sources;
mod stream;

pub use account::Account;
pub use buffer::{Buffer, Buffers, Limits, Size};
pub use handshakes::{QueueFull, StrangersHandshakes};
pub use kernel::control;
pub use kernel::{KernelSession, KernelTls, NoKernelTls};
pub use pipe::Pipe;
pub use session::{PassError, Session};
pub use socket::Socket;
pub use sources::{SourceCounts, SourcePlace, is_private, source_of};
pub use stream::Stream;
