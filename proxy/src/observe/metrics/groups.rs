use crate::observe::counter::{Counter, used};

/// Completed handshakes by the group in which keys were agreed on.
#[derive(Debug, Default)]
pub struct Groups {
    of: [Counter; NAMES.len()],
    /// Of sessions that were resumed without a key exchange.
    none: Counter,
}

/// Those that hookgate offers, by their names in IANA's registry.
const NAMES: [&str; 4] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];

impl Groups {
    pub fn count(&self, group: Option<&str>) {
        let known = NAMES.iter().zip(&self.of).find(|(name, _)| Some(**name) == group);
        known.map_or(&self.none, |(_, counter)| counter).add(1);
    }

    /// Those that were used.
    pub fn used(&self) -> impl Iterator<Item = (&'static str, u64)> {
        used(NAMES.into_iter().zip(&self.of).chain([("none", &self.none)]))
    }
}
