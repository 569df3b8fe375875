//! What is configured, written into the maps: who is Meta, who is allowed, which ports, which mode.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use aya::maps::{MapError, PerCpuValues};
use aya::util::nr_cpus;
use hookgate_ebpf::abi::{self, Counters, Requests, Settings};
use hookgate_ebpf::block;
use hookgate_ebpf::limit::Limit;
use hookgate_ebpf::packet::Address;
use hookgate_ebpf::senders::Senders;
use hookgate_ebpf::transport::Transport;
use jiff::Timestamp;

use super::error::Error;
use super::kernel_drops;
use super::maps::Maps;
use super::rows::{self, Known};
use crate::config::{self, Mode};
use crate::prefixes::{Network, Table};

impl Maps {
    /// Errors: more is configured than there is room for. Nothing has changed then.
    pub fn ensure_room(&self, config: &config::Guard, prefixes: &Table) -> Result<(), Error> {
        rows::changes(&self.rows()?, prefixes, self.capacity()?)
            .ok_or(Error::TooManyPrefixes(prefixes.len()))?;
        match distinct(&config.allow).len() {
            count if count > abi::ALLOWED_MOST as usize => Err(Error::TooManyAllowed(count)),
            _ => Ok(()),
        }
    }

    /// Puts in force what is configured. Networks that pass are added before others are dropped:
    /// the mode is last.
    pub fn set(&mut self, config: &config::Guard, prefixes: &Table) -> Result<(), Error> {
        self.set_ports(&config.ports)?;
        self.set_prefixes(prefixes)?;
        self.set_allowed(&config.allow)?;
        let limit = Limit::new(config.limit.syn_per_second, config.limit.burst);
        self.change_settings(|settings| Settings { mode: number(config.mode), limit, ..settings })
    }

    /// The network namespace whose handshakes the kernel's TCP reports; `None`: they are not
    /// counted.
    pub fn set_netns(&mut self, cookie: Option<u64>) -> Result<(), Error> {
        self.change_settings(|settings| Settings { netns: cookie.unwrap_or(0), ..settings })
    }

    /// Whether attempts that begin from now on can be classified when they fail.
    pub fn set_sees_answers(&mut self, sees_answers: bool) -> Result<(), Error> {
        self.change_settings(|settings| Settings { sees_answers: sees_answers.into(), ..settings })
    }

    /// Fresh maps become valid, and counting begins.
    pub fn begin(&mut self, now: Timestamp) -> Result<(), Error> {
        let since = now.as_second().max(0).unsigned_abs();
        self.change_settings(|settings| Settings { version: abi::VERSION, since, ..settings })
    }

    fn set_ports(&mut self, ports: &[u16]) -> Result<(), Error> {
        let mut words = [0u64; abi::PORT_WORDS as usize];
        for port in ports.iter().copied().map(u32::from) {
            words[(port / abi::PORTS_PER_WORD) as usize] |= 1 << (port % abi::PORTS_PER_WORD);
        }
        let mut map = self.array_mut(abi::PORTS)?;
        for (index, word) in (0..).zip(words) {
            map.set(index, word, 0).map_err(Error::map(abi::PORTS))?;
        }
        Ok(())
    }

    /// What comes in is there before what goes is gone, so that no address of a prefix that stays
    /// is ever a stranger's. Whatever an earlier run that was killed has left half done is
    /// completed: all prefixes enter the tries, not only those that are new, and what is in the
    /// tries beside them leaves.
    pub fn set_prefixes(&mut self, prefixes: &Table) -> Result<(), Error> {
        let known = self.rows()?;
        let changes = rows::changes(&known, prefixes, self.capacity()?)
            .ok_or(Error::TooManyPrefixes(prefixes.len()))?;
        // While generations are odd, the program looks each packet up and remembers nothing.
        self.change_settings(|settings| Settings {
            generation_v4: settings.generation_v4 | 1,
            generation_v6: settings.generation_v6 | 1,
            ..settings
        })?;
        for index in changes.recycled {
            self.clear(index)?;
        }
        for (index, network) in changes.stay {
            self.insert(&PREFIXES, network, index)?;
        }
        for (index, network) in changes.enter {
            self.set_row(index, Known { network, in_force: true })?;
            self.insert(&PREFIXES, network, index)?;
        }
        let wanted: BTreeSet<Network> = prefixes.iter().collect();
        for network in self.networks(&PREFIXES)?.difference(&wanted) {
            self.remove(&PREFIXES, *network)?;
        }
        for (index, network) in changes.leave {
            self.remove(&PREFIXES, network)?;
            self.set_row(index, Known { network, in_force: false })?;
        }
        let longest = |is_v4: bool| {
            let of_family = prefixes.iter().filter(|network| network.address().is_ipv4() == is_v4);
            of_family.map(|network| network.length()).max().unwrap_or(0)
        };
        let mut senders = Senders::default();
        for network in prefixes.iter() {
            senders.add(address(network), network.length());
        }
        // The program believes them once the generations are even.
        self.change_settings(|settings| Settings { senders, ..settings })?;
        let (v4, v6) = (longest(true) <= block::V4_LENGTH, longest(false) <= block::V6_LENGTH);
        self.change_settings(|settings| Settings {
            generation_v4: settings.generation_v4 + if v4 { 1 } else { 2 },
            generation_v6: settings.generation_v6 + if v6 { 1 } else { 2 },
            ..settings
        })
    }

    fn set_allowed(&mut self, networks: &[Network]) -> Result<(), Error> {
        let wanted = distinct(networks);
        let allowed = self.networks(&ALLOWED)?;
        if !wanted.is_empty() {
            self.change_settings(|settings| Settings { has_allowed: 1, ..settings })?;
        }
        for network in wanted.difference(&allowed) {
            self.insert(&ALLOWED, *network, abi::ALLOWED)?;
        }
        for network in allowed.difference(&wanted) {
            self.remove(&ALLOWED, *network)?;
        }
        self.change_settings(|settings| Settings { has_allowed: (!wanted.is_empty()).into(), ..settings })
    }

    /// What is in the tries.
    fn networks(&self, tries: &Tries) -> Result<BTreeSet<Network>, Error> {
        let v4 = self.trie::<[u8; 4]>(tries.v4)?;
        let v6 = self.trie::<[u8; 16]>(tries.v6)?;
        let v4 = v4.keys().map(|key| key.map(|key| (IpAddr::from(key.data()), key.prefix_len())));
        let v6 = v6.keys().map(|key| key.map(|key| (IpAddr::from(key.data()), key.prefix_len())));
        let network = |(address, length)| Network::around(address, u8::try_from(length).unwrap_or(u8::MAX));
        v4.chain(v6).map(|key| key.map(network).map_err(Error::map(tries.v4))).collect()
    }

    fn insert(&mut self, tries: &Tries, network: Network, index: u32) -> Result<(), Error> {
        let length = network.length().into();
        match network.address() {
            IpAddr::V4(v4) => {
                let inserted = self.trie_mut(tries.v4)?.insert(&Key::new(length, v4.octets()), index, 0);
                inserted.map_err(Error::map(tries.v4))
            }
            IpAddr::V6(v6) => {
                let inserted = self.trie_mut(tries.v6)?.insert(&Key::new(length, v6.octets()), index, 0);
                inserted.map_err(Error::map(tries.v6))
            }
        }
    }

    /// Done also where it is not there.
    fn remove(&mut self, tries: &Tries, network: Network) -> Result<(), Error> {
        let length = network.length().into();
        let (name, removed) = match network.address() {
            IpAddr::V4(v4) => (tries.v4, self.trie_mut(tries.v4)?.remove(&Key::new(length, v4.octets()))),
            IpAddr::V6(v6) => (tries.v6, self.trie_mut(tries.v6)?.remove(&Key::new(length, v6.octets()))),
        };
        match removed {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::map(name)),
        }
    }

    fn set_row(&mut self, index: u32, known: Known) -> Result<(), Error> {
        self.array_mut(abi::ROWS)?.set(index, known.row(), 0).map_err(Error::map(abi::ROWS))
    }

    /// Counts at an index start from nothing.
    fn clear(&mut self, index: u32) -> Result<(), Error> {
        let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error));
        let zeros = cpus.and_then(|cpus| Ok(PerCpuValues::try_from(vec![Counters::default(); cpus])?));
        let zeros = zeros.map_err(Error::map(abi::COUNTERS))?;
        let mut counters = self.per_cpu_array_mut(abi::COUNTERS)?;
        counters.set(index, zeros, 0).map_err(Error::map(abi::COUNTERS))?;
        let mut untracked = self.array_mut(abi::UNTRACKED)?;
        untracked.set(index, 0u64, 0).map_err(Error::map(abi::UNTRACKED))?;
        kernel_drops::forget(self, index)?;
        let mut transport = self.array_mut(abi::TRANSPORT)?;
        transport.set(index, Transport::default(), 0).map_err(Error::map(abi::TRANSPORT))?;
        let mut requests = self.array_mut(abi::REQUESTS)?;
        requests.set(index, Requests::default(), 0).map_err(Error::map(abi::REQUESTS))
    }

    fn change_settings(&mut self, change: impl FnOnce(Settings) -> Settings) -> Result<(), Error> {
        let settings = change(self.settings()?);
        self.array_mut(abi::SETTINGS)?.set(0, settings, 0).map_err(Error::map(abi::SETTINGS))
    }
}

fn address(network: Network) -> Address {
    match network.address() {
        IpAddr::V4(v4) => Address::V4(v4.octets()),
        IpAddr::V6(v6) => Address::V6(v6.octets()),
    }
}

fn distinct(networks: &[Network]) -> BTreeSet<Network> {
    networks.iter().copied().collect()
}

/// A trie a family.
struct Tries {
    v4: &'static str,
    v6: &'static str,
}

const PREFIXES: Tries = Tries { v4: abi::PREFIXES_V4, v6: abi::PREFIXES_V6 };
const ALLOWED: Tries = Tries { v4: abi::ALLOWED_V4, v6: abi::ALLOWED_V6 };

/// As the settings write a mode.
fn number(mode: Mode) -> u32 {
    match mode {
        Mode::Observe => Settings::OBSERVE,
        Mode::Limit => Settings::LIMIT,
        Mode::Strict => Settings::STRICT,
    }
}

/// The reverse; `None` when a later version set it.
pub fn mode(number: u32) -> Option<Mode> {
    [Mode::Observe, Mode::Limit, Mode::Strict].into_iter().find(|mode| self::number(*mode) == number)
}
