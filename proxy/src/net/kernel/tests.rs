//! On real sockets. Where the kernel has no TLS these tests say so and do nothing.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::net::{Buffers, Limits, Session, Stream};

/// If not, says so in a line by which `cargo xtask test` knows; where this was to run it is a
/// failure.
fn kernel_tls() -> Option<KernelTls> {
    let found = KernelTls::probe();
    if let Err(error) = &found {
        let line = format!("ELSEWHERE: {}: {error}\n", thread::current().name().unwrap_or("?"));
        // Written directly: the test runner swallows what `eprintln!` says in a test that passes.
        let _ = io::stderr().write_all(line.as_bytes());
    }
    found.ok()
}

/// Our end of a session, and everything that a client hears until it ends.
async fn session(kernel: KernelTls) -> (Stream, JoinHandle<(usize, io::Result<()>)>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    server.enable_secret_extraction = true;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut stream = StreamOwned::new(session, std::net::TcpStream::connect(address).unwrap());
        let (mut heard, mut to) = (0, [0; 1000]);
        loop {
            match stream.read(&mut to) {
                Ok(0) => return (heard, Ok(())),
                Ok(count) => heard += count,
                Err(error) => {
                    // What came with the alert was decrypted before it.
                    heard += stream.conn.reader().read(&mut to).unwrap_or(0);
                    return (heard, Err(error));
                }
            }
        }
    });
    let (tcp, _) = listener.accept().await.unwrap();
    let buffers = Buffers::new(Limits { free: 1, large: 0, pipes: 0 });
    let session =
        Session::accept(tcp, Arc::new(server), Some(kernel.at_once()), &buffers, None).await.unwrap();
    (session.into_stream().unwrap(), client)
}

#[tokio::test]
async fn one_key_encrypts_no_more_than_it_may() {
    let Some(kernel) = kernel_tls() else { return };
    let (mut stream, client) = session(kernel).await;
    let Stream::Kernel(tls) = &mut stream else { panic!("the kernel has not taken over") };
    assert!(tls.may_be_kept());
    // The handshake's own count, too.
    tls.most_records = tls.sent_records + MAX_RECORDS_AT_ONCE + 2;
    assert_eq!(tls.may_be_kept(), tls.rekeys);
    let mut written = 0;
    let failed = loop {
        match stream.write_all(b"hello").await {
            Ok(()) if written < 50 => written += 5,
            outcome => break outcome.is_err(),
        }
    };
    stream.shutdown().await.unwrap();
    drop(stream);
    let (heard, end) = client.join().unwrap();
    assert_eq!(heard, written + if failed { 0 } else { 5 });
    if kernel.rekeys() {
        end.unwrap();
    } else {
        assert_eq!(written, 15);
        assert!(end.unwrap_err().to_string().contains("InternalError"));
    }
}
