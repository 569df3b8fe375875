//! Sockets and buffers.

mod ask;
mod buffer;
mod socket;
mod stream;
mod tcp;

pub use ask::{Answer, NoAnswer, ask};
pub use buffer::{Buffer, Buffers};
pub use socket::Socket;
pub use stream::Stream;
pub use tcp::Tcp;
