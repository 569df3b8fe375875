use hookgate::server::read_and_write;

/// What one process understands of a line, the other would understand as well: written again it is
/// one line that says the same.
pub fn check(bytes: &[u8]) {
    for (said, line) in read_and_write(bytes) {
        assert_eq!(line.iter().position(|b| *b == b'\n'), Some(line.len() - 1), "{}", line.escape_ascii());
        let again = read_and_write(&line);
        let is_same = again.iter().any(|(said_again, line_again)| *said_again == said && *line_again == line);
        assert!(is_same, "{said} is written as {}, which says {again:?}", line.escape_ascii());
        says_all(bytes, &line);
    }
}

/// Whatever is a number, a path or a word in what was written stood in what was read.
fn says_all(read: &[u8], written: &[u8]) {
    // An escape may be written as the character that it means, and a number may have another form.
    if read.contains(&b'\\') || !read.is_ascii() {
        return;
    }
    let mut rest = written;
    while let Some(begin) = rest.iter().position(|b| *b == b'"') {
        let after = &rest[begin + 1..];
        let length = after.iter().position(|b| *b == b'"').expect("a text has an end");
        let word = &after[..length];
        // Addresses and networks have more spellings than one.
        let is_plain = word.iter().all(|b| b.is_ascii_alphabetic() || *b == b'_');
        let is_there = word.is_empty() || read.windows(word.len()).any(|window| window == word);
        assert!(!is_plain || is_there || is_a_key(word), "{} was added", word.escape_ascii());
        rest = &after[length + 1..];
    }
}

/// Names of fields, which JSON may leave out: a list of the values means the same.
fn is_a_key(word: &[u8]) -> bool {
    const KEYS: [&str; 11] = [
        "asked",
        "code",
        "configured",
        "refresh",
        "registered",
        "registry",
        "removed",
        "rows",
        "standing",
        "why",
        "words",
    ];
    KEYS.iter().any(|key| key.as_bytes() == word)
}
