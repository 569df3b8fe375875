use std::fmt;

use serde::{Deserialize, Serialize};

/// Sixteen bytes that stand for an id, and from which no one without the key gets it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(pub [u8; 16]);

/// Whose message a body holds, by its `object`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Product {
    WhatsApp,
    Messenger,
    Instagram,
    #[default]
    Other,
}

impl Product {
    pub const ALL: [Self; 4] = [Self::WhatsApp, Self::Messenger, Self::Instagram, Self::Other];

    pub fn name(self) -> &'static str {
        match self {
            Self::WhatsApp => "whatsapp",
            Self::Messenger => "messenger",
            Self::Instagram => "instagram",
            Self::Other => "other",
        }
    }
}

/// What an event is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    Message,
    Status,
    Other,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Message, Self::Status, Self::Other];

    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Status => "status",
            Self::Other => "other",
        }
    }
}

/// A status of a message that the upstream has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainStep {
    Sent,
    /// `delivered`, `read` or `played`: there must have been a `sent`.
    Later,
}

/// The message that a status belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub key: Key,
    pub step: ChainStep,
}

/// The id of a telephone number, a page or an account. It is stored in place: a scan allocates
/// nothing for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Number {
    bytes: [u8; Self::MAX_BYTES],
    length: usize,
}

impl Number {
    pub const MAX_BYTES: usize = 64;

    /// `None`: it is empty, too long, or has other characters than visible ASCII.
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.get_mut(..id.len()).filter(|place| !place.is_empty())?.copy_from_slice(id);
        id.iter().all(u8::is_ascii_graphic).then_some(Self { bytes, length: id.len() })
    }

    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default()
    }
}

impl From<Number> for String {
    fn from(number: Number) -> Self {
        number.as_str().to_owned()
    }
}

impl TryFrom<String> for Number {
    type Error = &'static str;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        Self::new(id.as_bytes()).ok_or("not the id of a number")
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// One update of a body. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub key: Key,
    pub kind: Kind,
    /// `false`: the body's signature stands for the id that the update lacks.
    pub has_id: bool,
    pub chain: Option<Chain>,
    /// When it happened; `None`: not said, or not for all to see how late it is.
    pub happened: Option<i64>,
    /// When its entry was sent.
    pub sent: Option<i64>,
    /// Whose it is, in [`Observation::numbers`].
    pub number: Option<usize>,
    /// A WhatsApp message that does not say the telephone number of its sender.
    pub without_number: bool,
}

/// What one body tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub product: Product,
    pub events: Vec<Event>,
    /// When each entry that says so was sent, in milliseconds since 1970.
    pub sent: Vec<i64>,
    /// The telephone numbers, pages and accounts that the events are of, each once.
    pub numbers: Vec<Number>,
    /// An error says that Meta's forward proxy holds back what it fetches.
    pub names_fwdproxy: bool,
}

impl Observation {
    /// Says the same as another, in the memory that it has.
    pub fn copy_from(&mut self, other: &Self) {
        let Self { product, events, sent, numbers, names_fwdproxy } = other;
        self.product = *product;
        self.events.clone_from(events);
        self.sent.clone_from(sent);
        self.numbers.clone_from(numbers);
        self.names_fwdproxy = *names_fwdproxy;
    }
}

/// Why a body makes no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unscanned {
    Compressed,
    NotJson,
    TooLong,
    TooDeep,
    TooMany,
    /// It was answered, or given up, before it was read.
    Unread,
}

impl Unscanned {
    pub const ALL: [Self; 6] =
        [Self::Compressed, Self::NotJson, Self::TooLong, Self::TooDeep, Self::TooMany, Self::Unread];

    /// The label of `hookgate_bodies_unscanned_total`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compressed => "compressed",
            Self::NotJson => "not_json",
            Self::TooLong => "too_long",
            Self::TooDeep => "too_deep",
            Self::TooMany => "too_many",
            Self::Unread => "unread",
        }
    }
}
