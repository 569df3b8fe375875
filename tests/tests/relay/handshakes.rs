//! What strangers' TLS handshakes may take.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

use crate::{Relay, TlsDoor, proxy_line};

/// A handshake message of 65,535 bytes begins, in a full record (RFC 8446 §5.1, §4).
const FIRST: [u8; 9] = [0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
/// It goes on.
const NEXT: [u8; 5] = [0x16, 3, 1, 0x40, 0];

/// How many bytes of an endless ClientHello are taken from `source` before its connection ends.
fn taken(https: SocketAddr, source: &str) -> Result<usize> {
    let mut tcp = TcpStream::connect(https)?;
    tcp.set_read_timeout(Some(Duration::from_millis(50)))?;
    tcp.write_all(proxy_line(source).as_bytes())?;
    let mut sent = 0;
    for record in 0..4 {
        let header = if record == 0 { &FIRST[..] } else { &NEXT };
        let record = [header, &vec![0; 0x4000 + 5 - header.len()]].concat();
        for piece in record.chunks(1024) {
            if tcp.write_all(piece).is_err() {
                return Ok(sent);
            }
            match tcp.read(&mut [0; 100]) {
                // Nothing was said against it.
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => sent += piece.len(),
                _ => return Ok(sent),
            }
        }
    }
    Ok(sent)
}

#[test]
fn a_strangers_unfinished_client_hello_has_the_room_of_a_record() -> Result<()> {
    let (door, https, tls) = TlsDoor::new()?;
    let relay = Relay::listening(&format!("{https}\nproxy_protocol_from = [\"127.0.0.0/8\"]"), &tls)?;
    let stranger = taken(door.address, "198.51.100.1")?;
    assert!((16 << 10..24 << 10).contains(&stranger), "{stranger}");
    let meta = taken(door.address, "157.240.1.1")?;
    assert!(meta > 48 << 10, "{meta}");
    drop(relay);
    Ok(())
}
