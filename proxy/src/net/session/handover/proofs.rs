//! A session before its hand-over reads no byte beyond a record's end.
//!
//! Whether it does depends only on the bytes read so far, and `rest_of_record` bounds the next
//! read. So it is enough that at every place in a stream the bound leads at most to the end of the
//! record there; then no sequence of reads, however short each, passes an end without stopping at
//! it.

use super::*;

/// Records one after the other, and where each begins and ends.
fn stream(kind: u8, version: [u8; 2], lengths: &[u16]) -> (Vec<u8>, Vec<(usize, usize)>) {
    let (mut bytes, mut places) = (Vec::new(), Vec::new());
    for length in lengths {
        let begin = bytes.len();
        bytes.extend([kind, version[0], version[1]]);
        bytes.extend(length.to_be_bytes());
        // Content that would be another length if it were taken for a header.
        bytes.resize(bytes.len() + usize::from(*length), 0xff);
        places.push((begin, bytes.len()));
    }
    (bytes, places)
}

/// With `read` bytes of a stream: what is left of the header there, else of its record.
fn model(places: &[(usize, usize)], read: usize) -> usize {
    let last = places.last().map_or(0, |(_, end)| *end);
    let (begin, end) = places
        .iter()
        .copied()
        .find(|(begin, end)| (*begin..*end).contains(&read))
        .unwrap_or((last, last + 5));
    let header = begin + 5;
    if read < header { header - read } else { end - read }
}

/// Proven for every length that a header can name, with seven types and versions (TLS's own, and
/// some that are none): within the header, at its end, around the record's end, and within the next
/// header.
#[test]
fn every_length_bounds_a_read() {
    let headers = [
        (0, [3, 3]),
        (20, [3, 3]),
        (21, [3, 1]),
        (22, [3, 1]),
        (23, [3, 3]),
        (0x80, [2, 0]),
        (0xff, [0xff; 2]),
    ];
    for (kind, version) in headers {
        let (mut bytes, _) = stream(kind, version, &[u16::MAX]);
        bytes.resize(bytes.len() + RECORD_HEADER_BYTES, 0);
        for length in 0..=u16::MAX {
            bytes[3..5].copy_from_slice(&length.to_be_bytes());
            let end = RECORD_HEADER_BYTES + usize::from(length);
            // The next header may say anything: it is not whole.
            for read in (0..=6).chain(end - 1..end + RECORD_HEADER_BYTES) {
                let rest = rest_of_record(&bytes[..read]);
                assert_eq!(rest, model(&[(0, end)], read), "{kind} {version:?} {length}, {read} read");
            }
        }
    }
}

/// Proven for every sequence of up to five records of at most three bytes, after each number of
/// bytes read.
#[test]
fn every_short_sequence_of_records_bounds_a_read() {
    const LENGTHS: u16 = 4;
    for count in 0..=5 {
        for number in 0..LENGTHS.pow(count) {
            let lengths = (0..count).map(|place| number / LENGTHS.pow(place) % LENGTHS).collect::<Vec<_>>();
            let (bytes, places) = stream(23, [3, 3], &lengths);
            for read in 0..=bytes.len() {
                let rest = rest_of_record(&bytes[..read]);
                assert_eq!(rest, model(&places, read), "{lengths:?}, {read} read");
                let passes = |(_, end): &(usize, usize)| (read + 1..read + rest).contains(end);
                assert!(!places.iter().any(passes), "{lengths:?}, {read} read, {rest} more");
            }
        }
    }
}
