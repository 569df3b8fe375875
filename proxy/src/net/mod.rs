//! Sockets and buffers.

mod ask;
mod buffer;
mod session;
mod socket;
mod stream;

pub use ask::{Answer, NoAnswer, ask};
pub use buffer::{Buffer, Buffers};
pub use session::Session;
pub use socket::Socket;
pub use stream::Stream;
