//! What the kernel's TLS can do on this machine. It depends on the kernel's version and on what it
//! was built with, so that it is tried, on connections of our own.

use std::fmt;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::ioctl_fionread;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{CipherSuite, ConnectionTrafficSecrets, ProtocolVersion};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::time::Instant;

use crate::sys::{KeyUse, set_kernel_tls_keys, start_kernel_tls};

/// What it takes over from a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelTls {
    tls13: Ciphers,
    tls12: Ciphers,
    /// Linux 6.14.
    rekeys: bool,
    /// Linux 6.0.
    shows_parts: bool,
    /// When the handshake is over, instead of when a long body comes.
    at_once: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ciphers {
    /// With keys of 128 and 256 bits: one implementation does both.
    aes_gcm: bool,
    chacha20_poly1305: bool,
}

/// Why it is not used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoKernelTls {
    #[error("this kernel has none")]
    Absent,
    #[error("it takes neither TLS 1.3 nor 1.2")]
    Useless,
    #[error("the probe over loopback got no answer in {} s (a firewall on lo?)", PROBE_TIMEOUT.as_secs())]
    Silent,
    #[error("cannot be tried: {0}")]
    Untried(Arc<io::Error>),
}

/// How long the whole probe may take: a firewall on `lo` or a full table of connections answers
/// nothing, and the kernel alone would try for minutes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl From<io::Error> for NoKernelTls {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Silent,
            _ => Self::Untried(error.into()),
        }
    }
}

impl KernelTls {
    /// Makes the kernel load it where it is a module. That takes a privilege (`CAP_NET_ADMIN`)
    /// which the worker does not have: without this, its probe finds none.
    ///
    /// Errors: there is none, or no socket to ask with.
    pub fn load_module() -> Result<(), NoKernelTls> {
        let unconnected = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        match start_kernel_tls(unconnected.as_fd()).map_err(|error| (error.kind(), error)) {
            // It looks at the connection when the module is there.
            Ok(()) | Err((io::ErrorKind::NotConnected, _)) => Ok(()),
            Err((io::ErrorKind::NotFound, _)) => Err(NoKernelTls::Absent),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// Tries it; where it is a module that is not loaded, and this process may, the kernel loads
    /// it.
    ///
    /// Errors: there is none, or no connection over loopback to try it with.
    pub fn probe() -> Result<Self, NoKernelTls> {
        let loopback = Loopback::open()?;
        let connect = || loopback.connect();
        start_kernel_tls(connect()?.as_fd()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NoKernelTls::Absent,
            _ => error.into(),
        })?;
        let takes = |version, secrets: &ConnectionTrafficSecrets| -> io::Result<bool> {
            let tcp = connect()?;
            start_kernel_tls(tcp.as_fd())?;
            let mut uses = [KeyUse::Transmit, KeyUse::Receive].into_iter();
            Ok(uses.all(|key_use| set_kernel_tls_keys(tcp.as_fd(), key_use, version, 0, secrets).is_ok()))
        };
        let of = |version| -> io::Result<Ciphers> {
            Ok(Ciphers {
                aes_gcm: takes(version, &aes_gcm())?,
                chacha20_poly1305: takes(version, &chacha20_poly1305())?,
            })
        };
        let (tls13, tls12) = (of(ProtocolVersion::TLSv1_3)?, of(ProtocolVersion::TLSv1_2)?);
        if !tls13.any() && !tls12.any() {
            return Err(NoKernelTls::Useless);
        }
        let tcp = connect()?;
        start_kernel_tls(tcp.as_fd())?;
        let rekeys = tls13.aes_gcm && rekeys(tcp.as_fd());
        Ok(Self {
            tls13,
            tls12,
            rekeys,
            shows_parts: shows_parts(&loopback).unwrap_or(false),
            at_once: false,
        })
    }

    /// Whether it takes over sessions of this version and suite.
    pub fn takes(self, version: ProtocolVersion, suite: CipherSuite) -> bool {
        let ciphers = match version {
            ProtocolVersion::TLSv1_3 => self.tls13,
            ProtocolVersion::TLSv1_2 => self.tls12,
            _ => return false,
        };
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => ciphers.aes_gcm,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => ciphers.chacha20_poly1305,
            _ => false,
        }
    }

    /// The same, for everything after the handshakes.
    pub fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }

    /// Whether it takes a session over when the handshake is over.
    pub fn is_at_once(self) -> bool {
        self.at_once
    }

    /// Whether a session goes on when its keys are replaced.
    pub fn rekeys(self) -> bool {
        self.rekeys
    }

    /// Whether it can be seen that part of a record has come.
    pub fn shows_parts(self) -> bool {
        self.shows_parts
    }
}

/// A listener of our own, which is connected to until the probe's time is over.
struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
    deadline: Instant,
}

impl Loopback {
    fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, deadline: Instant::now() + PROBE_TIMEOUT })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&self.address, self.remaining()?)
    }

    /// The other end of `connected`.
    fn accept(&self, connected: &TcpStream) -> io::Result<TcpStream> {
        let address = connected.local_addr()?;
        loop {
            // accept(2) heeds the time-out of reads.
            SockRef::from(&self.listener).set_read_timeout(Some(self.remaining()?))?;
            let (peer, from) = self.listener.accept()?;
            if from == address {
                return Ok(peer);
            }
        }
    }

    /// Never zero, which would mean for ever.
    fn remaining(&self) -> io::Result<Duration> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
    }
}

fn rekeys(socket: BorrowedFd<'_>) -> bool {
    let set = || set_kernel_tls_keys(socket, KeyUse::Receive, ProtocolVersion::TLSv1_3, 0, &aes_gcm());
    set().and_then(|()| set()).is_ok()
}

fn shows_parts(loopback: &Loopback) -> io::Result<bool> {
    const START_OF_RECORD: [u8; 7] = [23, 3, 3, 0, 40, 0, 0];
    let tcp = loopback.connect()?;
    let mut peer = loopback.accept(&tcp)?;
    start_kernel_tls(tcp.as_fd())?;
    set_kernel_tls_keys(tcp.as_fd(), KeyUse::Receive, ProtocolVersion::TLSv1_3, 0, &aes_gcm())?;
    peer.write_all(&START_OF_RECORD)?;
    Ok(ioctl_fionread(&tcp)? > 0)
}

fn aes_gcm() -> ConnectionTrafficSecrets {
    ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([0; 32]), iv: Iv::from([0; 12]) }
}

fn chacha20_poly1305() -> ConnectionTrafficSecrets {
    ConnectionTrafficSecrets::Chacha20Poly1305 { key: AeadKey::from([0; 32]), iv: Iv::from([0; 12]) }
}

impl Ciphers {
    fn any(self) -> bool {
        self.aes_gcm || self.chacha20_poly1305
    }
}

impl fmt::Display for KernelTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = [("TLS 1.3", self.tls13), ("TLS 1.2", self.tls12)].into_iter();
        for (n, (version, ciphers)) in versions.filter(|(_, ciphers)| ciphers.any()).enumerate() {
            f.write_str(if n == 0 { "" } else { ", " })?;
            f.write_str(version)?;
            f.write_str(match ciphers {
                Ciphers { chacha20_poly1305: false, .. } => " with AES-GCM",
                Ciphers { aes_gcm: false, .. } => " with ChaCha20-Poly1305",
                Ciphers { .. } => " with AES-GCM and ChaCha20-Poly1305",
            })?;
        }
        f.write_str(if self.rekeys { "; keys can be replaced" } else { "; keys cannot be replaced" })?;
        f.write_str(if self.at_once { "; from the handshake on" } else { "; for long bodies" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_there_or_the_kernel_has_none() {
        let (loaded, found) = (KernelTls::load_module(), KernelTls::probe());
        assert_eq!(
            matches!(loaded, Err(NoKernelTls::Absent)),
            matches!(found, Err(NoKernelTls::Absent)),
            "{loaded:?}, {found:?}"
        );
    }

    #[test]
    fn it_is_found_or_missed_and_nothing_else() {
        match KernelTls::probe() {
            Ok(found) => {
                assert!(found.tls13.any() || found.tls12.any());
                assert!(!found.takes(ProtocolVersion::TLSv1_1, CipherSuite::TLS13_AES_128_GCM_SHA256));
            }
            Err(error) => assert!(matches!(error, NoKernelTls::Absent), "{error}"),
        }
    }

    #[test]
    fn what_it_can_do_is_said_in_a_line() {
        let all = Ciphers { aes_gcm: true, chacha20_poly1305: true };
        let aes = Ciphers { aes_gcm: true, chacha20_poly1305: false };
        let none = Ciphers { aes_gcm: false, chacha20_poly1305: false };
        for (found, expected) in [
            (
                KernelTls { tls13: all, tls12: aes, rekeys: false, shows_parts: true, at_once: false },
                "TLS 1.3 with AES-GCM and ChaCha20-Poly1305, TLS 1.2 with AES-GCM; keys cannot be replaced; for long bodies",
            ),
            (
                KernelTls { tls13: none, tls12: all, rekeys: true, shows_parts: true, at_once: true },
                "TLS 1.2 with AES-GCM and ChaCha20-Poly1305; keys can be replaced; from the handshake on",
            ),
        ] {
            assert_eq!(found.to_string(), expected);
        }
    }
}
