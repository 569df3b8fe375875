//! Which share of the attempts is followed, where not all are.

use hookgate_ebpf::abi;
use hookgate_ebpf::sampling::{self, Class};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::reader::Reader;

/// Attempts of one class, of which not all are followed. Those of networks that have completed a
/// handshake, and of allowed ones, are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    pub class: AttemptClass,
    /// The share of all other sources whose attempts are.
    pub share: f64,
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptClass {
    Meta,
    Other,
}

/// The classes of which that is so.
pub fn sampled(reader: &Reader) -> Result<Vec<Sampled>, Error> {
    let mut sampled = Vec::new();
    for class in Class::ALL {
        let (named, capacity) = match class {
            Class::Meta => (AttemptClass::Meta, abi::ATTEMPTS_META_CAPACITY),
            Class::Other => (AttemptClass::Other, abi::ATTEMPTS_OTHER_CAPACITY),
        };
        let [entries, since] = reader.maps.element::<[u64; 2]>(sampling::OCCUPANCY, class as u32)?;
        let halvings = sampling::halvings(entries, capacity.into());
        if halvings > 0
            && let Some(since) = reader.clock.wall_time(since)
        {
            let share = 1.0 / f64::from(1u32 << halvings.min(u32::BITS - 1));
            sampled.push(Sampled { class: named, share, since });
        }
    }
    Ok(sampled)
}
