//! The certificate authorities that upstreams are verified by: Mozilla's, of the version in
//! Cargo.lock, so that the same commit makes the same image.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// RFC 7468.
const LINE: usize = 64;

pub fn pem() -> String {
    TLS_SERVER_ROOT_CERTS.iter().map(|certificate| one(certificate)).collect()
}

fn one(certificate: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(certificate);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, following) = rest.split_at(rest.len().min(LINE));
        text += line;
        text.push('\n');
        rest = following;
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_authority_is_a_pem_block() {
        let pem = pem();
        assert!(TLS_SERVER_ROOT_CERTS.len() > 100, "{}", TLS_SERVER_ROOT_CERTS.len());
        assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----\n").count(), TLS_SERVER_ROOT_CERTS.len());
        assert!(pem.lines().all(|line| line.len() <= LINE));
    }
}
