//! In which groups keys are agreed on with clients.

use super::Finding;
use crate::stats::Document;
use crate::tls::group_names;

/// Nothing where no proxy tells.
pub fn findings(document: &Document) -> Option<Finding> {
    let groups = document.tls_groups.as_ref()?;
    let all: u64 = groups.values().sum();
    let offered = group_names().join(", ");
    let agreed: Vec<_> = groups.iter().map(|(group, count)| format!("{group} {count}")).collect();
    let agreed = if agreed.is_empty() { String::new() } else { format!(": {}", agreed.join(", ")) };
    let text =
        format!("keys are agreed on by {offered}; of {all} handshakes with clients since the start{agreed}");
    Some(Finding::ok("TLS", text))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::config::Mode;

    #[test]
    fn what_clients_agreed_on_is_told() {
        let mut document = Document::without_guard(Timestamp::UNIX_EPOCH, Mode::Observe, []);
        assert!(findings(&document).is_none(), "no proxy has told");
        document.tls_groups = Some([("X25519".to_owned(), 3), ("X25519MLKEM768".to_owned(), 2)].into());
        let text = findings(&document).unwrap().text;
        assert!(text.starts_with("keys are agreed on by X25519MLKEM768, X25519, secp256r1"), "{text}");
        assert!(
            text.ends_with("of 5 handshakes with clients since the start: X25519 3, X25519MLKEM768 2"),
            "{text}"
        );
    }
}
