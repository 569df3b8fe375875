//! Where a guest's files are.

use std::path::Path;

/// What a guest sees as its files.
#[derive(Clone, Copy)]
pub enum Files<'a> {
    /// The host's, under a layer of its own.
    Host,
    /// This folder, into which it writes.
    Own(&'a Path),
}
