//! What a scan finds is what a parser of whole documents finds, however the document is cut.

mod documents;
mod reference;
mod tree;

use hookgate::messages::{IdKey, Observation, Scan, Unscanned};

use crate::pieces;
use reference::{Reference, SECRET};
use tree::{Tree, has_depth};

pub use documents::document;

const UPSTREAM: &str = "chatwoot.example.com";
const PATH: &[u8] = b"/webhooks/1";
const SIGNATURE: &[u8] = b"sha256=0123";
const MAX_DEPTH: usize = 64;
const MAX_EVENTS: usize = 4096;

/// The bytes as a body, and a document that they choose.
pub fn check(bytes: &[u8]) {
    check_body(bytes);
    check_body(&document(bytes));
}

pub fn check_body(body: &[u8]) {
    let mut scan = Scan::new();
    for signature in [Some(SIGNATURE), None] {
        let mut results = pieces::ways(body).into_iter().map(|pieces| result(&mut scan, &pieces, signature));
        let first = results.next().expect("there is a way");
        results.for_each(|other| assert_eq!(other, first, "it depends on the pieces"));
        ensure_right(body, signature, first);
    }
}

fn result(scan: &mut Scan, pieces: &[&[u8]], signature: Option<&[u8]>) -> Result<Observation, Unscanned> {
    scan.begin(&IdKey::new(&SECRET), UPSTREAM, PATH);
    pieces.iter().for_each(|piece| scan.feed(piece));
    scan.end(signature).cloned()
}

fn ensure_right(body: &[u8], signature: Option<&[u8]>, result: Result<Observation, Unscanned>) {
    let tree = match serde_json::from_slice::<Tree>(body) {
        Ok(tree) => tree,
        // The scan does not look at the range of a number.
        Err(e) if e.to_string().starts_with("number out of range") => return,
        Err(e) => {
            let is_deep = has_depth(body, MAX_DEPTH + 1);
            let reason = result.expect_err("a body that serde_json refuses is scanned");
            let is_right = reason == Unscanned::NotJson || is_deep && reason == Unscanned::TooDeep;
            return assert!(is_right, "{} of a body of which serde_json says: {e}", reason.name());
        }
    };
    let reference = Reference { upstream: UPSTREAM, path: PATH, signature };
    if tree.depth() > MAX_DEPTH {
        return assert_eq!(result, Err(Unscanned::TooDeep));
    }
    if result == Err(Unscanned::TooMany) {
        // An update takes two bytes and a comma at least.
        return assert!(body.len() > 2 * MAX_EVENTS, "too many events in {} bytes", body.len());
    }
    assert_eq!(result, Ok(reference.observe(&tree)));
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

        #[test]
        fn a_scan_finds_what_a_parser_finds(choices in vec(any::<u8>(), 0..800)) {
            check_body(&document(&choices));
        }

        #[test]
        fn a_scan_of_a_changed_document_finds_what_a_parser_finds(
            choices in vec(any::<u8>(), 0..400),
            changes in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..4),
        ) {
            let mut body = document(&choices);
            for (index, byte, change) in changes {
                let at = index.index(body.len() + 1);
                match change {
                    0 => body.insert(at, byte),
                    1 => body.truncate(at),
                    _ if at == body.len() => body.push(byte),
                    2 => body[at] = byte,
                    _ => { body.remove(at); }
                }
            }
            check_body(&body);
        }
    }

    /// Otherwise the other tests say nothing.
    #[test]
    fn documents_have_updates_of_every_kind() {
        let mut seen = std::collections::BTreeSet::new();
        let mut state = 1_u64;
        let mut choice = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        for _ in 0..5000 {
            let choices = (0..600).map(|_| choice()).collect::<Vec<_>>();
            let body = document(&choices);
            let Ok(observation) = result(&mut Scan::new(), &[&body], Some(SIGNATURE)) else { continue };
            seen.extend(observation.names_fwdproxy.then(|| "fwdproxy".to_owned()));
            seen.extend((observation.numbers.len() > 1).then(|| "numbers".to_owned()));
            for event in observation.events {
                let step = event.chain.map(|chain| chain.step);
                seen.insert(format!("{:?} {:?} {step:?}", observation.product, event.kind));
                seen.extend(event.without_number.then(|| "without a number".to_owned()));
            }
        }
        let seen = seen.into_iter().collect::<Vec<_>>();
        let expected = [
            "Instagram Message None",
            "Instagram Other None",
            "Instagram Status None",
            "Messenger Message None",
            "Messenger Other None",
            "Messenger Status None",
            "Other Message None",
            "Other Other None",
            "Other Status None",
            "WhatsApp Message None",
            "WhatsApp Other None",
            "WhatsApp Status None",
            "WhatsApp Status Some(Later)",
            "WhatsApp Status Some(Sent)",
            "fwdproxy",
            "numbers",
            "without a number",
        ];
        assert_eq!(seen, expected);
    }
}
