//! Why an interface is in a worse mode than it might be. In a pin of its own, for readers that come
//! later: a map with one element, which is text.

use std::path::Path;

use aya::maps::{Array, Map, MapData};

use super::error::Error;
use super::interface::Interface;
use super::pins::Folder;
use crate::sys::bpf;

const BYTES: usize = 256;
type Text = [u8; BYTES];

/// Keeps the reason beside what holds the program there. It is only words, which are no reason to
/// fail.
pub fn keep(folder: &Folder, interface: &Interface) {
    let path = folder.reason(&interface.name);
    folder.unlink(&path).ok();
    if let Some(reason) = &interface.reason {
        write(&path, reason).ok();
    }
}

/// The reason that was kept; `None`: there is none, or it can't be read.
pub fn read(folder: &Folder, interface: &str) -> Option<String> {
    read_text(&folder.reason(interface))
}

/// Pins a text, of which [`BYTES`] are kept.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = Error::map("of a text");
    let mut bytes = [0; BYTES];
    // Readers take a character that is cut for what it is.
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    let map = MapData::from_fd(
        bpf::create_array(BYTES as u32).map_err(aya::maps::MapError::IoError).map_err(&failed)?,
    );
    let map = map.and_then(Map::from_map_data).map_err(&failed)?;
    let mut array = Array::<_, Text>::try_from(map).map_err(&failed)?;
    array.set(0, bytes, 0).map_err(&failed)?;
    array.pin(path).map_err(|source| Error::Pin { path: path.into(), source })
}

/// A pinned text; `None`: there is none, or it can't be read.
pub fn read_text(path: &Path) -> Option<String> {
    let map = bpf::open_map_read_only(path).ok()?;
    let map = MapData::from_fd(map).and_then(Map::from_map_data).ok()?;
    let text = Array::<_, Text>::try_from(map).and_then(|array| array.get(&0, 0)).ok()?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(BYTES);
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}
