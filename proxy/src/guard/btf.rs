//! What the running kernel says of its own types (BTF): offsets of fields, and names of numbers.

use std::collections::BTreeMap;
use std::{fs, io};

const FILE: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;

// linux/btf.h
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;
/// The last kind that this knows the length of.
const LAST_KIND: u32 = ENUM64;

/// `struct btf_type` is three words: name, kind and count, and a size or another type.
const TYPE_BYTES: usize = 12;
/// How deep structures without a name are looked into.
const MAX_DEPTH: u32 = 8;

pub struct Btf {
    data: Vec<u8>,
    /// Where each type begins; the first is number 1.
    types: Vec<usize>,
    strings: usize,
}

#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    count: usize,
    has_bit_fields: bool,
    /// A size, or another type's number.
    other: u32,
}

impl Btf {
    /// The running kernel's.
    ///
    /// Errors: it has none, or one that this does not understand.
    pub fn of_kernel() -> io::Result<Self> {
        Self::parse(fs::read(FILE)?).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, FILE))
    }

    fn parse(data: Vec<u8>) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?));
        if u16::from_ne_bytes(data.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let [header, types_at, types_bytes, strings_at] =
            [word(4)?, word(8)?, word(12)?, word(16)?].map(|word| word as usize);
        let (mut at, end) = (header.checked_add(types_at)?, header.checked_add(types_at + types_bytes)?);
        let strings = header.checked_add(strings_at)?;
        let mut types = Vec::new();
        while at < end {
            types.push(at);
            let info = word(at + 4)?;
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let more = match kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                ENUM | FUNC_PROTO => 8 * count,
                ..=LAST_KIND => 0,
                _ => return None,
            };
            at += TYPE_BYTES + more;
        }
        Some(Self { data, types, strings })
    }

    /// Where a structure has a field, in bytes; also one that is within structures without a name.
    pub fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        let found = self.named(structure, &[STRUCT])?;
        self.offset_in(found, field, MAX_DEPTH)
    }

    /// The numbers of an enumeration, and their names.
    pub fn numbers(&self, enumeration: &str) -> Option<BTreeMap<u32, String>> {
        let found = self.named(enumeration, &[ENUM, ENUM64])?;
        let bytes = if found.kind == ENUM64 { 12 } else { 8 };
        let entries = (0..found.count).map(|nth| found.at + TYPE_BYTES + bytes * nth);
        entries.map(|at| Some((self.word(at + 4)?, self.string(self.word(at)?)?.to_owned()))).collect()
    }

    fn offset_in(&self, structure: Type, field: &str, depth: u32) -> Option<u32> {
        for nth in 0..structure.count {
            let at = structure.at + TYPE_BYTES + 12 * nth;
            let (name, of, place) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let bits = if structure.has_bit_fields { place & 0x00ff_ffff } else { place };
            let name = self.string(name)?;
            if name == field {
                return Some(bits / 8);
            }
            if name.is_empty()
                && depth > 0
                && let Some(inner) = self.structure(of)
                && let Some(offset) = self.offset_in(inner, field, depth - 1)
            {
                return Some(bits / 8 + offset);
            }
        }
        None
    }

    /// The structure or union that a type is by another name.
    fn structure(&self, mut number: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let found = self.numbered(number)?;
            match found.kind {
                STRUCT | UNION => return Some(found),
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => number = found.other,
                _ => return None,
            }
        }
        None
    }

    fn named(&self, name: &str, kinds: &[u32]) -> Option<Type> {
        let types = self.types.iter().filter_map(|at| self.at(*at));
        let mut wanted = types.filter(|found| kinds.contains(&found.kind) && found.count > 0);
        wanted.find(|found| self.string(found.name) == Some(name))
    }

    fn numbered(&self, number: u32) -> Option<Type> {
        self.at(*self.types.get((number as usize).checked_sub(1)?)?)
    }

    fn at(&self, at: usize) -> Option<Type> {
        let info = self.word(at + 4)?;
        Some(Type {
            at,
            name: self.word(at)?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            has_bit_fields: info >> 31 == 1,
            other: self.word(at + 8)?,
        })
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.data.get(at..at + 4)?.try_into().ok()?))
    }

    fn string(&self, at: u32) -> Option<&str> {
        let text = self.data.get(self.strings + at as usize..)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        str::from_utf8(&text[..end]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { u32 first; struct { u32 second; u32 third:8; }; }` and
    /// `enum reason { A = 2, B = 7 }`.
    fn example() -> Vec<u8> {
        let strings = b"\0outer\0first\0second\0third\0reason\0A\0B\0";
        let at = |name: &str| {
            let name = [b"\0", name.as_bytes(), b"\0"].concat();
            strings.windows(name.len()).position(|text| text == name).unwrap() as u32 + 1
        };
        let bit_fields = 1 << 31;
        let types: Vec<u32> = [
            &[0, INT << 24, 4, 32][..],
            &[0, STRUCT << 24 | bit_fields | 2, 8, at("second"), 1, 0, at("third"), 1, 8 << 24 | 32],
            &[at("outer"), STRUCT << 24 | 2, 12, at("first"), 1, 0, 0, 2, 32],
            &[at("reason"), ENUM << 24 | 2, 4, at("A"), 2, at("B"), 7],
        ]
        .concat();
        let header = [24, 0, 4 * types.len() as u32, 4 * types.len() as u32, strings.len() as u32];
        let words = header.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        let version_and_flags = [1, 0];
        MAGIC.to_ne_bytes().into_iter().chain(version_and_flags).chain(words).chain(*strings).collect()
    }

    #[test]
    fn fields_and_numbers_are_found_by_name() {
        let btf = Btf::parse(example()).unwrap();
        for (field, offset) in [("first", Some(0)), ("second", Some(4)), ("third", Some(8)), ("other", None)]
        {
            assert_eq!(btf.offset("outer", field), offset, "{field}");
        }
        assert_eq!(btf.offset("reason", "A"), None);
        assert_eq!(btf.numbers("reason"), Some([(2, "A".to_owned()), (7, "B".to_owned())].into()));
        assert_eq!(btf.numbers("outer"), None);
    }

    #[test]
    fn what_is_cut_or_damaged_is_found_out() {
        let example = example();
        for length in 0..example.len() {
            let Some(btf) = Btf::parse(example[..length].to_vec()) else { continue };
            btf.offset("outer", "third");
            btf.numbers("reason");
        }
        for place in 0..example.len() {
            let mut damaged = example.clone();
            damaged[place] ^= 0xff;
            let Some(btf) = Btf::parse(damaged) else { continue };
            btf.offset("outer", "third");
            btf.numbers("reason");
        }
    }
}
