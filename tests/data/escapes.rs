//! How bytes are written in this folder's files.

/// The bytes of a string: `\r \n \t \\ \xHH` stand for themselves, `\{abc*100}` for a hundred times
/// `abc`, and real line ends for nothing.
///
/// # Panics
/// It is written in another way.
pub fn unescape(written: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), written);
    while let Some((before, after)) = rest.split_once(['\\', '\n']) {
        bytes.extend_from_slice(before.as_bytes());
        let is_line_end = rest.as_bytes()[before.len()] == b'\n';
        rest = if is_line_end { after } else { escape(after, &mut bytes) };
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Reads what follows a backslash, and returns what follows that.
fn escape<'t>(written: &'t str, bytes: &mut Vec<u8>) -> &'t str {
    if let Some(hex) = written.strip_prefix('x') {
        bytes.push(u8::from_str_radix(&hex[..2], 16).expect("two hexadecimal digits after \\x"));
        return &hex[2..];
    }
    if let Some(repeated) = written.strip_prefix('{') {
        let (inside, after) = repeated.split_once('}').expect("\\{ has its }");
        let (unit, times) = inside.rsplit_once('*').expect("\\{abc*100}");
        bytes.extend(unescape(unit).repeat(times.parse().expect("how often")));
        return after;
    }
    bytes.push(match written.as_bytes().first() {
        Some(b'r') => b'\r',
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'\\') => b'\\',
        other => panic!("no escape: \\{:?}", other.map(|b| char::from(*b))),
    });
    &written[1..]
}
