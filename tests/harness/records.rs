use std::io::{self, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ContentType, ExtractedSecrets};

/// A TLS 1.3 session after its handshake, spoken record by record: what no library would send.
pub struct Records {
    tcp: TcpStream,
    sending: Keys,
    receiving: Keys,
}

struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

const HEADER_BYTES: usize = 5;

impl Records {
    pub(crate) fn new(tcp: TcpStream, secrets: ExtractedSecrets) -> Result<Self> {
        Ok(Self { tcp, sending: Keys::new(secrets.tx)?, receiving: Keys::new(secrets.rx)? })
    }

    /// # Errors
    /// The peer has gone.
    pub fn send(&mut self, content_type: ContentType, content: &[u8]) -> Result<()> {
        let record = self.encrypt(content_type, content)?;
        self.send_raw(&record)
    }

    /// The next record. It must be sent before any other.
    ///
    /// # Errors
    /// There is too much content.
    pub fn encrypt(&mut self, content_type: ContentType, content: &[u8]) -> Result<Vec<u8>> {
        self.sending.encrypt(content_type, content)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.tcp.write_all(bytes)?)
    }

    /// The next record; `None` at the end of the TCP connection.
    ///
    /// # Errors
    /// It does not come, or is not the peer's.
    pub fn receive(&mut self) -> Result<Option<(ContentType, Vec<u8>)>> {
        let mut header = [0; HEADER_BYTES];
        match self.tcp.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        self.tcp.read_exact(&mut record)?;
        self.receiving.decrypt(header, record).map(Some)
    }

    /// What the peer says before it closes, in whatever way, without tickets.
    ///
    /// # Errors
    /// It does not close, or says what is not its own.
    pub fn rest(&mut self) -> Result<Vec<(ContentType, Vec<u8>)>> {
        let mut rest = Vec::new();
        loop {
            match self.receive() {
                Ok(Some((ContentType::Handshake, _))) => {}
                Ok(Some(record)) => rest.push(record),
                Ok(None) => return Ok(rest),
                Err(error) if error.downcast_ref().is_some_and(was_cut) => return Ok(rest),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => bail!("another cipher"),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).ok().context("a key of another length")?;
        Ok(Self { key: LessSafeKey::new(key), iv: iv.as_ref().try_into()?, sequence })
    }

    /// RFC 8446 §5.3.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        let sequence = self.sequence.to_be_bytes();
        nonce.iter_mut().rev().zip(sequence.iter().rev()).for_each(|(byte, mask)| *byte ^= mask);
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn encrypt(&mut self, content_type: ContentType, content: &[u8]) -> Result<Vec<u8>> {
        let mut record = [content, &[content_type.into()]].concat();
        let length = u16::try_from(record.len() + self.key.algorithm().tag_len())?;
        let header = [&[23, 3, 3][..], &length.to_be_bytes()].concat();
        let nonce = self.nonce();
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut record);
        sealed.ok().context("encrypting")?;
        Ok([header, record].concat())
    }

    fn decrypt(&mut self, header: [u8; HEADER_BYTES], mut record: Vec<u8>) -> Result<(ContentType, Vec<u8>)> {
        let nonce = self.nonce();
        let opened = self.key.open_in_place(nonce, Aad::from(header), &mut record);
        let inner = opened.ok().context("a record that is not the peer's")?;
        let end = inner.iter().rposition(|byte| *byte != 0).context("a record without a type")?;
        Ok((inner[end].into(), inner[..end].to_vec()))
    }
}

pub(crate) fn was_cut(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
