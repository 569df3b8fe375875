//! Splits a PEM text into its blocks (RFC 7468), as OpenSSL does. A damaged marker is an error:
//! if the first block were skipped, the next certificate would be taken for the server's own.

use std::fmt;

use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Windows editors put it before a text; `cat` leaves it between two texts.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What lies between a BEGIN marker and its END marker.
pub(super) struct Block<'t> {
    /// The label of both markers.
    pub(super) label: &'t [u8],
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// Its base64, without whitespace.
    pub(super) base64: Zeroizing<Vec<u8>>,
    /// Whether its fields say so (RFC 1421 §4.6.1.1).
    pub(super) is_encrypted: bool,
}

/// Where and how a text breaks the format.
#[derive(Debug, PartialEq, Eq)]
pub struct BadBlock {
    /// From 1.
    pub line: usize,
    pub fault: PemError,
}

#[derive(Debug, PartialEq, Eq)]
pub enum PemError {
    Unended,
    Unbegun,
    EndsAsAnother,
    RunTogether,
    NotAtStart,
    Dashes,
    NotBase64,
    Utf16,
}

impl fmt::Display for BadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, fault } = self;
        write!(f, "line {line}: ")?;
        f.write_str(match fault {
            PemError::Unended => "the block that begins here does not end",
            PemError::Unbegun => "a block ends here that has not begun",
            PemError::EndsAsAnother => "the block that ends here began with another name",
            PemError::RunTogether => "one block ends and another begins: break the line between them",
            PemError::NotAtStart => "something stands before the dashes: remove it, spaces too",
            PemError::Dashes => "a block begins and ends with five dashes on each side of its name, as in -----BEGIN CERTIFICATE-----",
            PemError::NotBase64 => "the block that begins here is not base64",
            PemError::Utf16 => "the text is UTF-16: save it as UTF-8",
        })
    }
}

enum Marker<'t> {
    Begin(&'t [u8]),
    End(&'t [u8]),
}

/// All blocks, in order.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, BadBlock> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(BadBlock { line: 1, fault: PemError::Utf16 });
    }
    let mut blocks = Vec::new();
    let mut open: Option<OpenBlock<'_>> = None;
    for (content, line) in lines(text).zip(1..) {
        let found = marker(content).map_err(|fault| BadBlock { line, fault })?;
        open = match (open.take(), found) {
            (None, None) => None,
            (None, Some(Marker::Begin(label))) => Some(OpenBlock::new(label, line)),
            (None, Some(Marker::End(_))) => return Err(BadBlock { line, fault: PemError::Unbegun }),
            (Some(block), Some(Marker::Begin(_))) => return Err(block.unended()),
            (Some(mut block), None) => {
                block.add(content);
                Some(block)
            }
            (Some(block), Some(Marker::End(label))) if label == block.block.label => {
                blocks.push(block.block);
                None
            }
            (Some(_), Some(Marker::End(_))) => return Err(BadBlock { line, fault: PemError::EndsAsAnother }),
        };
    }
    open.map_or(Ok(blocks), |block| Err(block.unended()))
}

/// A block whose END marker has not been read yet.
struct OpenBlock<'t> {
    block: Block<'t>,
    /// Whether the last line belonged to a field such as `DEK-Info`, before the base64.
    in_fields: bool,
}

impl<'t> OpenBlock<'t> {
    fn new(label: &'t [u8], line: usize) -> Self {
        Self {
            block: Block { label, line, base64: Zeroizing::default(), is_encrypted: false },
            in_fields: false,
        }
    }

    fn add(&mut self, line: &[u8]) {
        let is_field = line.contains(&b':') && self.block.base64.is_empty();
        let goes_on = self.in_fields && line.first().is_some_and(u8::is_ascii_whitespace) && !is_blank(line);
        if is_field || goes_on {
            self.in_fields = true;
            self.block.is_encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
            return;
        }
        self.in_fields = false;
        let base64 = &mut self.block.base64;
        if base64.capacity() - base64.len() < line.len() {
            // A vector that grows by itself leaves a copy of the key behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * (base64.len() + line.len())));
            larger.extend_from_slice(base64);
            *base64 = larger;
        }
        base64.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
    }

    fn unended(self) -> BadBlock {
        BadBlock { line: self.block.line, fault: PemError::Unended }
    }
}

/// Splits at CR LF, LF and CR.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr2(b'\n', b'\r', text) else {
            rest = None;
            return Some(text);
        };
        let (line, after) = text.split_at(end);
        rest = Some(after.strip_prefix(b"\r\n").unwrap_or(&after[1..]));
        Some(line)
    })
}

/// The marker in a line, if there is one.
fn marker(line: &[u8]) -> Result<Option<Marker<'_>>, PemError> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii_end();
    let named = |prefix| line.strip_prefix(prefix)?.strip_suffix(DASHES).filter(|label| is_label(label));
    if let Some(label) = named(BEGIN) {
        return Ok(Some(Marker::Begin(label)));
    }
    if let Some(label) = named(END) {
        return Ok(Some(Marker::End(label)));
    }
    let has = |words: &[u8]| memchr::memmem::find(line, words).is_some();
    match line.trim_ascii_start() {
        [b'#', ..] => Ok(None),
        _ if line.starts_with(END) && has(BEGIN) => Err(PemError::RunTogether),
        _ if line.starts_with(BEGIN) || line.starts_with(END) => Err(PemError::Dashes),
        _ if has(BEGIN) || has(END) => Err(PemError::NotAtStart),
        // Too few dashes, or typographic ones.
        [b'-' | 0x80.., ..] if is_broken_marker(line) => Err(PemError::Dashes),
        _ => Ok(None),
    }
}

fn is_label(label: &[u8]) -> bool {
    label.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') && !label.contains(&b'-')
}

/// Whether this would be the marker of a certificate or key with other dashes.
fn is_broken_marker(line: &[u8]) -> bool {
    let has = |words: &[u8]| memchr::memmem::find(line, words).is_some();
    (has(b"BEGIN ") || has(b"END ")) && (has(b"CERTIFICATE") || has(b"PRIVATE KEY"))
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Label, line and base64.
    type Found = (String, usize, String);

    fn found(text: &str) -> Result<Vec<Found>, (usize, PemError)> {
        let words = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let blocks = blocks(text.as_bytes()).map_err(|bad| (bad.line, bad.fault))?;
        Ok(blocks.iter().map(|block| (words(block.label), block.line, words(&block.base64))).collect())
    }

    const ONE: &str = "-----BEGIN A-----\nAAAA\nBBBB\n-----END A-----\n";
    const TWO: &str = "-----BEGIN B C-----\nCCCC\n-----END B C-----\n";

    #[test]
    fn what_stands_around_and_in_blocks_does_not_hide_them() {
        let both = |one: usize, two: usize| {
            Ok(vec![("A".into(), one, "AAAABBBB".into()), ("B C".into(), two, "CCCC".into())])
        };
        for (text, one, two) in [
            (format!("{ONE}{TWO}"), 1, 5),
            (format!("\u{feff}{ONE}\u{feff}{TWO}"), 1, 5),
            (format!("{ONE}{TWO}").replace('\n', "\r\n"), 1, 5),
            (format!("{ONE}{TWO}").replace('\n', "\r"), 1, 5),
            (format!("{ONE}{TWO}").trim_end().to_owned(), 1, 5),
            (format!("{ONE}{TWO}").replace('\n', "  \n"), 1, 5),
            (format!("Subject: x\n---\n{ONE}\nkey:\n{TWO}after"), 3, 9),
            (format!("# -----BEGIN A-----\n# -----END A-----\n{ONE}{TWO}"), 3, 7),
            (format!("{ONE}{TWO}").replace("AAAA\n", "Name: a\n more\n\nAAAA\n"), 1, 8),
            (format!("{ONE}{TWO}").replace("AAAA", " AA AA"), 1, 5),
        ] {
            assert_eq!(found(&text), both(one, two), "{text}");
        }
        assert_eq!(found("no block"), Ok(vec![]));
        assert_eq!(found("\nBEGIN with a walk -----\n- END of it"), Ok(vec![]));
    }

    #[test]
    fn no_block_is_left_out_without_a_word() {
        for (text, line, fault) in [
            (format!("{}{TWO}", ONE.trim_end()), 4, PemError::RunTogether),
            (format!("  {ONE}{TWO}"), 1, PemError::NotAtStart),
            (format!("key-----BEGIN A-----\n{TWO}"), 1, PemError::NotAtStart),
            (format!("> {ONE}{TWO}"), 1, PemError::NotAtStart),
            (ONE[..23].to_owned(), 1, PemError::Unended),
            (format!("{}{TWO}", &ONE[..23]), 1, PemError::Unended),
            (ONE[18..].to_owned(), 3, PemError::Unbegun),
            (ONE.replace("END A", "END B"), 4, PemError::EndsAsAnother),
            (ONE.replace("BEGIN A-----", "BEGIN A----"), 1, PemError::Dashes),
            (format!("----BEGIN CERTIFICATE-----\n{TWO}"), 1, PemError::Dashes),
            (format!("——-BEGIN CERTIFICATE——-\n{TWO}"), 1, PemError::Dashes),
        ] {
            assert_eq!(found(&text), Err((line, fault)), "{text}");
        }
        assert!(matches!(blocks(b"\xff\xfe-\0"), Err(BadBlock { line: 1, fault: PemError::Utf16 })));
    }

    #[test]
    fn encrypted_blocks_are_known() {
        let text = ONE.replace("AAAA\n", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n");
        let encrypted = blocks(text.as_bytes()).unwrap().first().map(|block| block.is_encrypted);
        assert_eq!(encrypted, Some(true));
    }
}
