//! The known key that was most likely meant.

/// The one of `known` with the fewest edits to `written`, if they are few enough to be a slip.
pub(super) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let (edits, key) = known.iter().map(|key| (distance(written, key), *key)).min()?;
    (edits <= 2.max(written.len() / 3)).then_some(key)
}

/// Levenshtein's distance over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_nonsense_finds_none() {
        let known = ["https", "plain", "plain_scheme", "keepalive"];
        assert_eq!(nearest("htps", &known), Some("https"));
        assert_eq!(nearest("plain-scheme", &known), Some("plain_scheme"));
        assert_eq!(nearest("keep_alive", &known), Some("keepalive"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
