use super::*;

/// Documents of which serde_json says whether they are valid.
const DOCUMENTS: [&[u8]; 96] = [
    b"",
    b" ",
    b"{}",
    b" { } ",
    b"[]",
    b"[ ]",
    b"1",
    b"\"\"",
    b"null",
    b"true",
    b"false",
    b"nul",
    b"nulll",
    b"True",
    b"truefalse",
    b"[true,false,null]",
    b"[tru]",
    b"{",
    b"[",
    b"}",
    b"]",
    b"{]",
    b"[}",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{\"a\":1,}",
    b"{,\"a\":1}",
    b"{a:1}",
    b"{\"a\":1 \"b\":2}",
    b"{\"a\"::1}",
    b"{\"a\":1}x",
    b"{} {}",
    b"{},",
    b"[1]]",
    b"\xef\xbb\xbf{}",
    b"{}\0",
    b"\t\r\n{}\n",
    b"\x0c{}",
    b"\x0b1",
    b"0",
    b"-0",
    b"-",
    b"-a",
    b"01",
    b"-01",
    b"1.",
    b"1.0",
    b".5",
    b"1.5e3",
    b"1e",
    b"1e+",
    b"1E-3",
    b"1e+x",
    b"+1",
    b"1-",
    b"0x1",
    b"[0.0e0]",
    b"[1e5,2]",
    b"NaN",
    b"'a'",
    b"\"a",
    b"\"a\\\"",
    b"\"\\\\\"",
    b"\"\\/\\b\\f\\n\\r\\t\"",
    b"\"\\x\"",
    b"\"\\u12\"",
    b"\"\\u123g\"",
    b"\"\\u0000\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\\ud83d\"",
    b"\"\\ude00\"",
    b"\"\\ud83d\\u0041\"",
    b"\"\\ud83d\\ud83d\"",
    b"\"\\ud83dx\"",
    b"\"\\ud83d\\n\"",
    b"\"\n\"",
    b"\"\x1f\"",
    b"\"\x7f\"",
    b"\"\xc3\xa9\"",
    b"\"\xc3\"",
    b"\"\xc3\\u00a9\"",
    b"\"\xa9\"",
    b"\"\xc0\x80\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xed\x9f\xbf\"",
    b"\"\xf0\x9f\x98\x80\"",
    b"\"\xf0\x8f\x80\x80\"",
    b"\"\xf4\x8f\xbf\xbf\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xf5\x80\x80\x80\"",
    b"\"\xe0\x9f\x80\"",
    b"\"\xef\xbf\xbf\"",
    b"{\"\xff\":1}",
];

fn ensure_same(document: &[u8]) {
    let expected = serde_json::from_slice::<Value>(document);
    let shown = document.escape_ascii();
    assert_eq!(scan(document).is_ok(), expected.is_ok(), "{shown}: {expected:?}");
    let bytes = document.iter().map(std::slice::from_ref).collect::<Vec<_>>();
    assert_eq!(scan_pieces(&bytes, Some(SIGNATURE)), scan(document), "{shown}");
}

#[test]
fn a_body_is_json_if_serde_json_reads_it() {
    for document in DOCUMENTS {
        ensure_same(document);
        ensure_same(&[b"[", document, b"]"].concat());
        ensure_same(&[b"{\"entry\":", document, b",\"\\u0061\":[]}"].concat());
    }
}

#[test]
fn every_two_bytes_in_a_string_are_checked() {
    for pair in 0..=u16::MAX {
        let [first, second] = pair.to_be_bytes();
        let document = [b'"', first, second, b'"'];
        let expected = serde_json::from_slice::<Value>(&document).is_ok();
        assert_eq!(scan(document).is_ok(), expected, "{}", document.escape_ascii());
    }
}

#[test]
fn a_body_that_ends_early_is_not_json() {
    for (name, body) in payloads().into_iter().filter(|(_, body)| body.len() < 10_000) {
        for length in 0..body.len() {
            assert_eq!(scan(&body[..length]), Err(Unscanned::NotJson), "{length} bytes of {name}");
        }
    }
}

#[test]
fn keys_are_read_as_they_are_meant() {
    let plain = whatsapp("messages", r#"{"messages":[{"id":"a","from":"5"}]}"#);
    let escaped = plain.replace("\"id\"", r#""\u0069\u0064""#).replace("\"entry\"", r#""entr\u0079""#);
    let escaped = escaped.replace(":\"a\"", r#":"\u0061""#);
    assert_ne!(plain, escaped);
    assert_eq!(observe(escaped), observe(plain));
    let slash = r#"{"messages":[{"id":"a\/\\b\ud83d\ude00"}]}"#;
    assert_eq!(keys(whatsapp("a", slash)), keys(whatsapp("a", r#"{"messages":[{"id":"a/\\b😀"}]}"#)));
}
