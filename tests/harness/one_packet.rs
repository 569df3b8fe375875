use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// A device before a server that knows handshakes of one packet only: it closes connections whose
/// first TLS record is longer.
pub struct OnePacketDevice(SocketAddr);

const PACKET_BYTES: u16 = 1400;

impl OnePacketDevice {
    /// Lasts as long as the process.
    ///
    /// # Errors
    /// It can't listen.
    pub fn before(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that fails has ended.
                thread::spawn(move || drop(pass(client, server)));
            }
        });
        Ok(Self(address))
    }

    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

fn pass(mut client: TcpStream, server: SocketAddr) -> io::Result<()> {
    // RFC 8446 §5.1: the type, the version, and the length of a record.
    let mut header = [0; 5];
    client.read_exact(&mut header)?;
    if u16::from_be_bytes([header[3], header[4]]) > PACKET_BYTES {
        return Ok(());
    }
    let mut server = TcpStream::connect(server)?;
    server.write_all(&header)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        // Either side may be gone.
        drop(io::copy(&mut answers, &mut back));
        drop(back.shutdown(Shutdown::Write));
    });
    io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Write)
}
