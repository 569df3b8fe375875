mod admit;
mod atomic;
mod attempts;
mod frame;
mod maps;
mod socket;
mod sources;

pub use admit::{admit, admit_hidden};
pub use attempts::{begin_sweeps, completed};
pub use frame::Frame;
pub use maps::is_guarded;
pub use socket::Socket;
