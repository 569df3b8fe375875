use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use aya::Pod;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::util::nr_cpus;
use hookgate_ebpf::abi::{self, Counters, Settings, Sweep};

use super::error::Error;
use super::fdinfo;
use super::pins::{Folder, MAPS};
use super::program::Program;
use super::rows::Known;
use crate::prefixes::Network;
use crate::sys;

/// How many rows of counters to ask for. Each takes memory for every processor that there may ever
/// be, and the firmware of some virtual machines announces 128.
///
/// Errors: the kernel does not say how many processors that is.
pub fn counters_capacity(prefixes: usize) -> Result<u32, Error> {
    const MAX_BYTES: usize = 12 << 20;
    let cpus = nr_cpus().map_err(|(_, error)| Error::map(abi::COUNTERS)(MapError::IoError(error)))?;
    let affordable = MAX_BYTES / (cpus.max(1) * size_of::<Counters>());
    // With room for what a registry may add.
    let needed = abi::FIRST_PREFIX as usize + prefixes + prefixes / 2;
    Ok(u32::try_from(affordable.max(needed)).unwrap_or(u32::MAX).min(abi::CAPACITY))
}

/// The maps that programs and user space share.
pub struct Maps(BTreeMap<&'static str, Map>);

/// Whether counting went on from an earlier start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    New,
    Kept,
    /// There were counters, in a layout of another version; they are gone.
    Discarded,
}

/// Whether the maps in this folder can be used further.
pub fn continuity(folder: &Folder) -> Result<Continuity, Error> {
    let pinned = folder.map(abi::SETTINGS);
    match pinned.try_exists() {
        Ok(false) => return Ok(Continuity::New),
        Ok(true) => {}
        Err(source) => return Err(Error::Folder { doing: "look for", path: pinned, source }),
    }
    match Maps::read_only(folder) {
        Ok(_) => Ok(Continuity::Kept),
        Err(Error::OtherLayout { .. }) => Ok(Continuity::Discarded),
        Err(error) => Err(error),
    }
}

impl Maps {
    /// How much of the kernel's memory they take, in bytes, as it tells the holder of their
    /// descriptors.
    ///
    /// Errors: /proc can't be read.
    pub fn memory(&self) -> Result<u64, Error> {
        self.0.iter().map(|(name, map)| memory_of(map).map_err(Error::map(name))).sum()
    }

    /// The maps of a loaded program.
    pub fn of(program: &mut Program) -> Result<Self, Error> {
        Self::assemble(|name| program.ebpf.take_map(name).ok_or(MapError::InvalidName { name: name.into() }))
    }

    /// The pinned ones; writing to them fails.
    ///
    /// Errors: [`Error::OtherLayout`] when another version made them, or they are unfinished.
    pub fn read_only(folder: &Folder) -> Result<Self, Error> {
        Self::pinned(folder, sys::bpf::open_map_read_only)
    }

    /// The pinned ones.
    ///
    /// Errors: as [`Maps::read_only`].
    pub fn writable(folder: &Folder) -> Result<Self, Error> {
        Self::pinned(folder, sys::bpf::open_map)
    }

    fn pinned(folder: &Folder, open: fn(&Path) -> io::Result<OwnedFd>) -> Result<Self, Error> {
        let other = || Error::OtherLayout { folder: folder.path().into() };
        let open = |name: &str| {
            let fd = open(&folder.map(name)).map_err(MapError::IoError)?;
            MapData::from_fd(fd).and_then(Map::from_map_data)
        };
        let maps = Self::assemble(open).map_err(|error| match error {
            Error::Map { source: MapError::IoError(source), .. } if source.kind() == ErrorKind::NotFound => {
                other()
            }
            error => error,
        })?;
        match maps.settings() {
            Ok(settings) if settings.version == abi::VERSION => Ok(maps),
            Ok(_) | Err(Error::Map { source: MapError::InvalidValueSize { .. }, .. }) => Err(other()),
            Err(error) => Err(error),
        }
    }

    fn assemble(mut map: impl FnMut(&'static str) -> Result<Map, MapError>) -> Result<Self, Error> {
        let named = MAPS.into_iter().map(|name| Ok((name, map(name).map_err(Error::map(name))?)));
        named.collect::<Result<_, _>>().map(Self)
    }

    /// Settings come last: they say that the others are complete.
    pub fn pin(&self, folder: &Folder) -> Result<(), Error> {
        for name in MAPS.into_iter().rev() {
            folder.unlink(&folder.map(name))?;
        }
        for name in MAPS {
            let path = folder.map(name);
            self.map(name)?.pin(&path).map_err(|source| Error::Pin { path, source })?;
        }
        Ok(())
    }

    pub fn settings(&self) -> Result<Settings, Error> {
        self.element(abi::SETTINGS, 0)
    }

    /// The rows in use, from index [`abi::FIRST_PREFIX`] on.
    pub fn rows(&self) -> Result<Vec<Known>, Error> {
        let rows = self.array(abi::ROWS)?;
        let mut known = Vec::new();
        for index in abi::FIRST_PREFIX..abi::CAPACITY {
            let row = rows.get(&index, 0).map_err(Error::map(abi::ROWS))?;
            let Some(row) = Known::parse(&row) else { break };
            known.push(row);
        }
        Ok(known)
    }

    /// The prefixes in force, and the index of each.
    pub fn numbered(&self) -> Result<Vec<(Network, u32)>, Error> {
        let rows = self.rows()?.into_iter().zip(abi::FIRST_PREFIX..);
        Ok(rows.filter(|(row, _)| row.in_force).map(|(row, index)| (row.network, index)).collect())
    }

    /// The map in which user space counts.
    pub fn funnel(&self) -> Result<OwnedFd, Error> {
        let Map::Array(requests) = self.map(abi::REQUESTS)? else {
            return Err(Error::map(abi::REQUESTS)(MapError::InvalidMapType { map_type: 0 }));
        };
        let owned = requests.fd().as_fd().try_clone_to_owned();
        owned.map_err(MapError::IoError).map_err(Error::map(abi::REQUESTS))
    }

    /// What all CPUs counted at an index.
    pub fn counters(&self, index: u32) -> Result<Counters, Error> {
        let map = PerCpuArray::<_, Counters>::try_from(self.map(abi::COUNTERS)?);
        let per_cpu = map.and_then(|map| map.get(&index, 0)).map_err(Error::map(abi::COUNTERS))?;
        Ok(sum(per_cpu.iter()))
    }

    /// Why handshakes that failed are not all classified, although what leaves is seen by now;
    /// `None`: they are.
    pub fn why_unclassified(&self) -> Result<Option<Error>, Error> {
        let mut sum = Counters::default();
        let prefixes = self.numbered()?.into_iter().map(|(_, index)| index);
        for index in prefixes.chain([abi::OTHER, abi::ALLOWED]) {
            sum.add(&self.counters(index)?);
        }
        let (unseen, handshakes) = (sum.handshakes_unseen, sum.handshakes);
        Ok(match sum.failed_by.unclassified {
            _ if leave_elsewhere(&sum) => Some(Error::AnswersElsewhere { unseen, handshakes }),
            0 => None,
            failed => Some(Error::AnswersUnseenBefore { failed }),
        })
    }

    /// How many rows of counters there are.
    pub fn capacity(&self) -> Result<u32, Error> {
        Ok(self.per_cpu_array::<Counters>(abi::COUNTERS)?.len())
    }

    /// When the attempts were swept last, as [`Counters::last_seen`]; 0: never.
    pub fn last_sweep(&self) -> Result<u64, Error> {
        Ok(self.element::<Sweep>(abi::SWEEP, 0)?.last)
    }

    /// The entries of a hash map, each once, in bounded time.
    pub fn entries<K, V>(&self, name: &'static str) -> Result<Vec<(K, V)>, Error>
    where
        K: Pod + Default,
        V: Pod + Default,
    {
        let map = self.map(name)?;
        let (Map::HashMap(data) | Map::LruHashMap(data)) = map else {
            return Err(Error::map(name)(MapError::InvalidMapType { map_type: 0 }));
        };
        sys::bpf::entries(data).map_err(Error::map(name))
    }

    /// One element of an array.
    pub fn element<V: Pod>(&self, name: &'static str, index: u32) -> Result<V, Error> {
        self.array(name)?.get(&index, 0).map_err(Error::map(name))
    }

    pub fn array<V: Pod>(&self, name: &'static str) -> Result<Array<&MapData, V>, Error> {
        Array::try_from(self.map(name)?).map_err(Error::map(name))
    }

    pub fn array_mut<V: Pod>(&mut self, name: &'static str) -> Result<Array<&mut MapData, V>, Error> {
        Array::try_from(self.map_mut(name)?).map_err(Error::map(name))
    }

    pub fn per_cpu_array<V: Pod>(&self, name: &'static str) -> Result<PerCpuArray<&MapData, V>, Error> {
        PerCpuArray::try_from(self.map(name)?).map_err(Error::map(name))
    }

    pub fn per_cpu_array_mut<V: Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<PerCpuArray<&mut MapData, V>, Error> {
        PerCpuArray::try_from(self.map_mut(name)?).map_err(Error::map(name))
    }

    pub fn hash_mut<K: Pod, V: Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<&mut MapData, K, V>, Error> {
        HashMap::try_from(self.map_mut(name)?).map_err(Error::map(name))
    }

    pub fn trie<K: Pod>(&self, name: &'static str) -> Result<LpmTrie<&MapData, K, u32>, Error> {
        LpmTrie::try_from(self.map(name)?).map_err(Error::map(name))
    }

    pub fn trie_mut<K: Pod>(&mut self, name: &'static str) -> Result<LpmTrie<&mut MapData, K, u32>, Error> {
        LpmTrie::try_from(self.map_mut(name)?).map_err(Error::map(name))
    }

    fn map(&self, name: &'static str) -> Result<&Map, Error> {
        self.0.get(name).ok_or_else(|| Error::map(name)(MapError::InvalidName { name: name.into() }))
    }

    fn map_mut(&mut self, name: &'static str) -> Result<&mut Map, Error> {
        self.0.get_mut(name).ok_or_else(|| Error::map(name)(MapError::InvalidName { name: name.into() }))
    }
}

/// Whether the SYN-ACKs of more than one in a hundred completed handshakes left through no guarded
/// interface: then those of failed ones did, too.
pub fn leave_elsewhere(counters: &Counters) -> bool {
    counters.handshakes_unseen.saturating_mul(100) > counters.handshakes
}

/// `memlock` in /proc/self/fdinfo; it counts the memory of every processor that there may ever be.
fn memory_of(map: &Map) -> Result<u64, MapError> {
    let (Map::Array(data)
    | Map::PerCpuArray(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::SkStorage(data)
    | Map::RingBuf(data)) = map
    else {
        return Err(MapError::InvalidMapType { map_type: 0 });
    };
    let bytes = fdinfo::field(data.fd().as_fd(), "memlock").map_err(MapError::IoError)?;
    let bytes = bytes.and_then(|bytes| bytes.parse().ok());
    bytes.ok_or_else(|| MapError::IoError(ErrorKind::InvalidData.into()))
}

/// What all CPUs together counted.
fn sum<'a>(per_cpu: impl Iterator<Item = &'a Counters>) -> Counters {
    per_cpu.fold(Counters::default(), |mut sum, cpu| {
        sum.add(cpu);
        sum
    })
}
