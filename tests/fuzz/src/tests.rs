use std::panic::catch_unwind;
use std::path::Path;

use crate::{TARGETS, seeds};

/// What the tests' data says, and what libFuzzer has found worth keeping: what was a finding once
/// stays none.
#[test]
fn what_was_kept_breaks_nothing() {
    let mut broken = Vec::new();
    for (name, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let kept =
            entries.map(|entry| std::fs::read(entry.expect("a readable folder").path()).expect("a file"));
        let inputs: Vec<Vec<u8>> = kept.chain(seeds::seeds(name)).collect();
        assert!(inputs.len() > 20, "{name} has next to nothing to begin with");
        let breaks = |input: &&Vec<u8>| catch_unwind(|| check(input)).is_err();
        broken.extend(inputs.iter().filter(breaks).map(|input| format!("{name}: {}", input.escape_ascii())));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
