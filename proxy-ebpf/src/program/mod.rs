mod admit;
mod answers;
mod atomic;
mod attempts;
mod frame;
mod maps;
mod outgoing;
mod socket;
mod sources;
mod transport;

pub use admit::{admit, admit_hidden};
pub use answers::answered;
pub use attempts::{begin_sweeps, completed};
pub use frame::Frame;
pub use maps::is_guarded;
pub use outgoing::Outgoing;
pub use socket::Socket;
pub use transport::{retransmitted, timed_out};
