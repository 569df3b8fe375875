//! On real sockets, with rustls at the other end. Where the kernel has no TLS these tests say so
//! and do nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
};

use super::*;

const SUITES: [(ProtocolVersion, CipherSuite); 6] = [
    (ProtocolVersion::TLSv1_3, CipherSuite::TLS13_AES_128_GCM_SHA256),
    (ProtocolVersion::TLSv1_3, CipherSuite::TLS13_AES_256_GCM_SHA384),
    (ProtocolVersion::TLSv1_3, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    (ProtocolVersion::TLSv1_2, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    (ProtocolVersion::TLSv1_2, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (ProtocolVersion::TLSv1_2, CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// If not, says so in a line by which `cargo xtask test` knows; where this was to run it is a
/// failure.
fn has_kernel_tls() -> bool {
    let (ours, _theirs) = pair();
    let Err(error) = start_kernel_tls(ours.as_fd()) else { return true };
    let name = thread::current().name().unwrap_or("?").to_owned();
    let line = format!("ELSEWHERE: {name}: this kernel has no TLS ({error})\n");
    // Written directly: the test runner swallows what `eprintln!` says in a test that passes.
    let _ = io::stderr().write_all(line.as_bytes());
    false
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

fn configs(suite: CipherSuite) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut provider = default_provider();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    server.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

/// Our end, whose keys the kernel has, and rustls' end, after a handshake and a word from each
/// side.
fn connected(suite: CipherSuite, version: ProtocolVersion) -> (TcpStream, ClientConnection, TcpStream) {
    let (theirs, mut ours) = pair();
    let (client, server) = configs(suite);
    let client = thread::spawn(move || {
        let mut tcp = theirs;
        let mut session = ClientConnection::new(client, ServerName::try_from("localhost").unwrap()).unwrap();
        let mut stream = Stream::new(&mut session, &mut tcp);
        stream.write_all(b"hello").unwrap();
        // More than one record of rustls' goes out before the kernel's first.
        let mut word = [0; 5];
        stream.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"hello");
        (session, tcp)
    });
    let mut session = ServerConnection::new(server).unwrap();
    let mut stream = Stream::new(&mut session, &mut ours);
    let mut word = [0; 5];
    stream.read_exact(&mut word).unwrap();
    stream.write_all(&word).unwrap();
    assert_eq!(session.protocol_version(), Some(version));
    let secrets = session.dangerous_extract_secrets().unwrap();
    start_kernel_tls(ours.as_fd()).unwrap();
    for (key_use, (sequence, secrets)) in [(KeyUse::Transmit, &secrets.tx), (KeyUse::Receive, &secrets.rx)] {
        set_kernel_tls_keys(ours.as_fd(), key_use, version, *sequence, secrets).unwrap();
    }
    let (session, theirs) = client.join().unwrap();
    (ours, session, theirs)
}

#[test]
fn data_go_both_ways_with_every_cipher() {
    if !has_kernel_tls() {
        return;
    }
    for (version, suite) in SUITES {
        let (mut ours, mut session, mut theirs) = connected(suite, version);
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let peer = thread::spawn(move || {
            let mut stream = Stream::new(&mut session, &mut theirs);
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).unwrap();
            assert!(got == expected, "{suite:?}: from the kernel");
            stream.write_all(&got).unwrap();
            session.send_close_notify();
            session.write_tls(&mut theirs).unwrap();
        });
        ours.write_all(&sent).unwrap();
        let (mut got, mut to) = (Vec::new(), vec![0; 50_000]);
        loop {
            let received = receive_record(ours.as_fd(), &mut to).unwrap().expect("no end without an alert");
            if received.content_type == ContentType::Alert {
                assert_eq!(&to[..received.length], [1, 0], "close_notify");
                break;
            }
            assert_eq!(received.content_type, ContentType::ApplicationData);
            got.extend_from_slice(&to[..received.length]);
        }
        assert!(got == sent, "{suite:?}: to the kernel");
        peer.join().unwrap();
        assert_eq!(receive_record(ours.as_fd(), &mut to).unwrap(), None, "FIN");
    }
}

#[test]
fn alerts_of_ours_arrive() {
    if !has_kernel_tls() {
        return;
    }
    for (version, suite) in SUITES {
        let (ours, mut session, mut theirs) = connected(suite, version);
        send_record(ours.as_fd(), ContentType::Alert, &[1, 0]).unwrap();
        assert_eq!(Stream::new(&mut session, &mut theirs).read(&mut [0; 9]).unwrap(), 0, "{suite:?}");
        send_record(ours.as_fd(), ContentType::Alert, &[2, 80]).unwrap();
    }
}

#[test]
fn a_forged_record_is_refused_and_can_be_answered() {
    if !has_kernel_tls() {
        return;
    }
    for (version, suite) in SUITES {
        let (ours, mut session, mut theirs) = connected(suite, version);
        let forged = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
        theirs.write_all(&forged).unwrap();
        let refused = receive_record(ours.as_fd(), &mut [0; 100]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBADMSG), "{suite:?}: {refused}");
        // The error stays with the socket, until it is taken.
        assert!(ours.take_error().unwrap().is_some());
        send_record(ours.as_fd(), ContentType::Alert, &[2, 20]).unwrap();
        let error = Stream::new(&mut session, &mut theirs).read(&mut [0; 9]).unwrap_err();
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac);
        assert_eq!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(&alert), "{suite:?}");
    }
}

#[test]
fn a_record_comes_in_pieces_of_what_there_is_room_for() {
    if !has_kernel_tls() {
        return;
    }
    let (version, suite) = SUITES[0];
    let (ours, mut session, mut theirs) = connected(suite, version);
    Stream::new(&mut session, &mut theirs).write_all(b"abcde").unwrap();
    let mut to = [0; 3];
    let data = |length| Some(Received { content_type: ContentType::ApplicationData, length });
    assert_eq!(receive_record(ours.as_fd(), &mut to).unwrap(), data(3));
    assert_eq!(&to, b"abc");
    assert_eq!(receive_record(ours.as_fd(), &mut to).unwrap(), data(2));
    assert_eq!(&to[..2], b"de");
}

#[test]
fn no_nonce_of_rustls_is_used_again() {
    let nonce = [1, 2, 3, 4, 0xff, 5, 6, 7, 8, 9, 10, 11];
    assert_eq!(salt(&nonce).unwrap(), [1, 2, 3, 4]);
    assert_eq!(gcm_iv(ProtocolVersion::TLSv1_3, &nonce).unwrap(), nonce[4..]);
    assert_eq!(gcm_iv(ProtocolVersion::TLSv1_2, &nonce).unwrap(), [0x7f, 5, 6, 7, 8, 9, 10, 11]);
    assert!(whole::<16>(&nonce).is_err());
}
