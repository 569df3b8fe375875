//! Names of keys and signature algorithms, and which of them hookgate supports.

use x509_parser::asn1_rs::{FromDer as _, Oid};
use x509_parser::prelude::{AlgorithmIdentifier, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Bits of an RSA key whose signatures can be verified. For own keys, more than 4096 are not
/// advised: each handshake takes longer.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The remedy for an algorithm that hookgate does not know.
pub const KEY_ADVICE: &str = "use RSA, P-256 or P-384";

/// The kind of a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyKind {
    /// Such as `ECDSA P-256`.
    pub name: String,
    /// The length of an RSA key, where it is known.
    pub rsa_bits: Option<usize>,
}

impl KeyKind {
    /// Of a certificate.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let rsa_bits = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => Some(key.key_size()),
            _ => None,
        };
        Self { rsa_bits, ..Self::of_algorithm(&certificate.public_key().algorithm) }
    }

    /// Of a key of which only the algorithm is known.
    pub(super) fn of_algorithm(algorithm: &AlgorithmIdentifier<'_>) -> Self {
        let kind = algorithm.algorithm.to_id_string();
        let curve = || algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
        let name = match kind.as_str() {
            EC => match curve() {
                Some(curve) => format!("ECDSA {}", curve_name(&curve)),
                None => "ECDSA with a curve of its own".into(),
            },
            other => name(&KEYS, other),
        };
        Self { name, rsa_bits: None }
    }

    /// Names the key if its signatures cannot be verified.
    pub fn unusable(&self) -> Option<String> {
        match self.rsa_bits {
            Some(bits) if RSA_BITS.contains(&bits) => None,
            Some(bits) => Some(format!("RSA with {bits} bits")),
            None if VERIFIABLE_KEYS.contains(&self.name.as_str()) => None,
            None => Some(self.name.clone()),
        }
    }
}

const EC: &str = "1.2.840.10045.2.1";
/// Keys whose signatures can be verified.
const VERIFIABLE_KEYS: [&str; 6] = ["RSA", "RSA-PSS", "ECDSA P-256", "ECDSA P-384", "ECDSA P-521", "Ed25519"];
const KEYS: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.1", "RSA"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
];
const CURVES: [(&str, &str); 9] = [
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.33", "P-224"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
];
/// Signature algorithms, with the hash where there is a choice.
const SIGNATURES: [(&str, &str, Option<&str>); 15] = [
    ("1.2.840.113549.1.1.4", "RSA", Some("MD5")),
    ("1.2.840.113549.1.1.5", "RSA", Some("SHA-1")),
    ("1.2.840.113549.1.1.10", "RSA-PSS", None),
    ("1.2.840.113549.1.1.11", "RSA", Some("SHA-256")),
    ("1.2.840.113549.1.1.12", "RSA", Some("SHA-384")),
    ("1.2.840.113549.1.1.13", "RSA", Some("SHA-512")),
    ("1.2.840.113549.1.1.14", "RSA", Some("SHA-224")),
    ("1.2.840.10045.4.1", "ECDSA", Some("SHA-1")),
    ("1.2.840.10045.4.3.1", "ECDSA", Some("SHA-224")),
    ("1.2.840.10045.4.3.2", "ECDSA", Some("SHA-256")),
    ("1.2.840.10045.4.3.3", "ECDSA", Some("SHA-384")),
    ("1.2.840.10045.4.3.4", "ECDSA", Some("SHA-512")),
    ("1.2.840.10040.4.3", "DSA", Some("SHA-1")),
    ("1.3.101.112", "Ed25519", None),
    ("1.3.101.113", "Ed448", None),
];

/// The name of a signature algorithm; `key` is the one that signed, if it is known.
pub(super) fn signature_name(algorithm: &Oid<'_>, key: Option<&KeyKind>) -> String {
    let id = algorithm.to_id_string();
    let Some((_, kind, hash)) = SIGNATURES.iter().find(|(known, ..)| *known == id) else {
        return name(&[], &id);
    };
    let key = key.map_or(*kind, |key| &key.name);
    hash.map_or_else(|| key.to_owned(), |hash| format!("{key} with {hash}"))
}

/// Names the kind of a private key (PKCS #8, SEC 1 or PKCS #1) if it is known to be unsupported.
/// `of_certificate`: the public key of its certificate.
pub(super) fn unsupported_private_key(key: &[u8], of_certificate: &KeyKind) -> Option<String> {
    /// The tag of an object identifier (X.690).
    const OBJECT_IDENTIFIER: u8 = 6;
    let named = (0..key.len()).filter(|at| key[*at] == OBJECT_IDENTIFIER);
    let oids = named.filter_map(|at| Oid::from_der(&key[at..]).ok()).map(|(_, oid)| oid.to_id_string());
    let unsupported = |id: String| {
        let curve = CURVES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name);
        let kind = KEYS.iter().find(|(known, _)| *known == id).map(|(_, name)| *name);
        let is_used = |name: &&str| ["P-256", "P-384", "P-521", "RSA", "Ed25519"].contains(name);
        curve.or(kind).filter(|name| !is_used(name)).map(str::to_owned)
    };
    oids.filter_map(unsupported).next().or_else(|| of_certificate.unusable())
}

fn curve_name(curve: &Oid<'_>) -> String {
    name(&CURVES, &curve.to_id_string())
}

fn name(known: &[(&str, &str)], id: &str) -> String {
    let found = known.iter().find(|(known, _)| *known == id);
    found.map_or_else(|| format!("the one with the object identifier {id}"), |(_, name)| (*name).to_owned())
}
