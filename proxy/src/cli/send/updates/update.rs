use clap::ValueEnum;

/// Meta's own limit. 1,000 updates of any kind are less than the 3 MB that it sends at most.
pub const MAX_UPDATES: u32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Product {
    #[value(name = "whatsapp")]
    WhatsApp,
    Messenger,
    Instagram,
}

/// What the deliveries of a run consist of.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub product: Product,
    /// Updates in one delivery, at least 1.
    pub batch: u32,
    /// Statuses of messages that the receiver is said to have sent, instead of messages to it.
    pub statuses: bool,
    /// WhatsApp users with a username and no telephone number.
    pub without_number: bool,
}

/// What an update tells of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the message itself.
    Received,
    Sent,
    Delivered,
    Read,
}

impl Form {
    /// The updates of one message, in order.
    pub fn steps(&self) -> &'static [Step] {
        match (self.statuses, self.product) {
            (false, _) => &[Step::Received],
            (true, Product::WhatsApp) => &[Step::Sent, Step::Delivered, Step::Read],
            (true, Product::Messenger) => &[Step::Delivered, Step::Read],
            // `message_deliveries` exists for Messenger alone.
            (true, Product::Instagram) => &[Step::Read],
        }
    }

    /// Deliveries that tell all of one message.
    pub fn deliveries_per_message(&self) -> u32 {
        let steps = u32::try_from(self.steps().len()).unwrap_or(u32::MAX);
        steps.div_ceil(self.batch)
    }
}

/// One update of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub step: Step,
    /// Which message of the run, from 0 on.
    pub message: u64,
    /// The other side of the conversation, from 0 on.
    pub person: u64,
    /// Which of the [`ACCOUNTS`].
    pub account: u64,
}

/// Accounts that get updates. Meta writes an entry for each.
pub const ACCOUNTS: u64 = 2;

/// What the updates of one delivery have in common.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Distinguishes the ids of this run from those of others.
    pub run: [u8; 6],
    /// Milliseconds since 1970.
    pub time: i64,
    /// Messages in all deliveries of the run.
    pub messages: u64,
    pub without_number: bool,
}

impl Delivery {
    /// Ten bytes that no other message has.
    pub fn unique(&self, message: u64) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..6].copy_from_slice(&self.run);
        // At most 1,000,000 deliveries of MAX_UPDATES.
        bytes[6..].copy_from_slice(&message.to_be_bytes()[4..]);
        bytes
    }

    pub fn text(&self, message: u64) -> String {
        format!("Test message {} of {} from hookgate send", message + 1, self.messages)
    }
}

/// The first half and the rest; one part where there is one item.
pub fn halves<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    items.chunks(items.len().div_ceil(2).max(1))
}
