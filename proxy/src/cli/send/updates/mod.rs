//! Bodies of deliveries, as Meta writes them.

mod composer;
mod messaging;
mod update;
mod whatsapp;

pub use composer::Composer;
pub use update::{Form, MAX_UPDATES, Product};
