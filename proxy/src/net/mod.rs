//! Sockets and buffers.

mod buffer;
mod socket;
mod stream;

pub use buffer::{Buffer, Buffers};
pub use socket::Socket;
pub use stream::Stream;
