/// How an event ended, in the order of [`Outcome::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    Recovered,
    Lost,
    Unknown,
    Duplicate,
}

impl Outcome {
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Recovered, Self::Lost, Self::Unknown, Self::Duplicate];

    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Recovered => "recovered",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::Duplicate => "duplicate",
        }
    }
}

/// How a chain of statuses ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainEnd {
    Complete,
    SentMissing,
    Unknown,
}

impl ChainEnd {
    pub const ALL: [Self; 3] = [Self::Complete, Self::SentMissing, Self::Unknown];

    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::SentMissing => "sent_missing",
            Self::Unknown => "unknown",
        }
    }
}
