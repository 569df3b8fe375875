//! Why an interface is in a worse mode than it might be. In a pin of its own, for readers that come
//! later: a map with one element, which is text.

use aya::maps::{Array, Map, MapData};

use super::error::Error;
use super::interface::Interface;
use super::pins::Folder;
use crate::sys::bpf;

const BYTES: usize = 256;
type Text = [u8; BYTES];

/// Keeps the reason beside the interface's link. It is only words, which are no reason to fail.
pub fn keep(folder: &Folder, interface: &Interface) {
    folder.unlink(&folder.reason(&interface.name)).ok();
    if let Some(reason) = &interface.reason {
        write(folder, &interface.name, reason).ok();
    }
}

fn write(folder: &Folder, interface: &str, reason: &str) -> Result<(), Error> {
    let failed = Error::map("of a reason");
    let mut text = [0; BYTES];
    // Readers take a character that is cut for what it is.
    text.iter_mut().zip(reason.bytes()).for_each(|(to, from)| *to = from);
    let map = MapData::from_fd(
        bpf::create_array(BYTES as u32).map_err(aya::maps::MapError::IoError).map_err(&failed)?,
    );
    let map = map.and_then(Map::from_map_data).map_err(&failed)?;
    let mut array = Array::<_, Text>::try_from(map).map_err(&failed)?;
    array.set(0, text, 0).map_err(&failed)?;
    let path = folder.reason(interface);
    array.pin(&path).map_err(|source| Error::Pin { path, source })
}

/// The reason that was kept; `None`: there is none, or it can't be read.
pub fn read(folder: &Folder, interface: &str) -> Option<String> {
    let map = bpf::open_map_read_only(&folder.reason(interface)).ok()?;
    let map = MapData::from_fd(map).and_then(Map::from_map_data).ok()?;
    let text = Array::<_, Text>::try_from(map).and_then(|array| array.get(&0, 0)).ok()?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(BYTES);
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}
