//! When the steps of one client's handshake were.

use std::net::{IpAddr, SocketAddr};

use hookgate_ebpf::abi;
use hookgate_ebpf::attempt::{AFTER_COMPLETION, Attempt, AttemptKey};
use hookgate_ebpf::packet::Address;

use super::error::Error;
use super::maps::Maps;
use super::pins::Folder;
use crate::config::PinName;
use crate::observe::KernelTimes;

/// Of a client whose handshake was completed a moment ago. `None`: it is not followed, or not any
/// more.
///
/// Errors: no permission, or maps of another layout.
pub fn handshake_times(pin: &PinName, client: SocketAddr) -> Result<Option<KernelTimes>, Error> {
    let maps = Maps::read_only(&Folder::named(pin))?;
    let address = match client.ip().to_canonical() {
        IpAddr::V4(v4) => Address::V4(v4.octets()),
        IpAddr::V6(v6) => Address::V6(v6.octets()),
    };
    let is_clients = |key: &AttemptKey| key.source == address.mapped() && key.source_port == client.port();
    let mut latest: Option<Attempt> = None;
    for name in [abi::ATTEMPTS_META, abi::ATTEMPTS_OTHER] {
        for (key, attempt) in maps.entries::<AttemptKey, Attempt>(name)? {
            let is_later = latest.is_none_or(|latest| latest.begun < attempt.begun);
            if is_clients(&key) && attempt.phase == Attempt::COMPLETED && is_later {
                latest = Some(attempt);
            }
        }
    }
    Ok(latest.map(|attempt| KernelTimes {
        syn: attempt.begun,
        syn_ack: attempt.answered,
        established: attempt.deadline.saturating_sub(AFTER_COMPLETION),
    }))
}
