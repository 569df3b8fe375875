//! Which of many entries may match a text, by what each matching text begins with.

use std::collections::{BTreeSet, HashMap};

/// Positions of entries by their prefixes.
#[derive(Debug, Default)]
pub struct PrefixIndex {
    by_prefix: HashMap<Vec<u8>, Vec<usize>>,
    prefix_lengths: BTreeSet<usize>,
}

impl PrefixIndex {
    pub fn add(&mut self, prefix: &[u8], position: usize) {
        self.by_prefix.entry(prefix.to_owned()).or_default().push(position);
        self.prefix_lengths.insert(prefix.len());
    }

    /// Those that can match, in order.
    pub fn candidates(&self, text: &[u8]) -> Vec<usize> {
        let prefixes = self.prefix_lengths.iter().filter_map(|length| text.get(..*length));
        let found = prefixes.filter_map(|prefix| self.by_prefix.get(prefix));
        let mut positions: Vec<usize> = found.flatten().copied().collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}
