//! Cases are data: bytes in, and what is allowed out.

use std::path::Path;

use toml::de::{DeTable, DeValue};

#[path = "../../../../tests/data/escapes.rs"]
mod escapes;

use escapes::unescape;

/// One `[[case]]` of a file under `tests/data`.
pub(super) struct Case<'t>(&'t DeTable<'t>);

/// Runs `check` on every case of `tests/data/<file>` and panics with all that went wrong. A key
/// that is not among `keys` is a mistake in the file: it would check nothing.
pub(super) fn for_each(file: &str, keys: &[&str], check: impl Fn(&Case<'_>) -> Result<(), String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let table = DeTable::parse(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let cases = table.get_ref().get("case").and_then(|cases| cases.get_ref().as_array());
    let cases = cases.unwrap_or_else(|| panic!("{file} has no [[case]]"));
    let mut wrong = Vec::new();
    for case in cases.iter() {
        let case = Case(case.get_ref().as_table().expect("a case is a table"));
        for (key, _) in case.0 {
            assert!(keys.contains(&&**key.get_ref()), "{file}: {}: unknown key {key:?}", case.name());
        }
        if let Err(difference) = check(&case) {
            wrong.push(format!("{}:\n{difference}", case.name()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases of {file}:\n\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n\n")
    );
}

/// `Ok` when both are the same.
pub(super) fn same(what: &str, actual: &str, expected: &str) -> Result<(), String> {
    if actual == expected {
        return Ok(());
    }
    Err(format!("  {what}: {}\n  expected: {}", actual.escape_debug(), expected.escape_debug()))
}

impl Case<'_> {
    pub(super) fn name(&self) -> &str {
        self.text("name").expect("a case has a name")
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.value(key).map(|value| value.as_str().unwrap_or_else(|| panic!("{key} must be a string")))
    }

    pub(super) fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.text(key).map(unescape)
    }

    pub(super) fn number(&self, key: &str) -> Option<usize> {
        let digits = self.value(key)?.as_integer().unwrap_or_else(|| panic!("{key} must be a number"));
        Some(digits.as_str().parse().unwrap_or_else(|e| panic!("{key}: {e}")))
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.as_bool().unwrap_or_else(|| panic!("{key} is no bool")))
    }

    fn value(&self, key: &str) -> Option<&DeValue<'_>> {
        self.0.get(key).map(|value| value.get_ref())
    }
}
