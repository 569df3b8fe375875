//! The files that the set-ups of `broken_setups.toml` name.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::Result;
use harness::{Ca, Certs, TempDir, run};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const NAMES: [&str; 1] = ["proxy.example"];

/// `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256`.
const ENCRYPTED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi3jr6LW8/xgwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEHP8fFlMSOkqTxMtqDeu+9UEgZBq
N1l1smRGq+Wc5tZwpO5idrWiNgUDUl5U1rBB271JPF8qV2FDInDmiWcwTnK5BV2E
Hi+o+eaN0+ciseEEUDik82fqZK0tFt5wdNGZp/X8ElqErukh8+E4VuCrEzNNNFJA
hVEw5dhEC+qUgQk9eA2t4HaVX/XHycTUMVjLROaGmuTAzByi4EJms8DVgbw7eak=
-----END ENCRYPTED PRIVATE KEY-----
";

/// `openssl ec -aes128`, as it was usual once.
const ENCRYPTED_OF_OLD: &str = "\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,6ACA642AFB6DEF98626DB89F26A8EC7C

706LlDOIqbJW6FrKl7re1YvNGL+7arPTcO3TCYPeviDXMc4YrnFZJOY+XZ+GL99C
Zx4ndCY8CIbO6xot5cUlEUj/il4dsa9m6OGgkijaal6yKsYTwSuFQ3/Hr7GGvr42
AyO/SZV4Kn7HirjVbwBZbOvWJGhN2g1VasXBALe6BHo=
-----END EC PRIVATE KEY-----
";

pub fn write(dir: &TempDir) -> Result<()> {
    let root = Ca::new("root")?;
    let chain = root.below("intermediate")?;
    let good = chain.issue(&NAMES)?;
    let pair = |name: &str, certs: &Certs| -> Result<()> {
        dir.write(&format!("{name}.pem"), &certs.cert)?;
        dir.write(&format!("{name}.key"), &certs.key)?;
        Ok(())
    };
    pair("good", &good)?;
    pair("other", &chain.issue(&NAMES)?)?;
    pair("alone", &root.issue_for_key(&NAMES, &good.key)?)?;
    pair("expired", &chain.issue_until(&NAMES, 2020)?)?;
    pair("early", &chain.issue_from(&NAMES, 3000)?)?;
    pair("client", &chain.issue_to_client("proxy.example", &NAMES, 4096)?)?;
    pair("soon", &chain.issue_for_days(&NAMES, 13)?)?;
    pair("nameless", &chain.issue(&[])?)?;
    let key = KeyPair::generate()?;
    dir.write("self.pem", CertificateParams::new(NAMES.map(str::to_owned))?.self_signed(&key)?.pem())?;
    dir.write("self.key", key.serialize_pem())?;
    dir.write("both.pem", good.cert.clone() + &good.key)?;
    dir.write("ed25519.key", KeyPair::generate_for(&PKCS_ED25519)?.serialize_pem())?;
    dir.write("encrypted.key", ENCRYPTED)?;
    dir.write("old.key", ENCRYPTED_OF_OLD)?;

    let end = "-----END CERTIFICATE-----\n";
    let (own, between) = good.cert.split_at(good.cert.find(end).unwrap_or_default() + end.len());
    dir.write("backwards.pem", between.to_owned() + own)?;
    dir.write("mixed.pem", own.to_owned() + &Ca::new("stranger")?.issue(&NAMES)?.ca + between)?;
    dir.write("cut.pem", &good.cert[..good.cert.len() - 100])?;
    dir.write("der.pem", CertificateDer::from_pem_slice(own.as_bytes())?)?;
    dir.write("der.key", PrivateKeyDer::from_pem_slice(good.key.as_bytes())?.secret_der())?;
    dir.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")?;

    // Where text editors, `cat`, mail and OpenSSL have been.
    let trusted = |text: &str| text.replace(" CERTIFICATE-", " TRUSTED CERTIFICATE-");
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (name, cert, key) in [
        ("mark", format!("\u{feff}{}", good.cert), format!("\u{feff}{}", good.key)),
        ("crlf", good.cert.replace('\n', "\r\n"), good.key.replace('\n', "\r\n")),
        ("trusted", trusted(own) + between, format!("{parameters}{}", good.key)),
        ("remarks", format!("subject=CN\n---\n{own}\nits issuer:\n{between}"), good.cert.clone() + &good.key),
        ("unended", good.cert.trim_end().to_owned(), good.key.trim_end().to_owned()),
    ] {
        dir.write(&format!("{name}.pem"), cert)?;
        dir.write(&format!("{name}.key"), key)?;
    }
    dir.write("glued.pem", own.trim_end().to_owned() + between)?;
    dir.write("indented.pem", format!("  {}{between}", own.replace('\n', "\n  ").trim_end_matches(' ')))?;
    dir.write("dashes.pem", good.cert.replacen("-----BEGIN", "----BEGIN", 1))?;
    dir.write(
        "utf16.key",
        [&[0xff, 0xfe][..], &good.key.bytes().flat_map(|b| [b, 0]).collect::<Vec<_>>()].concat(),
    )?;
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]);
    openssl.arg("-out").arg(dir.path().join("secp256k1.key"));
    run(openssl)?;

    dir.write("empty.pem", "")?;
    dir.write("text.pem", "Not what was meant.\n")?;
    dir.write("large.pem", "x".repeat(10 << 20))?;
    dir.write("list.txt", "# Meta's\n157.240.0.1/17\n")?;
    dir.write("wide-list.txt", "0.0.0.0/0\n157.240.0.0/17\n10.0.0.0/16 # ours\n8.0.0.0/8\n2a00::/27\n")?;
    dir.write("no-list.txt", "# to be filled\n")?;
    symlink("nowhere.pem", dir.path().join("dangling.pem"))?;
    symlink("/dev/zero", dir.path().join("zero"))?;
    fs::create_dir(dir.path().join("folder"))?;
    let mut make = Command::new("mkfifo");
    make.arg(dir.path().join("fifo"));
    run(make)?;
    Ok(())
}
