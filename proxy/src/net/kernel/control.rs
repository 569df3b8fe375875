//! What comes in records that are not application data: put together from pieces, and judged.

use rustls::{AlertDescription, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved};

/// No handshake message that may come after the handshake is longer (as rustls has it).
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Warnings that are ignored; there is no need for any.
const MAX_WARNINGS: u8 = 4;
/// Key updates between two pieces of content (as rustls has it): each costs new keys for the
/// kernel.
const MAX_KEY_UPDATES: u8 = 32;

/// A peer's fault, and what it is told.
pub type ControlError = (AlertDescription, Error);

/// Which end of a session this is, and of which version: what may come depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub is_client: bool,
    /// TLS 1.2 otherwise.
    pub is_tls13: bool,
}

/// What a message asks of the session that it came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is ignored.
    Nothing,
    /// Nothing more comes.
    End,
    /// The peer has given up; it needs no answer.
    Fail(AlertDescription),
    /// A ticket to resume the session with.
    Ticket(Vec<u8>),
    /// The peer sends with other keys from now on; `is_requested`: so must we.
    KeyUpdate { is_requested: bool },
    /// Another handshake, which is declined.
    Renegotiation,
}

/// Part of a message.
#[derive(Debug, Default)]
pub struct Control {
    bytes: Vec<u8>,
    /// What the bytes are, where there are any.
    is_alert: bool,
    warnings: u8,
    /// Since the last content.
    key_updates: u8,
}

#[derive(Debug, PartialEq, Eq)]
enum Message {
    Alert { is_warning: bool, description: AlertDescription },
    Handshake { kind: HandshakeType, payload: Vec<u8> },
}

impl Control {
    /// Whether it holds part of a message, which nothing else may interrupt (RFC 8446 §5.1).
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds what a record says, or part of it.
    pub fn add(&mut self, content_type: ContentType, bytes: &[u8]) -> Result<(), ControlError> {
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
    fn next(&mut self) -> Result<Option<Message>, ControlError> {
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
                if length > MAX_MESSAGE_BYTES {
                    return Err((
                        AlertDescription::DecodeError,
                        InvalidMessage::HandshakePayloadTooLarge.into(),
                    ));
                }
                if self.bytes.len() < length.saturating_add(4) {
                    return Ok(None);
                }
                let payload = self.bytes.drain(..length.saturating_add(4)).skip(4).collect();
                Ok(Some(Message::Handshake { kind: kind.into(), payload }))
            }
            _ => Ok(None),
        }
    }

    /// Takes the next whole message out, and says what it asks of a session in this role.
    pub fn next_demand(&mut self, role: Role) -> Result<Option<Demand>, ControlError> {
        let demand = match self.next()? {
            None => return Ok(None),
            Some(Message::Alert { is_warning, description }) => self.alert(role, is_warning, description)?,
            Some(Message::Handshake { kind, payload }) => self.handshake(role, kind, payload)?,
        };
        Ok(Some(demand))
    }

    fn alert(
        &mut self,
        role: Role,
        is_warning: bool,
        description: AlertDescription,
    ) -> Result<Demand, ControlError> {
        match description {
            AlertDescription::CloseNotify => Ok(Demand::End),
            // RFC 8446 §6: all but this one end the connection, whatever their level.
            AlertDescription::UserCanceled if role.is_tls13 => self.warned(Demand::Nothing),
            _ if is_warning && !role.is_tls13 => self.warned(Demand::Nothing),
            _ => Ok(Demand::Fail(description)),
        }
    }

    fn handshake(
        &mut self,
        role: Role,
        kind: HandshakeType,
        payload: Vec<u8>,
    ) -> Result<Demand, ControlError> {
        match (role.is_tls13, kind) {
            (true, HandshakeType::NewSessionTicket) if role.is_client => Ok(Demand::Ticket(payload)),
            (true, HandshakeType::KeyUpdate) => self.key_update(&payload),
            // RFC 5246 §7.2.2: the peer may go on without. A few times.
            (false, HandshakeType::HelloRequest) if role.is_client => self.warned(Demand::Renegotiation),
            (false, HandshakeType::ClientHello) if !role.is_client => self.warned(Demand::Renegotiation),
            _ => Err(unexpected_message(kind)),
        }
    }

    /// RFC 8446 §4.6.3. What follows in the same record was encrypted with the former keys.
    fn key_update(&mut self, payload: &[u8]) -> Result<Demand, ControlError> {
        let is_requested = match payload {
            [0] => false,
            [1] => true,
            _ => return Err((AlertDescription::IllegalParameter, InvalidMessage::InvalidKeyUpdate.into())),
        };
        if !self.is_empty() {
            return Err(unexpected_message(HandshakeType::KeyUpdate));
        }
        self.key_updates = self.key_updates.saturating_add(1);
        if self.key_updates > MAX_KEY_UPDATES {
            let error = PeerMisbehaved::TooManyKeyUpdateRequests.into();
            return Err((AlertDescription::UnexpectedMessage, error));
        }
        Ok(Demand::KeyUpdate { is_requested })
    }

    /// Content has come.
    pub fn passed_content(&mut self) {
        self.key_updates = 0;
    }

    /// One more that is ignored, or declined.
    fn warned(&mut self, demand: Demand) -> Result<Demand, ControlError> {
        self.warnings = self.warnings.saturating_add(1);
        if self.warnings <= MAX_WARNINGS {
            return Ok(demand);
        }
        Err((AlertDescription::UnexpectedMessage, PeerMisbehaved::TooManyWarningAlertsReceived.into()))
    }
}

/// Nothing of this kind may come here.
pub fn unexpected(got_type: ContentType) -> ControlError {
    let expect_types = vec![ContentType::ApplicationData, ContentType::Alert, ContentType::Handshake];
    (AlertDescription::UnexpectedMessage, Error::InappropriateMessage { expect_types, got_type })
}

/// The same of a handshake message.
fn unexpected_message(got_type: HandshakeType) -> ControlError {
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
        let role = Role { is_client: false, is_tls13: true };
        let mut control = Control::default();
        for number in 1..=3 * MAX_KEY_UPDATES {
            control.add(ContentType::Handshake, &[24, 0, 0, 1, 0]).unwrap();
            assert!(control.next_demand(role).is_ok(), "update {number}");
            if number % MAX_KEY_UPDATES == 0 {
                control.passed_content();
            }
        }
        let mut control = Control { key_updates: MAX_KEY_UPDATES, ..Control::default() };
        control.add(ContentType::Handshake, &[24, 0, 0, 1, 0]).unwrap();
        assert!(control.next_demand(role).is_err());
    }

    #[test]
    fn warnings_have_an_end() {
        let mut control = Control::default();
        for _ in 0..MAX_WARNINGS {
            assert_eq!(control.warned(Demand::Nothing).unwrap(), Demand::Nothing);
        }
        assert!(control.warned(Demand::Nothing).is_err());
    }
}
