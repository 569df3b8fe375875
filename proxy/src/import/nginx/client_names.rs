//! Names of client certificates, as conditions on `$ssl_client_s_dn` have them.

use regex_syntax::hir::Hir;

use super::words::{KnownWords, Word};

const ATTRIBUTE: &str = "CN=";

/// The common name in a subject such as `CN=client.example,O=Example`.
pub fn common_name(subject: &str) -> Option<String> {
    let name = subject.split_once(ATTRIBUTE)?.1.split([',', '/', '+']).next()?;
    (!name.is_empty() && Word::is_spelled_out(name)).then(|| name.to_owned())
}

/// The common names that an expression on a subject asks for, where it spells out each.
pub fn names_in_subject(hir: &Hir) -> Option<Vec<String>> {
    let words = KnownWords::new(hir);
    let mut names = words.words.iter().map(|word| common_name(word.text())).collect::<Option<Vec<_>>>()?;
    names.sort();
    names.dedup();
    (!words.is_cut && !names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::pattern::Pattern;

    #[test]
    fn names_that_conditions_ask_for() {
        let names = |pattern: &str| names_in_subject(Pattern::new(pattern, false).hir.as_ref().unwrap());
        assert_eq!(names(r"CN=a\.example"), Some(vec!["a.example".to_owned()]));
        assert_eq!(names(r"(^|,)CN=(a|b)\.example(,|$)"), Some(vec!["a.example".into(), "b.example".into()]));
        assert_eq!(names("O=Example"), None);
        assert_eq!(names("CN=.*"), None);
    }
}
