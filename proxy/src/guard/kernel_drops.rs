//! Packets that the kernel dropped, by its own reasons: a program at the tracepoint `kfree_skb`,
//! through a pinned link of its own. Without it the guard counts everything else.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use aya::programs::links::FdLink;
use hookgate_ebpf::kernel_drops::{self, Dropped, Layout};

use super::btf::Btf;
use super::error::Error;
use super::maps::Maps;
use super::pins::Folder;
use super::program::Program;
use crate::sys::bpf;

/// Packets by reason: the kernel's own words in lower case. As in `hookgate stats --json`.
pub type KernelDrops = BTreeMap<String, u64>;

/// Attaches the program in the place of the pinned one. The layout of the kernel's structures is
/// written first. `netns`: the cookie of the namespace whose packets count.
///
/// Errors: the kernel has no reasons, or does not let them be read; then nothing is attached.
pub fn attach(program: &mut Program, maps: &mut Maps, folder: &Folder, netns: u64) -> Result<(), Error> {
    let attached = begin(program, maps, folder, netns);
    if attached.is_err() {
        release(folder)?;
    }
    attached
}

fn begin(program: &mut Program, maps: &mut Maps, folder: &Folder, netns: u64) -> Result<(), Error> {
    reasons()?;
    let layout =
        Layout { netns, ..layout(&Btf::of_kernel().map_err(Error::Btf)?).ok_or(Error::NoDropReasons)? };
    let mut map = maps.array_mut(kernel_drops::LAYOUT)?;
    map.set(0, layout, 0).map_err(Error::map(kernel_drops::LAYOUT))?;
    let tracepoint = program.load_kernel_drops()?;
    // A link to a tracepoint can't be given another program. Two would count twice.
    release(folder)?;
    let link = tracepoint.attach(kernel_drops::TRACEPOINT).and_then(|id| tracepoint.take_link(id));
    let link = FdLink::from(link.map_err(Error::Tracepoint)?);
    let path = folder.kernel_drops();
    link.pin(&path).map(|_| ()).map_err(|source| Error::Pin { path, source })
}

/// The kernel detaches at once when a descriptor is the last to go, but some time later when a pin
/// is.
pub fn release(folder: &Folder) -> Result<(), Error> {
    let link = bpf::open_link(&folder.kernel_drops());
    let unlinked = folder.unlink(&folder.kernel_drops());
    drop(link);
    unlinked
}

/// Why a guard that is attached does not count them; `None`: it does.
pub fn why_uncounted(folder: &Folder) -> Result<Option<Error>, Error> {
    let path = folder.kernel_drops();
    match path.try_exists() {
        Ok(true) => Ok(reasons().err()),
        Ok(false) => Ok(Some(reasons().err().unwrap_or(Error::DropsRefused))),
        Err(source) => Err(Error::Folder { doing: "look for", path, source }),
    }
}

/// By index.
pub fn read(maps: &Maps) -> Result<BTreeMap<u32, KernelDrops>, Error> {
    let reasons = reasons()?;
    let mut by_index = BTreeMap::<u32, KernelDrops>::new();
    for (Dropped { index, reason }, count) in maps.entries::<Dropped, u64>(kernel_drops::MAP)? {
        if let Some(name) = name(reasons, reason) {
            *by_index.entry(index).or_default().entry(name).or_default() += count;
        }
    }
    Ok(by_index)
}

/// Counts at an index start from nothing.
pub fn forget(maps: &mut Maps, index: u32) -> Result<(), Error> {
    let entries = maps.entries::<Dropped, u64>(kernel_drops::MAP)?;
    let mut map = maps.hash_mut::<Dropped, u64>(kernel_drops::MAP)?;
    for (dropped, _) in entries.into_iter().filter(|(dropped, _)| dropped.index == index) {
        map.remove(&dropped).map_err(Error::map(kernel_drops::MAP))?;
    }
    Ok(())
}

/// `None`: it was not dropped. Reasons of a module's own have no name here.
fn name(reasons: &BTreeMap<u32, String>, reason: u32) -> Option<String> {
    match reasons.get(&reason).map(String::as_str) {
        Some("SKB_CONSUMED" | "SKB_NOT_DROPPED_YET") => None,
        Some(name) => Some(name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name).to_ascii_lowercase()),
        None => Some(format!("reason_{reason}")),
    }
}

/// The running kernel's, by number.
fn reasons() -> Result<&'static BTreeMap<u32, String>, Error> {
    static REASONS: OnceLock<BTreeMap<u32, String>> = OnceLock::new();
    if let Some(reasons) = REASONS.get() {
        return Ok(reasons);
    }
    let btf = Btf::of_kernel().map_err(Error::Btf)?;
    let reasons = btf.numbers("skb_drop_reason").ok_or(Error::NoDropReasons)?;
    Ok(REASONS.get_or_init(|| reasons))
}

fn layout(btf: &Btf) -> Option<Layout> {
    Some(Layout {
        netns: 0,
        head: btf.offset("sk_buff", "head")?,
        tail: btf.offset("sk_buff", "tail")?,
        network_header: btf.offset("sk_buff", "network_header")?,
        device: btf.offset("sk_buff", "dev")?,
        route: btf.offset("sk_buff", "_skb_refdst")?,
        socket: btf.offset("sk_buff", "sk")?,
        route_device: btf.offset("dst_entry", "dev")?,
        device_netns: btf.offset("net_device", "nd_net")?,
        socket_netns: btf.offset("sock_common", "skc_net")?,
        netns_cookie: btf.offset("net", "net_cookie")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefixes::Network;

    #[test]
    fn reasons_have_the_kernels_words() {
        let known = [(0, "SKB_NOT_DROPPED_YET"), (1, "SKB_CONSUMED"), (8, "SKB_DROP_REASON_NETFILTER_DROP")];
        let known = known.map(|(number, name)| (number, name.to_owned())).into();
        let names = [0, 1, 8, 0x1_0001].map(|reason| name(&known, reason));
        let expected = [None, None, Some("netfilter_drop".to_owned()), Some("reason_65537".to_owned())];
        assert_eq!(names, expected);
    }

    /// The supervisor sends them to the worker so.
    #[test]
    fn prefixes_are_keys_of_json() {
        let drops: KernelDrops = [("netfilter_drop".to_owned(), 3)].into();
        let by_prefix: BTreeMap<Network, _> = [("157.240.0.0/17".parse().unwrap(), drops)].into();
        let json = serde_json::to_string(&by_prefix).unwrap();
        assert_eq!(json, r#"{"157.240.0.0/17":{"netfilter_drop":3}}"#);
        assert_eq!(serde_json::from_str::<BTreeMap<Network, KernelDrops>>(&json).unwrap(), by_prefix);
    }
}
