use hookgate::net::control::{Control, Demand, Role};
use rustls::{AlertDescription, ContentType};

/// Types of records: alerts, handshake messages, and what must not come.
const TYPES: [u8; 6] = [21, 22, 21, 22, 20, 24];
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const MAX_MESSAGE_BYTES: usize = 65536;
const MAX_WARNINGS: usize = 4;
const MAX_KEY_UPDATES: usize = 32;

const UNEXPECTED_MESSAGE: u8 = 10;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;

/// A record's type and what is in it.
type Record<'b> = (u8, &'b [u8]);
/// What is asked of the session, and the alert that ends it.
type Outcome = (Vec<Demand>, Option<u8>);

/// Whatever comes beside application data, it asks of the session what another reader of RFC 8446
/// and 5246 finds, and ends it with the same alert.
pub fn check(bytes: &[u8]) {
    let Some((flags, records)) = bytes.split_first() else { return };
    let role = Role { is_client: flags & 1 != 0, is_tls13: flags & 2 != 0 };
    let records = self::records(records);
    let outcome = driven(role, &records);
    assert_eq!(outcome, plain(role, &records));
    // The kernel gives a record in parts where the buffer is small. Only other keys tell records
    // apart.
    if !records.iter().any(|(_, bytes)| bytes.contains(&24)) {
        let parts = records.iter().flat_map(|(kind, bytes)| bytes.chunks(1).map(move |part| (*kind, part)));
        let whole = records.iter().copied().filter(|(_, bytes)| !bytes.is_empty()).collect::<Vec<_>>();
        let (in_parts, at_once) = (driven(role, &parts.collect::<Vec<_>>()), driven(role, &whole));
        assert_eq!(in_parts, at_once, "it depends on the parts");
    }
}

/// A byte for the type, one for the length, and the record.
fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    while let [kind, length, after @ ..] = bytes {
        let (record, rest) = after.split_at(usize::from(*length).min(after.len()));
        records.push((TYPES[usize::from(*kind) % TYPES.len()], record));
        bytes = rest;
    }
    records
}

fn driven(role: Role, records: &[Record<'_>]) -> Outcome {
    let (mut control, mut demands) = (Control::default(), Vec::new());
    for (kind, bytes) in records {
        if let Err((alert, _)) = control.add(ContentType::from(*kind), bytes) {
            return (demands, Some(alert.into()));
        }
        loop {
            match control.next_demand(role) {
                Ok(Some(demand)) => demands.push(demand),
                Ok(None) => break,
                Err((alert, _)) => return (demands, Some(alert.into())),
            }
            if demands.last() == Some(&Demand::End) {
                return (demands, None);
            }
        }
    }
    (demands, None)
}

fn plain(role: Role, records: &[Record<'_>]) -> Outcome {
    let (mut demands, mut pending, mut before, mut warnings) = (Vec::new(), Vec::new(), None, 0);
    let mut key_updates = 0;
    for (kind, bytes) in records {
        let interrupts = !pending.is_empty() && before != Some(*kind);
        if interrupts || ![ALERT, HANDSHAKE].contains(kind) {
            return (demands, Some(UNEXPECTED_MESSAGE));
        }
        before = Some(*kind);
        pending.extend_from_slice(bytes);
        while let Some(length) = next_length(*kind, &pending) {
            if *kind == HANDSHAKE && length > 4 + MAX_MESSAGE_BYTES {
                return (demands, Some(DECODE_ERROR));
            }
            if pending.len() < length {
                break;
            }
            let message = pending.drain(..length).collect::<Vec<u8>>();
            let judged = match kind {
                &ALERT => alert(role, message[0], message[1]),
                _ => handshake(role, message[0], &message[4..], pending.is_empty()),
            };
            match judged {
                Ok(demand) => {
                    warnings += usize::from(matches!(demand, Demand::Nothing | Demand::Renegotiation));
                    key_updates += usize::from(matches!(demand, Demand::KeyUpdate { .. }));
                    if warnings > MAX_WARNINGS || key_updates > MAX_KEY_UPDATES {
                        return (demands, Some(UNEXPECTED_MESSAGE));
                    }
                    demands.push(demand);
                }
                Err(alert) => return (demands, Some(alert)),
            }
            if demands.last() == Some(&Demand::End) {
                return (demands, None);
            }
        }
    }
    (demands, None)
}

/// Of the message that begins `bytes`, where that can be told.
fn next_length(kind: u8, bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, _, ..] if kind == ALERT => Some(2),
        [_, a, b, c, ..] if kind == HANDSHAKE => {
            Some(4 + 65536 * usize::from(*a) + 256 * usize::from(*b) + usize::from(*c))
        }
        _ => None,
    }
}

fn alert(role: Role, level: u8, description: u8) -> Result<Demand, u8> {
    const CLOSE_NOTIFY: u8 = 0;
    const USER_CANCELED: u8 = 90;
    match (level, description) {
        (0 | 3.., _) => Err(ILLEGAL_PARAMETER),
        (_, CLOSE_NOTIFY) => Ok(Demand::End),
        (_, USER_CANCELED) if role.is_tls13 => Ok(Demand::Nothing),
        (1, _) if !role.is_tls13 => Ok(Demand::Nothing),
        _ => Ok(Demand::Fail(AlertDescription::from(description))),
    }
}

fn handshake(role: Role, kind: u8, payload: &[u8], ends_its_record: bool) -> Result<Demand, u8> {
    const HELLO_REQUEST: u8 = 0;
    const CLIENT_HELLO: u8 = 1;
    const NEW_SESSION_TICKET: u8 = 4;
    const KEY_UPDATE: u8 = 24;
    match (role.is_tls13, role.is_client, kind) {
        (true, true, NEW_SESSION_TICKET) => Ok(Demand::Ticket(payload.to_vec())),
        (true, _, KEY_UPDATE) => match payload {
            [0 | 1] if ends_its_record => Ok(Demand::KeyUpdate { is_requested: payload == [1] }),
            [0 | 1] => Err(UNEXPECTED_MESSAGE),
            _ => Err(ILLEGAL_PARAMETER),
        },
        (false, true, HELLO_REQUEST) | (false, false, CLIENT_HELLO) => Ok(Demand::Renegotiation),
        _ => Err(UNEXPECTED_MESSAGE),
    }
}
