//! The way to an upstream: name, addresses, connection, TLS.

pub mod addresses;
mod dial;
mod directory;
pub mod dns;
mod error;
mod in_flight;
mod keep_alive;
mod pool;
mod slot;
mod tls;
mod usage;

pub use dial::{connect, connect_to_any};
pub use directory::{BadUpstream, Directory, Upstream};
pub use dns::{Dns, RESOLV_CONF};
pub use error::ConnectError;
pub use pool::{Checkout, Pool, Wanted};
pub use slot::InFlightSlot;
pub use tls::{Manner, client_config_and_ca, client_config_of};
pub use usage::Usage;
