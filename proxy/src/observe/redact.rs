//! Targets as they may be written down.

/// `path_and_query` with the value of every verify token replaced, however its name is spelt or escaped.
pub(super) fn target(path_and_query: &[u8], to: &mut String) {
    let text = String::from_utf8_lossy(path_and_query);
    let Some((path, query)) = text.split_once('?') else { return to.push_str(&text) };
    to.push_str(path);
    for (index, parameter) in query.split('&').enumerate() {
        to.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if names_a_token(name) => {
                to.push_str(name);
                to.push_str("=***");
            }
            _ => to.push_str(parameter),
        }
    }
}

/// `hub.verify_token`, `hub_verify_token` and the like.
fn names_a_token(name: &str) -> bool {
    const WORD: [u8; 11] = *b"verifytoken";
    let mut latest = [0; WORD.len()];
    percent_decoded(name).filter(u8::is_ascii_alphabetic).any(|letter| {
        latest.rotate_left(1);
        latest[WORD.len() - 1] = letter.to_ascii_lowercase();
        latest == WORD
    })
}

fn percent_decoded(text: &str) -> impl Iterator<Item = u8> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        let escaped = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                at += 3;
                Some(decoded)
            }
            None => {
                at += 1;
                Some(byte)
            }
        }
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
            ("/a?%zz=1", "/a?%zz=1"),
        ] {
            let mut masked = String::new();
            super::target(written.as_bytes(), &mut masked);
            assert_eq!(masked, expected);
        }
    }
}
