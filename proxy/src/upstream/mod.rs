//! The way to an upstream: name, addresses, connection, TLS.

pub mod addresses;
mod dial;
mod directory;
pub mod dns;
mod error;
mod pool;
mod tls;

pub use dial::connect;
pub use directory::{BadUpstream, Directory, Upstream};
pub use dns::Dns;
pub use error::ConnectError;
pub use pool::Pool;
