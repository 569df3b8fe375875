//! What comes in records that are not application data, put together from pieces.

use rustls::{AlertDescription, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved};

/// No handshake message that may come after the handshake is longer (as rustls has it).
const MOST_MESSAGE_BYTES: usize = 64 * 1024;
/// Warnings that are ignored; there is no need for any.
const MOST_WARNINGS: u8 = 4;
/// Key updates between two pieces of content (as rustls has it): each costs new keys for the kernel.
const MOST_KEY_UPDATES: u8 = 32;

/// A peer's fault, and what it is told.
pub(super) type Fault = (AlertDescription, Error);

/// Part of a message.
#[derive(Debug, Default)]
pub(super) struct Control {
    bytes: Vec<u8>,
    /// What the bytes are, where there are any.
    is_alert: bool,
    warnings: u8,
    /// Since the last content.
    key_updates: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Alert { is_warning: bool, description: AlertDescription },
    Handshake { kind: HandshakeType, payload: Vec<u8> },
}

impl Control {
    /// Whether it holds part of a message, which nothing else may interrupt (RFC 8446 §5.1).
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds what a record says, or part of it.
    pub(super) fn add(&mut self, content_type: ContentType, bytes: &[u8]) -> Result<(), Fault> {
        let is_alert = match content_type {
            ContentType::Alert => true,
            ContentType::Handshake => false,
            other => return Err(unexpected(other)),
        };
        if !self.is_empty() && self.is_alert != is_alert {
            return Err(unexpected(content_type));
        }
        self.is_alert = is_alert;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the next whole message out.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Fault> {
        match self.bytes[..] {
            [level, description, ..] if self.is_alert => {
                self.bytes.drain(..2);
                let is_warning = match level {
                    1 => true,
                    2 => false,
                    _ => {
                        let error = Error::AlertReceived(description.into());
                        return Err((AlertDescription::IllegalParameter, error));
                    }
                };
                Ok(Some(Message::Alert { is_warning, description: description.into() }))
            }
            [kind, a, b, c, ..] if !self.is_alert => {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if length > MOST_MESSAGE_BYTES {
                    return Err((
                        AlertDescription::DecodeError,
                        InvalidMessage::HandshakePayloadTooLarge.into(),
                    ));
                }
                if self.bytes.len() < 4 + length {
                    return Ok(None);
                }
                let payload = self.bytes.drain(..4 + length).skip(4).collect();
                Ok(Some(Message::Handshake { kind: kind.into(), payload }))
            }
            _ => Ok(None),
        }
    }

    /// Content has come.
    pub(super) fn passed_content(&mut self) {
        self.key_updates = 0;
    }

    /// The peer has replaced its keys once more.
    pub(super) fn updated_keys(&mut self) -> Result<(), Fault> {
        self.key_updates += 1;
        if self.key_updates <= MOST_KEY_UPDATES {
            return Ok(());
        }
        Err((AlertDescription::UnexpectedMessage, PeerMisbehaved::TooManyKeyUpdateRequests.into()))
    }

    /// One more that is ignored.
    pub(super) fn warned(&mut self) -> Result<(), Fault> {
        self.warnings += 1;
        if self.warnings <= MOST_WARNINGS {
            return Ok(());
        }
        Err((AlertDescription::UnexpectedMessage, PeerMisbehaved::TooManyWarningAlertsReceived.into()))
    }
}

/// Nothing of this kind may come here.
pub(super) fn unexpected(got_type: ContentType) -> Fault {
    let expect_types = vec![ContentType::ApplicationData, ContentType::Alert, ContentType::Handshake];
    (AlertDescription::UnexpectedMessage, Error::InappropriateMessage { expect_types, got_type })
}

/// The same of a handshake message.
pub(super) fn unexpected_message(got_type: HandshakeType) -> Fault {
    let error = Error::InappropriateHandshakeMessage { expect_types: Vec::new(), got_type };
    (AlertDescription::UnexpectedMessage, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(is_warning: bool, description: AlertDescription) -> Message {
        Message::Alert { is_warning, description }
    }

    fn all(pieces: &[&[u8]], content_type: ContentType) -> Result<Vec<Message>, AlertDescription> {
        let mut control = Control::default();
        let mut messages = Vec::new();
        for piece in pieces {
            control.add(content_type, piece).map_err(|(alert, _)| alert)?;
            while let Some(message) = control.next().map_err(|(alert, _)| alert)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let bytes = [4, 0, 0, 3, b'a', b'b', b'c', 24, 0, 0, 1, 1];
        let expected = [
            Message::Handshake { kind: HandshakeType::NewSessionTicket, payload: b"abc".to_vec() },
            Message::Handshake { kind: HandshakeType::KeyUpdate, payload: vec![1] },
        ];
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(all(&[a, b], ContentType::Handshake).unwrap(), expected, "cut at {cut}");
        }
        let closed = [alert(true, AlertDescription::CloseNotify)];
        assert_eq!(all(&[&[1], &[0]], ContentType::Alert).unwrap(), closed);
    }

    #[test]
    fn what_may_not_come_is_refused() {
        for (content_type, bytes, alert) in [
            (ContentType::Alert, &[3, 0][..], AlertDescription::IllegalParameter),
            (ContentType::Handshake, &[4, 1, 0, 1], AlertDescription::DecodeError),
            (ContentType::ChangeCipherSpec, &[1], AlertDescription::UnexpectedMessage),
            (ContentType::Heartbeat, &[], AlertDescription::UnexpectedMessage),
        ] {
            assert_eq!(all(&[bytes], content_type), Err(alert), "{content_type:?}");
        }
        let mut control = Control::default();
        control.add(ContentType::Handshake, &[4]).unwrap();
        assert!(control.add(ContentType::Alert, &[1, 0]).is_err(), "a message that another interrupts");
    }

    #[test]
    fn key_updates_have_an_end_unless_content_comes_between() {
        let mut control = Control::default();
        for _ in 0..2 {
            for _ in 0..MOST_KEY_UPDATES {
                control.updated_keys().unwrap();
            }
            control.passed_content();
        }
        for _ in 0..MOST_KEY_UPDATES {
            control.updated_keys().unwrap();
        }
        assert!(control.updated_keys().is_err());
    }

    #[test]
    fn warnings_have_an_end() {
        let mut control = Control::default();
        for _ in 0..MOST_WARNINGS {
            control.warned().unwrap();
        }
        assert!(control.warned().is_err());
    }
}
