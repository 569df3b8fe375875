//! Content codings of an answer (RFC 9110 §8.4.1), undone in bounded memory.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// How many codings may lie on top of each other.
const MAX_CODINGS: usize = 3;

/// Why a content coding cannot be undone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    #[error("its content coding {0:?} was not offered (deflate, gzip)")]
    Unknown(String),
    #[error("it says that it is {0}, and is not")]
    Broken(&'static str),
    #[error("it has more than {MAX_CODINGS} content codings")]
    TooMany,
}

#[derive(Clone, Copy)]
enum Coding {
    Gzip,
    Deflate,
}

/// Undoes `codings`, the value of Content-Encoding, and returns the first `max_bytes` bytes of what
/// comes out.
///
/// Errors: a coding other than gzip and deflate, or content that is not coded like that.
pub fn decode(codings: &str, content: &[u8], max_bytes: usize) -> Result<Vec<u8>, CodingError> {
    let applied = codings.split(',').map(str::trim).filter(|coding| !coding.is_empty());
    let applied: Vec<Coding> =
        applied.filter_map(|coding| Coding::new(coding).transpose()).collect::<Result<_, _>>()?;
    if applied.len() > MAX_CODINGS {
        return Err(CodingError::TooMany);
    }
    let mut content = content.get(..max_bytes).unwrap_or(content).to_vec();
    // The last one that was applied is undone first.
    for coding in applied.into_iter().rev() {
        content = coding.decode(&content, max_bytes)?;
    }
    Ok(content)
}

impl Coding {
    /// `None` for a name that changes nothing.
    fn new(name: &str) -> Result<Option<Self>, CodingError> {
        match name.to_ascii_lowercase().as_str() {
            "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            _ => Err(CodingError::Unknown(name.into())),
        }
    }

    fn decode(self, content: &[u8], max_bytes: usize) -> Result<Vec<u8>, CodingError> {
        // Some servers name a coding although the content is empty.
        if content.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Gzip => read(MultiGzDecoder::new(content), max_bytes).ok_or(CodingError::Broken("gzip")),
            // RFC 9110 means zlib's format; some servers send bare deflate, and clients take both.
            Self::Deflate => read(ZlibDecoder::new(content), max_bytes)
                .or_else(|| read(DeflateDecoder::new(content), max_bytes))
                .ok_or(CodingError::Broken("deflate")),
        }
    }
}

/// The first `max_bytes` bytes; `None` where they cannot be read.
fn read(decoder: impl Read, max_bytes: usize) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    decoder.take(max_bytes as u64).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const MAX_BYTES: usize = 1000;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut to = GzEncoder::new(Vec::new(), Compression::best());
        to.write_all(content).unwrap();
        to.finish().unwrap()
    }

    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut to = ZlibEncoder::new(Vec::new(), Compression::default());
        to.write_all(content).unwrap();
        to.finish().unwrap()
    }

    fn raw(content: &[u8]) -> Vec<u8> {
        let mut to = DeflateEncoder::new(Vec::new(), Compression::default());
        to.write_all(content).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn gzip_and_both_kinds_of_deflate_are_undone() {
        let plain = b"1158201444";
        for (codings, content) in [
            ("", plain.to_vec()),
            ("identity", plain.to_vec()),
            ("gzip", gzip(plain)),
            ("X-GZip", gzip(plain)),
            ("gzip", [gzip(b"11582"), gzip(b"01444")].concat()),
            ("deflate", zlib(plain)),
            ("deflate", raw(plain)),
            ("deflate, gzip", gzip(&zlib(plain))),
            (" gzip ,, identity", gzip(plain)),
        ] {
            assert_eq!(decode(codings, &content, MAX_BYTES), Ok(plain.to_vec()), "{codings}");
        }
        assert_eq!(decode("gzip", b"", MAX_BYTES), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_undone_is_named() {
        let cut = &gzip(b"1158201444")[..15];
        for (codings, content, error) in [
            ("br", &b"x"[..], CodingError::Unknown("br".into())),
            ("gzip", b"1158201444", CodingError::Broken("gzip")),
            ("gzip", cut, CodingError::Broken("gzip")),
            ("deflate", b"\xff\xff\xff", CodingError::Broken("deflate")),
            ("gzip, gzip, gzip, gzip", b"x", CodingError::TooMany),
        ] {
            assert_eq!(decode(codings, content, MAX_BYTES), Err(error), "{codings}");
        }
    }

    #[test]
    fn no_more_comes_out_than_was_asked_for() {
        let bomb = gzip(&gzip(&vec![0; 10 << 20]));
        assert!(bomb.len() < MAX_BYTES, "{}", bomb.len());
        let inner = gzip(&vec![b' '; 10 << 20]);
        assert_eq!(decode("gzip", &inner, 1 << 16).unwrap(), vec![b' '; 1 << 16]);
        assert!(decode("gzip, gzip", &bomb, MAX_BYTES).is_ok_and(|content| content.len() <= MAX_BYTES));
    }
}
