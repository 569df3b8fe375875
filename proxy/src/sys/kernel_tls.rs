//! The kernel's TLS (Documentation/networking/tls.rst): keys for a socket, and records with their
//! content type.

#[cfg(test)]
mod tests;

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion};

/// Puts a connected TCP socket under the kernel's TLS, which still encrypts nothing before it is
/// given keys.
///
/// Errors: `NotFound` where the kernel has no TLS, `NotConnected` for a socket that is not.
pub fn start_kernel_tls(socket: BorrowedFd<'_>) -> io::Result<()> {
    const NAME: &[u8] = b"tls";
    let length = NAME.len() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, hence open; the kernel reads `length` bytes, which is
    // what `NAME` has.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_TCP, libc::TCP_ULP, NAME.as_ptr().cast(), length)
    };
    done(result)
}

/// Which way keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    Transmit = libc::TLS_TX as isize,
    Receive = libc::TLS_RX as isize,
}

/// From now on the kernel encrypts what is sent, or decrypts what is received, with these keys; the
/// next record has that sequence number. A second time only where keys can be replaced (Linux
/// 6.14), `ResourceBusy` elsewhere.
///
/// Errors: the kernel does not know the cipher or the version, or has no memory.
pub fn set_kernel_tls_keys(
    socket: BorrowedFd<'_>,
    key_use: KeyUse,
    version: ProtocolVersion,
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
) -> io::Result<()> {
    let rec_seq = sequence.to_be_bytes();
    let info = |cipher_type| libc::tls_crypto_info { version: version.into(), cipher_type };
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => set(
            socket,
            key_use,
            &mut libc::tls12_crypto_info_aes_gcm_128 {
                info: info(libc::TLS_CIPHER_AES_GCM_128),
                iv: gcm_iv(version, iv.as_ref())?,
                key: whole(key.as_ref())?,
                salt: salt(iv.as_ref())?,
                rec_seq,
            },
        ),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => set(
            socket,
            key_use,
            &mut libc::tls12_crypto_info_aes_gcm_256 {
                info: info(libc::TLS_CIPHER_AES_GCM_256),
                iv: gcm_iv(version, iv.as_ref())?,
                key: whole(key.as_ref())?,
                salt: salt(iv.as_ref())?,
                rec_seq,
            },
        ),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => set(
            socket,
            key_use,
            &mut libc::tls12_crypto_info_chacha20_poly1305 {
                info: info(libc::TLS_CIPHER_CHACHA20_POLY1305),
                iv: whole(iv.as_ref())?,
                key: whole(key.as_ref())?,
                salt: [],
                rec_seq,
            },
        ),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The implicit part of a GCM nonce.
fn salt(nonce: &[u8]) -> io::Result<[u8; 4]> {
    whole(nonce.get(..4).unwrap_or_default())
}

/// The rest of it. In TLS 1.3 each record's sequence number is mixed in. In TLS 1.2 it travels with
/// the record, and the kernel counts it up from here: rustls has used those that differ in their
/// low bits, so the kernel starts half of all there are away from them.
fn gcm_iv(version: ProtocolVersion, nonce: &[u8]) -> io::Result<[u8; 8]> {
    let mut iv: [u8; 8] = whole(nonce.get(4..).unwrap_or_default())?;
    if version == ProtocolVersion::TLSv1_2 {
        iv[0] ^= 0x80;
    }
    Ok(iv)
}

fn whole<const N: usize>(bytes: &[u8]) -> io::Result<[u8; N]> {
    bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a key of another length"))
}

/// Hands over keys and wipes them. `I` is one of the kernel's `tls12_crypto_info_…`.
fn set<I>(socket: BorrowedFd<'_>, key_use: KeyUse, info: &mut I) -> io::Result<()> {
    let length = size_of::<I>();
    let start = (&raw mut *info).cast::<libc::c_void>();
    // SAFETY: the descriptor is borrowed, hence open; the kernel reads the `length` bytes of
    // `info`, and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_TLS,
            key_use as libc::c_int,
            start,
            length as libc::socklen_t,
        )
    };
    let outcome = done(result);
    // SAFETY: `start` is that of `info`, which is borrowed for writing, has that many bytes, and
    // consists of integers.
    unsafe { libc::explicit_bzero(start, length) };
    outcome
}

/// Bytes of one record, or of several of application data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub content_type: ContentType,
    /// May be 0: an empty record. What does not fit comes with the next call.
    pub length: usize,
}

/// Room for one control message of one byte, aligned as its header is.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

// SAFETY: it only computes.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE(1) } as usize;
// SAFETY: it only computes.
const CONTROL_LENGTH: usize = unsafe { libc::CMSG_LEN(1) } as usize;

/// Reads from a socket with keys to receive with; `None` at the end of the TCP connection.
///
/// Errors: `EBADMSG` for a record that is not the peer's; recvmsg(2).
pub fn receive_record(socket: BorrowedFd<'_>, to: &mut [u8]) -> io::Result<Option<Received>> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut slice = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let mut message = message(&mut slice, &mut control);
    // SAFETY: the descriptor is borrowed, hence open; `message` points to `to` and `control` with
    // their lengths, which nothing else uses meanwhile.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled in `message`, whose control buffer is ours, whole and aligned.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return match length {
            0 => Ok(None),
            _ => Err(io::Error::other("the kernel does not say what it has decrypted")),
        };
    }
    // SAFETY: not null, hence a whole header in `control`; its data follow, of which the kernel
    // writes one byte.
    let content_type = unsafe { *libc::CMSG_DATA(header) };
    Ok(Some(Received { content_type: content_type.into(), length }))
}

/// Sends a record that is not application data, on a socket with keys to transmit with.
///
/// Errors: sendmsg(2).
pub fn send_record(socket: BorrowedFd<'_>, content_type: ContentType, content: &[u8]) -> io::Result<()> {
    let mut control = Control([0; CONTROL_BYTES]);
    // The kernel does not write through it.
    let mut slice = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
    let message = message(&mut slice, &mut control);
    // SAFETY: `message`'s control buffer is ours, aligned, and has room for a header and a byte.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = CONTROL_LENGTH as _;
        *libc::CMSG_DATA(header) = content_type.into();
    }
    // SAFETY: the descriptor is borrowed, hence open; `message` points to `content` and `control`
    // with their lengths.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(sent) if sent == content.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// One that points to both for as long as they stay where they are.
fn message(slice: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: zeros are a `msghdr` that points to nothing.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    message
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
