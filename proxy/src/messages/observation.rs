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
    /// The ids of telephone numbers, pages and accounts, each once.
    pub numbers: Vec<Box<str>>,
    /// An error says that Meta's forward proxy holds back what it fetches.
    pub names_fwdproxy: bool,
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
