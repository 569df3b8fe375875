//! Readers of requests with bad manners, one way of being lenient at a time and all together.

/// What a reader puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// A line may end in LF alone.
    bare_lf: bool,
    /// A line may end in CR alone.
    bare_cr: bool,
    /// Of a coding and a length, the length counts.
    length_wins: bool,
    /// Of several lines of one name the last counts, not the first.
    last_wins: bool,
    /// Any coding that has `chunked` somewhere in it.
    fuzzy_coding: bool,
    /// `_` in a name is `-`, as for CGI and its heirs.
    underscores: bool,
    /// White space around a name, and a line that begins with it, are nothing special.
    spaces: bool,
    /// Numbers end where their digits end, and may begin with a sign or `0x`.
    loose_numbers: bool,
}

impl Manners {
    /// Every combination.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..1u32 << 8).map(|bits| {
            let has = |bit: u32| bits & 1 << bit != 0;
            Self {
                bare_lf: has(0),
                bare_cr: has(1),
                length_wins: has(2),
                last_wins: has(3),
                fuzzy_coding: has(4),
                underscores: has(5),
                spaces: has(6),
                loose_numbers: has(7),
            }
        })
    }

    /// The requests in `stream` as this reader sees them, a request line each; what is none ends
    /// the list as it is.
    pub fn read(self, stream: &[u8]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let Some((start, after)) = self.request(rest) else {
                seen.push(format!("not a request: {}", rest.escape_ascii()));
                break;
            };
            seen.push(start);
            rest = after;
        }
        seen
    }

    /// One request line, and what follows the request; `None` for half a request.
    fn request(self, stream: &[u8]) -> Option<(String, &[u8])> {
        let (start, mut rest) = self.line(stream)?;
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            let (line, after) = self.line(rest)?;
            rest = after;
            if line.is_empty() {
                break;
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            let name = if self.underscores { name.replace('_', "-") } else { name };
            let name = if self.spaces { name.trim().to_owned() } else { name };
            let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
            fields.push((name, value.to_vec()));
        }
        let rest = match (self.field(&fields, "transfer-encoding"), self.field(&fields, "content-length")) {
            (Some(coding), length) if self.is_chunked(coding) && !(self.length_wins && length.is_some()) => {
                self.skip_chunks(rest)?
            }
            (_, Some(length)) => rest.get(self.number(length, 10)?..)?,
            (_, None) => rest,
        };
        Some((String::from_utf8_lossy(start).into_owned(), rest))
    }

    /// A line without its end, and what follows it.
    fn line(self, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let mut at = 0;
        loop {
            match bytes.get(at..)? {
                [b'\r', b'\n', ..] => return Some((&bytes[..at], &bytes[at + 2..])),
                [b'\n', ..] if self.bare_lf => return Some((&bytes[..at], &bytes[at + 1..])),
                [b'\r', ..] if self.bare_cr => return Some((&bytes[..at], &bytes[at + 1..])),
                [_, ..] => at += 1,
                [] => return None,
            }
        }
    }

    fn field<'f>(self, fields: &'f [(String, Vec<u8>)], name: &str) -> Option<&'f [u8]> {
        let mut named = fields.iter().filter(|(own, _)| own == name);
        let found = if self.last_wins { named.next_back() } else { named.next() };
        found.map(|(_, value)| &value[..])
    }

    fn is_chunked(self, coding: &[u8]) -> bool {
        let coding = String::from_utf8_lossy(coding).to_ascii_lowercase();
        if self.fuzzy_coding { coding.contains("chunked") } else { coding == "chunked" }
    }

    /// What follows a chunked body.
    fn skip_chunks(self, mut rest: &[u8]) -> Option<&[u8]> {
        loop {
            let (line, after) = self.line(rest)?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = self.number(size, 16)?;
            if size == 0 {
                rest = after;
                break;
            }
            let (end, after) = self.line(after.get(size..)?)?;
            if !end.is_empty() {
                return None;
            }
            rest = after;
        }
        loop {
            let (line, after) = self.line(rest)?;
            rest = after;
            if line.is_empty() {
                return Some(rest);
            }
        }
    }

    fn number(self, text: &[u8], radix: u32) -> Option<usize> {
        let text = std::str::from_utf8(text).ok()?;
        if !self.loose_numbers {
            return usize::from_str_radix(text, radix).ok();
        }
        let text = text.trim().trim_start_matches(['+', '-']).trim_start_matches("0x");
        let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
        usize::from_str_radix(&text[..end], radix).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some reader is taken in by each of these, or the readers are worth nothing.
    #[test]
    fn each_way_of_being_lenient_is_seen() {
        let next = "GET /b HTTP/1.1\r\n\r\n";
        for smuggled in [
            "POST /a HTTP/1.1\r\nContent-Length: 24\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 19\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: 24\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent_Length: 19\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length : 19\r\n\r\n",
            "POST /a HTTP/1.1\r\nX: y\nContent-Length: 19\r\n\r\n",
            "POST /a HTTP/1.1\r\nX: y\rContent-Length: 19\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: 0x19\r\n\r\n",
        ] {
            let stream = format!("{smuggled}{next}");
            let readings: std::collections::BTreeSet<_> =
                Manners::all().map(|reader| reader.read(stream.as_bytes())).collect();
            assert!(readings.len() > 1, "{smuggled:?}: all read {readings:?}");
        }
        let clear = format!("POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nok{next}");
        for reader in Manners::all() {
            let seen = reader.read(clear.as_bytes());
            assert_eq!(seen, ["POST /a HTTP/1.1", "GET /b HTTP/1.1"], "{reader:?}");
        }
    }
}
