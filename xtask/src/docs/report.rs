//! What was found on the pages, and how much of them was tried.

use super::places::PLACES;

#[derive(Default)]
pub struct Report {
    pub findings: Vec<String>,
    pub tried: usize,
    pub skipped: usize,
    /// In the order of [`PLACES`].
    pub elsewhere: [usize; PLACES.len()],
}
