/// A JSON string behind its opening quote, as it is decoded in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct StringDecoder {
    part: Part,
    /// The first half of a surrogate pair, or 0.
    high: u16,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    Text,
    /// The next byte of a UTF-8 sequence, its bounds, and the number of bytes from it on.
    Sequence {
        left: u8,
        min: u8,
        max: u8,
    },
    Escape,
    Hex {
        left: u8,
        value: u16,
    },
    /// A high surrogate came: `\`, then `u` must follow.
    LowEscape,
    LowHex,
}

/// The string is not valid JSON in valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidString;

impl StringDecoder {
    /// Decodes up to the closing quote. Returns the number of bytes used, and whether the string
    /// ended. `piece` is called for everything that was decoded.
    #[inline]
    pub fn advance(
        &mut self,
        bytes: &[u8],
        mut piece: impl FnMut(&[u8]),
    ) -> Result<(usize, bool), InvalidString> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.part {
                Part::Text => {
                    let from = at;
                    at += plain_run(&bytes[at..]);
                    if at > from {
                        piece(&bytes[from..at]);
                    }
                    match bytes.get(at) {
                        Some(b'"') => return Ok((at + 1, true)),
                        Some(b'\\') => self.part = Part::Escape,
                        Some(lead) => {
                            self.part = sequence(*lead).ok_or(InvalidString)?;
                            piece(&[*lead]);
                        }
                        None => break,
                    }
                }
                Part::Sequence { left, min, max } => {
                    if !(min..=max).contains(&byte) {
                        return Err(InvalidString);
                    }
                    piece(&[byte]);
                    let next = Part::Sequence { left: left - 1, min: 0x80, max: 0xbf };
                    self.part = if left == 1 { Part::Text } else { next };
                }
                Part::Escape if byte == b'u' => self.part = Part::Hex { left: 4, value: 0 },
                Part::Escape => {
                    piece(&[escaped(byte).ok_or(InvalidString)?]);
                    self.part = Part::Text;
                }
                Part::Hex { left, value } => {
                    let digit = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
                    let value = value << 4 | digit.ok_or(InvalidString)?;
                    self.part = Part::Hex { left: left - 1, value };
                    if left == 1 {
                        self.end_of_hex(value, &mut piece)?;
                    }
                }
                Part::LowEscape if byte == b'\\' => self.part = Part::LowHex,
                Part::LowHex if byte == b'u' => self.part = Part::Hex { left: 4, value: 0 },
                Part::LowEscape | Part::LowHex => return Err(InvalidString),
            }
            at += 1;
        }
        Ok((at, false))
    }

    fn end_of_hex(&mut self, unit: u16, piece: &mut impl FnMut(&[u8])) -> Result<(), InvalidString> {
        let is_high = (0xd800..0xdc00).contains(&unit);
        if is_high && self.high == 0 {
            (self.high, self.part) = (unit, Part::LowEscape);
            return Ok(());
        }
        let high = std::mem::take(&mut self.high);
        let units = [high, unit];
        let mut decoded = char::decode_utf16(units.into_iter().skip(usize::from(high == 0)));
        let (Some(Ok(character)), None) = (decoded.next(), decoded.next()) else { return Err(InvalidString) };
        piece(character.encode_utf8(&mut [0; 4]).as_bytes());
        self.part = Part::Text;
        Ok(())
    }
}

/// RFC 8259 section 7.
fn escaped(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// What follows the first byte of a UTF-8 sequence: RFC 3629 section 4.
fn sequence(lead: u8) -> Option<Part> {
    let (left, min, max) = match lead {
        0xc2..=0xdf => (1, 0x80, 0xbf),
        0xe0 => (2, 0xa0, 0xbf),
        0xed => (2, 0x80, 0x9f),
        0xe1..=0xef => (2, 0x80, 0xbf),
        0xf0 => (3, 0x90, 0xbf),
        0xf1..=0xf3 => (3, 0x80, 0xbf),
        0xf4 => (3, 0x80, 0x8f),
        _ => return None,
    };
    Some(Part::Sequence { left, min, max })
}

/// Number of bytes before a quote, a backslash, a control character or a byte outside ASCII.
/// memchr looks for the first two at once only, and the others need a second pass; most strings
/// here are shorter than what its start costs.
#[inline]
pub fn plain_run(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return 8 * index + special.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(*byte, b'"' | b'\\' | 0..0x20 | 0x80..);
    8 * words.len() + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The highest bit of the first such byte is the lowest that is set; higher ones mean nothing.
#[inline]
fn special(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let less = |word: u64, bound: u8| word.wrapping_sub(EACH * u64::from(bound)) & !word;
    let quote = less(word ^ (EACH * u64::from(b'"')), 1);
    let backslash = less(word ^ (EACH * u64::from(b'\\')), 1);
    (quote | backslash | less(word, 0x20) | word) & EACH << 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_in_each_position_ends_a_run_as_it_must() {
        for byte in 0..=u8::MAX {
            let ends = !(0x20..0x80).contains(&byte) || byte == b'"' || byte == b'\\';
            for (length, position) in (0..20).flat_map(|length| (0..length).map(move |at| (length, at))) {
                for filler in *b" a!#[]\x7f~" {
                    let mut bytes = vec![filler; length];
                    bytes[position] = byte;
                    assert_eq!(plain_run(&bytes), if ends { position } else { length });
                    bytes.push(b'"');
                    assert_eq!(plain_run(&bytes), if ends { position } else { length });
                }
            }
        }
    }
}
