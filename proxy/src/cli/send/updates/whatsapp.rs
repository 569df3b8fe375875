//! WhatsApp: `entry[].changes[].value.messages[]` and `statuses[]`. Times are strings of seconds.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::update::{Delivery, Step, Update, halves};

#[derive(Serialize)]
struct Body {
    object: &'static str,
    entry: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: String,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    value: Value,
    field: &'static str,
}

#[derive(Serialize)]
struct Value {
    messaging_product: &'static str,
    metadata: Metadata,
    contacts: Vec<Contact>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Message>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<Status>,
}

#[derive(Serialize)]
struct Metadata {
    display_phone_number: String,
    phone_number_id: String,
}

#[derive(Serialize)]
struct Contact {
    profile: Profile,
    #[serde(skip_serializing_if = "Option::is_none")]
    wa_id: Option<String>,
    user_id: String,
}

#[derive(Serialize)]
struct Profile {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
}

#[derive(Serialize)]
struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    from_user_id: String,
    id: String,
    timestamp: String,
    text: Text,
    r#type: &'static str,
}

#[derive(Serialize)]
struct Text {
    body: String,
}

#[derive(Serialize)]
struct Status {
    id: String,
    status: &'static str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_id: Option<String>,
    recipient_user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pricing: Option<Pricing>,
}

#[derive(Serialize)]
struct Pricing {
    billable: bool,
    pricing_model: &'static str,
    category: &'static str,
    r#type: &'static str,
}

pub fn body(delivery: &Delivery, by_account: &[Vec<Update>]) -> serde_json::Result<Vec<u8>> {
    let entry = by_account.iter().map(|updates| entry(delivery, updates)).collect();
    serde_json::to_vec(&Body { object: "whatsapp_business_account", entry })
}

fn entry(delivery: &Delivery, updates: &[Update]) -> Entry {
    let account = updates.first().map_or(0, |update| update.account);
    let change = |updates: &[Update]| Change { value: value(delivery, account, updates), field: "messages" };
    Entry {
        id: (100_000_000_000_000 + 10 * account).to_string(),
        changes: halves(updates).map(change).collect(),
    }
}

fn value(delivery: &Delivery, account: u64, updates: &[Update]) -> Value {
    let (messages, statuses): (Vec<Update>, Vec<Update>) =
        updates.iter().partition(|update| update.step == Step::Received);
    // The statuses of a message follow each other.
    let mut people = updates.to_vec();
    people.dedup_by_key(|update| update.person);
    Value {
        messaging_product: "whatsapp",
        metadata: Metadata {
            display_phone_number: (15_550_100_000 + 100_000 * account).to_string(),
            phone_number_id: (100_000_000_000_001 + 10 * account).to_string(),
        },
        contacts: people.iter().map(|update| contact(delivery, update)).collect(),
        messages: messages.iter().map(|update| message(delivery, update)).collect(),
        statuses: statuses.iter().map(|update| status(delivery, update)).collect(),
    }
}

fn contact(delivery: &Delivery, update: &Update) -> Contact {
    // A status `sent` never has it.
    let has_username = delivery.without_number && update.step != Step::Sent;
    Contact {
        profile: Profile {
            name: "hookgate",
            username: has_username.then(|| format!("@hookgate{}", update.person + 1)),
        },
        wa_id: phone_number(delivery, update),
        user_id: user_id(update),
    }
}

fn message(delivery: &Delivery, update: &Update) -> Message {
    Message {
        from: phone_number(delivery, update),
        from_user_id: user_id(update),
        id: id(delivery, update),
        timestamp: seconds(delivery),
        text: Text { body: delivery.text(update.message) },
        r#type: "text",
    }
}

fn status(delivery: &Delivery, update: &Update) -> Status {
    let status = match update.step {
        Step::Received | Step::Sent => "sent",
        Step::Delivered => "delivered",
        Step::Read => "read",
    };
    let pricing = Pricing {
        billable: false,
        pricing_model: "PMP",
        category: "service",
        r#type: "free_customer_service",
    };
    Status {
        id: id(delivery, update),
        status,
        timestamp: seconds(delivery),
        recipient_id: phone_number(delivery, update),
        recipient_user_id: user_id(update),
        pricing: (update.step != Step::Read).then_some(pricing),
    }
}

fn seconds(delivery: &Delivery) -> String {
    delivery.time.div_euclid(1000).to_string()
}

fn phone_number(delivery: &Delivery, update: &Update) -> Option<String> {
    (!delivery.without_number).then(|| (15_550_100_001 + update.person).to_string())
}

fn user_id(update: &Update) -> String {
    format!("US.{}", 10_000_000_000_000_001 + update.person)
}

/// A `wamid` as WhatsApp makes them: it holds the user's number.
fn id(delivery: &Delivery, update: &Update) -> String {
    let user = phone_number(delivery, update).unwrap_or_else(|| user_id(update));
    let unique = delivery.unique(update.message).map(|byte| format!("{byte:02X}")).concat();
    let mut bytes = vec![0x1c];
    for (field, text) in [(&[0x18][..], user), (&[0x15, 0x02, 0x00, 0x12, 0x18], unique)] {
        bytes.extend(field);
        bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        bytes.extend(text.bytes());
    }
    bytes.push(0);
    format!("wamid.{}", BASE64_STANDARD.encode(bytes))
}
