use std::ops::Add;

/// Bytes of content taken from a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub copied: u64,
    pub spliced: u64,
}

impl Add for Moved {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { copied: self.copied + other.copied, spliced: self.spliced + other.spliced }
    }
}

impl Moved {
    pub fn bytes(self) -> u64 {
        self.copied + self.spliced
    }
}
