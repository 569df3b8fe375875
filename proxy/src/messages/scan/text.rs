use std::ops::{Index, IndexMut};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// A longer value is kept as a digest of its beginning and the rest.
pub const MAX_TEXT_BYTES: usize = 512;

/// The value of a member, in bounded memory that is used again. However long two values are, they
/// are equal here only if they are equal.
#[derive(Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    /// How often the first `MAX_TEXT_BYTES` were replaced by their digest.
    folds: usize,
}

impl Text {
    #[inline]
    pub fn push(&mut self, mut bytes: &[u8]) {
        while self.bytes.len() + bytes.len() > MAX_TEXT_BYTES {
            let (fits, rest) = bytes.split_at(MAX_TEXT_BYTES - self.bytes.len());
            self.bytes.extend_from_slice(fits);
            let digest = digest(&SHA256, &self.bytes);
            self.wipe();
            self.bytes.extend_from_slice(digest.as_ref());
            self.folds += 1;
            bytes = rest;
        }
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    pub fn clear(&mut self) {
        // Even of a digest something is left.
        if !self.bytes.is_empty() {
            self.wipe();
            self.folds = 0;
        }
    }

    fn wipe(&mut self) {
        self.bytes.fill(0);
        self.bytes.clear();
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn folds(&self) -> usize {
        self.folds
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// `None` if it was too long.
    pub fn short(&self) -> Option<&[u8]> {
        (self.folds == 0).then_some(&*self.bytes)
    }

    /// A whole number that is not negative and fits 64 bits, in decimal digits.
    pub fn number(&self) -> Option<u64> {
        let digits = self.short().filter(|text| text.iter().all(u8::is_ascii_digit))?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Milliseconds since 1970. Values below 10^11 are seconds; zero is no time.
    pub fn time(&self) -> Option<i64> {
        const MIN_MILLISECONDS: i64 = 100_000_000_000;
        let value = i64::try_from(self.number()?).ok().filter(|value| *value > 0)?;
        Some(if value < MIN_MILLISECONDS { value * 1000 } else { value })
    }
}

/// Members whose values are kept until the object around them has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Object,
    EntryId,
    EntryTime,
    Field,
    ValueId,
    PhoneNumberId,
    Id,
    Status,
    RecipientId,
    RecipientUserId,
    Timestamp,
    SenderId,
    MessageMid,
    EditMid,
    EditCount,
    ReactionMid,
    PostbackMid,
    ReadMid,
    ReadWatermark,
    DeliveryMid,
    DeliveryWatermark,
}

const SLOTS: usize = Slot::DeliveryWatermark as usize + 1;

#[derive(Debug, Default)]
pub struct Texts([Text; SLOTS]);

impl Texts {
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(Text::clear);
    }

    #[cfg(test)]
    pub fn are_empty(&self) -> bool {
        self.0.iter().all(Text::is_empty)
    }
}

impl Index<Slot> for Texts {
    type Output = Text;

    fn index(&self, slot: Slot) -> &Text {
        &self.0[slot as usize]
    }
}

impl IndexMut<Slot> for Texts {
    fn index_mut(&mut self, slot: Slot) -> &mut Text {
        &mut self.0[slot as usize]
    }
}

const _: () = assert!(SHA256_OUTPUT_LEN < MAX_TEXT_BYTES);
