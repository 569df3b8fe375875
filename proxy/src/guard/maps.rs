use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::pin::PinError;
use aya::util::nr_cpus;
use hookgate_ebpf::abi::{self, Counters, Row, Settings};
use jiff::Timestamp;

use super::pins::Folder;
use super::program::Program;
use super::rows::{self, Known};
use super::{Continuity, Error};
use crate::prefixes::{Network, Table};

/// Settings last: they say that the others are complete.
pub const MAPS: [&str; 6] =
    [abi::COUNTERS, abi::PREFIXES_V4, abi::PREFIXES_V6, abi::PORTS, abi::ROWS, abi::SETTINGS];

/// The maps that program and user space share.
pub struct Maps {
    counters: PerCpuArray<MapData, Counters>,
    v4: LpmTrie<MapData, [u8; 4], u32>,
    v6: LpmTrie<MapData, [u8; 16], u32>,
    ports: Array<MapData, u64>,
    rows: Array<MapData, Row>,
    settings: Array<MapData, Settings>,
}

/// Whether the maps in this folder can be used further.
pub fn continuity(folder: &Folder) -> Result<Continuity, Error> {
    let pinned = folder.map(abi::SETTINGS);
    match pinned.try_exists() {
        Ok(false) => return Ok(Continuity::New),
        Ok(true) => {}
        Err(source) => return Err(Error::Folder { doing: "look for", path: pinned, source }),
    }
    match Maps::pinned(folder) {
        Ok(_) => Ok(Continuity::Kept),
        Err(Error::OtherLayout { .. }) => Ok(Continuity::Discarded),
        Err(error) => Err(error),
    }
}

impl Maps {
    /// The maps of a loaded program.
    pub fn of(program: &mut Program) -> Result<Self, Error> {
        Self::assemble(|name| program.ebpf.take_map(name).ok_or(MapError::InvalidName { name: name.into() }))
    }

    /// Errors: [`Error::OtherLayout`] when another version made them, or nobody finished them.
    pub fn pinned(folder: &Folder) -> Result<Self, Error> {
        let other = || Error::OtherLayout { folder: folder.path().into() };
        let open = |name: &str| MapData::from_pin(folder.map(name)).and_then(Map::from_map_data);
        let maps = Self::assemble(open).map_err(|error| match error {
            Error::Map { source, .. } if is_other_layout(&source) => other(),
            error => error,
        })?;
        let fits = maps.settings()?.version == abi::VERSION && maps.counters.len() == abi::CAPACITY;
        if fits { Ok(maps) } else { Err(other()) }
    }

    fn assemble(mut map: impl FnMut(&'static str) -> Result<Map, MapError>) -> Result<Self, Error> {
        Ok(Self {
            counters: typed(abi::COUNTERS, &mut map)?,
            v4: typed(abi::PREFIXES_V4, &mut map)?,
            v6: typed(abi::PREFIXES_V6, &mut map)?,
            ports: typed(abi::PORTS, &mut map)?,
            rows: typed(abi::ROWS, &mut map)?,
            settings: typed(abi::SETTINGS, &mut map)?,
        })
    }

    /// Fresh maps become valid, and counting begins.
    pub fn begin(&mut self, mode: u32, now: Timestamp) -> Result<(), Error> {
        let since = now.as_second().max(0).unsigned_abs();
        let settings = Settings { version: abi::VERSION, mode, since };
        self.settings.set(0, settings, 0).map_err(Error::map(abi::SETTINGS))
    }

    pub fn set_ports(&mut self, ports: &[u16]) -> Result<(), Error> {
        let mut words = [0u64; abi::PORT_WORDS as usize];
        for port in ports.iter().copied().map(u32::from) {
            words[(port / abi::PORTS_PER_WORD) as usize] |= 1 << (port % abi::PORTS_PER_WORD);
        }
        for (index, word) in (0..).zip(words) {
            self.ports.set(index, word, 0).map_err(Error::map(abi::PORTS))?;
        }
        Ok(())
    }

    /// What comes in is there before what goes is gone, so that no address of a prefix that stays is ever a stranger's.
    pub fn set_prefixes(&mut self, prefixes: &Table) -> Result<(), Error> {
        let known = self.known()?;
        let changes = rows::changes(&known, prefixes).ok_or(Error::TooManyPrefixes(prefixes.len()))?;
        for index in changes.recycled {
            self.clear(index)?;
        }
        for (index, network) in changes.enter {
            self.set_row(index, Known { network, in_force: true })?;
            self.enter(network, index)?;
        }
        for (index, network) in changes.leave {
            self.leave(network)?;
            self.set_row(index, Known { network, in_force: false })?;
        }
        Ok(())
    }

    pub fn settings(&self) -> Result<Settings, Error> {
        self.settings.get(&0, 0).map_err(Error::map(abi::SETTINGS))
    }

    /// The prefixes in force, with what all CPUs counted of each.
    pub fn by_prefix(&self) -> Result<BTreeMap<Network, Counters>, Error> {
        let known = self.known()?;
        let in_force = (1..).zip(known).filter(|(_, row)| row.in_force);
        in_force.map(|(index, row)| Ok((row.network, self.count(index)?))).collect()
    }

    /// What all CPUs counted at an index.
    pub fn count(&self, index: u32) -> Result<Counters, Error> {
        let per_cpu = self.counters.get(&index, 0).map_err(Error::map(abi::COUNTERS))?;
        Ok(per_cpu.iter().fold(Counters::default(), |sum, cpu| Counters {
            packets: sum.packets + cpu.packets,
            bytes: sum.bytes + cpu.bytes,
            syns: sum.syns + cpu.syns,
            last_seen: sum.last_seen.max(cpu.last_seen),
        }))
    }

    /// Settings come last: they say that the others are complete.
    pub fn pin(self, folder: &Folder) -> Result<(), Error> {
        for name in MAPS.into_iter().rev() {
            folder.unlink(&folder.map(name))?;
        }
        pinned(folder, abi::COUNTERS, |path| self.counters.pin(path))?;
        pinned(folder, abi::PREFIXES_V4, |path| self.v4.pin(path))?;
        pinned(folder, abi::PREFIXES_V6, |path| self.v6.pin(path))?;
        pinned(folder, abi::PORTS, |path| self.ports.pin(path))?;
        pinned(folder, abi::ROWS, |path| self.rows.pin(path))?;
        pinned(folder, abi::SETTINGS, |path| self.settings.pin(path))
    }

    /// The rows in use, from index 1 on.
    fn known(&self) -> Result<Vec<Known>, Error> {
        let mut known = Vec::new();
        for index in 1..abi::CAPACITY {
            let row = self.rows.get(&index, 0).map_err(Error::map(abi::ROWS))?;
            let Some(row) = Known::parse(&row) else { break };
            known.push(row);
        }
        Ok(known)
    }

    fn set_row(&mut self, index: u32, known: Known) -> Result<(), Error> {
        self.rows.set(index, known.row(), 0).map_err(Error::map(abi::ROWS))
    }

    fn enter(&mut self, network: Network, index: u32) -> Result<(), Error> {
        let length = network.length().into();
        match network.address() {
            IpAddr::V4(v4) => self.v4.insert(&Key::new(length, v4.octets()), index, 0),
            IpAddr::V6(v6) => self.v6.insert(&Key::new(length, v6.octets()), index, 0),
        }
        .map_err(Error::map(abi::PREFIXES_V4))
    }

    fn leave(&mut self, network: Network) -> Result<(), Error> {
        let length = network.length().into();
        match network.address() {
            IpAddr::V4(v4) => self.v4.remove(&Key::new(length, v4.octets())),
            IpAddr::V6(v6) => self.v6.remove(&Key::new(length, v6.octets())),
        }
        .map_err(Error::map(abi::PREFIXES_V4))
    }

    fn clear(&mut self, index: u32) -> Result<(), Error> {
        let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error));
        let zeros = cpus.and_then(|cpus| Ok(PerCpuValues::try_from(vec![Counters::default(); cpus])?));
        zeros.and_then(|zeros| self.counters.set(index, zeros, 0)).map_err(Error::map(abi::COUNTERS))
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    name: &'static str,
    mut map: impl FnMut(&'static str) -> Result<Map, MapError>,
) -> Result<T, Error> {
    map(name).and_then(T::try_from).map_err(Error::map(name))
}

fn is_other_layout(error: &MapError) -> bool {
    match error {
        MapError::InvalidKeySize { .. }
        | MapError::InvalidValueSize { .. }
        | MapError::InvalidMapType { .. } => true,
        MapError::SyscallError(error) => error.io_error.kind() == ErrorKind::NotFound,
        _ => false,
    }
}

fn pinned(folder: &Folder, name: &str, pin: impl FnOnce(&Path) -> Result<(), PinError>) -> Result<(), Error> {
    let path = folder.map(name);
    pin(&path).map_err(|source| Error::Pin { path, source })
}
