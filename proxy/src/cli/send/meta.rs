//! Requests as Meta's senders write them.

use std::fmt::Write as _;

use aws_lc_rs::hmac;

use super::url::Url;

/// The request by which Meta asks whether a callback URL is its app's.
pub fn verification(url: &Url, token: &str, challenge: &str) -> Vec<u8> {
    let Url { authority, target, .. } = url;
    let and = if target.contains('?') { '&' } else { '?' };
    let token = percent_encoded(token);
    let query = format!("hub.mode=subscribe&hub.challenge={challenge}&hub.verify_token={token}");
    let head = format!(
        "GET {target}{and}{query} HTTP/1.1\r\nHost: {authority}\r\n\
         User-Agent: facebookplatform/1.0 (+http://developers.facebook.com)\r\n\
         Accept: */*\r\nAccept-Encoding: deflate, gzip\r\n\r\n"
    );
    head.into_bytes()
}

/// A delivery, signed where the app's secret is known.
pub fn delivery(url: &Url, payload: &[u8], secret: Option<&str>) -> Vec<u8> {
    let Url { authority, target, .. } = url;
    let signatures = secret.map(|secret| signatures(secret.as_bytes(), payload)).unwrap_or_default();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: facebookexternalua\r\n\
         Accept: */*\r\nAccept-Encoding: deflate, gzip\r\nContent-Type: application/json\r\n\
         {signatures}Content-Length: {}\r\n\r\n",
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

fn signatures(secret: &[u8], payload: &[u8]) -> String {
    let sign = |algorithm| hex(hmac::sign(&hmac::Key::new(algorithm, secret), payload).as_ref());
    let (sha1, sha256) = (sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY), sign(hmac::HMAC_SHA256));
    format!("X-Hub-Signature: sha1={sha1}\r\nX-Hub-Signature-256: sha256={sha256}\r\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of Meta's, as it was seen.
    macro_rules! seen {
        ($name:literal) => {
            include_str!(concat!("../../../../tests/data/", $name))
        };
    }

    fn url() -> Url {
        "https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp/%2B5511999999999".parse().unwrap()
    }

    #[test]
    fn requests_are_byte_for_byte_what_meta_sends() {
        let own = verification(&url(), "e2c0f4b7a91d4c35", "1158201444");
        assert_eq!(String::from_utf8(own).unwrap(), seen!("requests/get-verify-whatsapp.http"));
        let payload = seen!("payloads/wa-text.json");
        let own = delivery(&url(), payload.as_bytes(), Some("hookgate-test-app-secret"));
        let seen = [seen!("requests/post-wa-text.http"), payload].concat();
        assert_eq!(String::from_utf8(own).unwrap(), seen);
    }

    #[test]
    fn a_query_of_ones_own_stays_and_a_token_can_not_add_to_it() {
        let url = Url { target: "/a/b?x=1".into(), ..url() };
        let own = String::from_utf8(verification(&url, "a&b=ç", "7")).unwrap();
        let expected =
            "GET /a/b?x=1&hub.mode=subscribe&hub.challenge=7&hub.verify_token=a%26b%3D%C3%A7 HTTP/1.1\r\n";
        assert!(own.starts_with(expected), "{own}");
        let unsigned = String::from_utf8(delivery(&url, b"{}", None)).unwrap();
        assert!(
            !unsigned.contains("Signature") && unsigned.ends_with("Content-Length: 2\r\n\r\n{}"),
            "{unsigned}"
        );
    }
}
