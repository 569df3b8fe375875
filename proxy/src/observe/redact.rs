//! Targets as they may be written down.

/// `path_and_query` with the value of every verify token replaced, however its name is spelt or
/// escaped and whatever stands before it. Receivers differ in what separates parameters (`&`, `;`,
/// a second `?`, escaped ones), so a token is taken to go on to the next `&`. Bytes that are not
/// UTF-8 become U+FFFD.
pub fn target(path_and_query: &[u8], to: &mut String) {
    let text = String::from_utf8_lossy(path_and_query);
    if !text.contains('=') && !text.contains("%3") {
        // Nothing has a value.
        return to.push_str(&text);
    }
    for (index, parameter) in text.split('&').enumerate() {
        if index > 0 {
            to.push('&');
        }
        match value_of_token(parameter) {
            Some(start) => {
                to.push_str(&parameter[..start]);
                to.push_str("***");
            }
            None => to.push_str(parameter),
        }
    }
}

/// Where the value begins behind `hub.verify_token=`, `hub_verify_token%3D` and the like.
fn value_of_token(parameter: &str) -> Option<usize> {
    const WORD: [u8; 11] = *b"verifytoken";
    let mut latest = [0; WORD.len()];
    let mut is_named = false;
    for (byte, end) in percent_decoded(parameter) {
        if byte == b'=' && is_named {
            return Some(end);
        }
        if b"/?;&".contains(&byte) {
            // Another name begins.
            (latest, is_named) = Default::default();
        }
        if byte.is_ascii_alphabetic() {
            latest.rotate_left(1);
            latest[WORD.len() - 1] = byte.to_ascii_lowercase();
            is_named |= latest == WORD;
        }
    }
    None
}

/// Each byte, and where what it was written as ends.
fn percent_decoded(text: &str) -> impl Iterator<Item = (u8, usize)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        let digits = bytes
            .get(at + 1..at + 3)
            .filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        at += if decoded.is_some() { 3 } else { 1 };
        Some((decoded.unwrap_or(byte), at))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_spelling_of_a_verify_token_is_written_down() {
        for (written, expected) in [
            ("/a/b", "/a/b"),
            ("/a?x=1&hub.verify_token=s3cret&y=2", "/a?x=1&hub.verify_token=***&y=2"),
            ("/a?hub_verify_token=s3cret", "/a?hub_verify_token=***"),
            ("/a?hub%2Everify%5ftoken=s3cret", "/a?hub%2Everify%5ftoken=***"),
            ("/a?Hub.Verify_Token=s3cret=x", "/a?Hub.Verify_Token=***"),
            ("/a?x=1;hub.verify_token=s3cret", "/a?x=1;hub.verify_token=***"),
            ("/a?hub.verify_token=s3cret;y=2&z=3", "/a?hub.verify_token=***&z=3"),
            ("/a?x=1%3Bhub.verify_token=s3cret", "/a?x=1%3Bhub.verify_token=***"),
            ("/a?x=1%26hub.verify_token%3Ds3cret", "/a?x=1%26hub.verify_token%3D***"),
            ("/a?x=1?hub.verify_token=s3cret", "/a?x=1?hub.verify_token=***"),
            ("/a%3Fhub.verify_token=s3cret", "/a%3Fhub.verify_token=***"),
            ("/a;hub.verify_token=s3cret/b", "/a;hub.verify_token=***"),
            ("/a?hub[verify_token]=s3cret", "/a?hub[verify_token]=***"),
            ("/a?hub.verify_token&y=2", "/a?hub.verify_token&y=2"),
            ("/verify_token/a?x=1", "/verify_token/a?x=1"),
            ("/a?%zz=1&%", "/a?%zz=1&%"),
            ("/a?hub.verify_token=ü%e4", "/a?hub.verify_token=***"),
            ("/a?hub.v%+erify_token=s3cret", "/a?hub.v%+erify_token=***"),
        ] {
            let mut masked = String::new();
            super::target(written.as_bytes(), &mut masked);
            assert_eq!(masked, expected);
        }
    }
}
