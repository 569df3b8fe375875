mod admit;
mod answers;
mod atomic;
mod attempts;
mod frame;
mod log;
mod maps;
mod outgoing;
mod socket;
mod sources;

pub use admit::{admit, admit_hidden};
pub use answers::answered;
pub use attempts::{begin_sweeps, completed};
pub use frame::Frame;
pub use log::unparsed;
pub use maps::is_guarded;
pub use outgoing::Outgoing;
pub use socket::Socket;
