//! Messenger and Instagram: `entry[].messaging[]`. Times are numbers of milliseconds.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;

use super::update::{Delivery, Step, Update};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Messenger,
    Instagram,
}

#[derive(Serialize)]
struct Body {
    object: &'static str,
    entry: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    time: i64,
    id: String,
    messaging: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    sender: Party,
    recipient: Party,
    timestamp: i64,
    #[serde(flatten)]
    event: Event,
}

#[derive(Serialize)]
struct Party {
    id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Message { mid: String, text: String },
    Delivery { mids: [String; 1], watermark: i64 },
    Read(Read),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Read {
    /// All messages until then.
    Until {
        watermark: i64,
    },
    Message {
        mid: String,
    },
}

pub fn body(kind: Kind, delivery: &Delivery, by_account: &[Vec<Update>]) -> serde_json::Result<Vec<u8>> {
    let object = match kind {
        Kind::Messenger => "page",
        Kind::Instagram => "instagram",
    };
    let entry = by_account.iter().map(|updates| entry(kind, delivery, updates)).collect();
    serde_json::to_vec(&Body { object, entry })
}

fn entry(kind: Kind, delivery: &Delivery, updates: &[Update]) -> Entry {
    let account = account_id(kind, updates.first().map_or(0, |update| update.account));
    let item = |update: &Update| Item {
        sender: Party { id: (1_000_000_000_000_001 + update.person).to_string() },
        recipient: Party { id: account.clone() },
        timestamp: delivery.time,
        event: event(kind, delivery, update),
    };
    let messaging = updates.iter().map(item).collect();
    Entry { time: delivery.time, id: account, messaging }
}

fn event(kind: Kind, delivery: &Delivery, update: &Update) -> Event {
    let (mid, watermark) = (id(kind, delivery, update), delivery.time);
    match (update.step, kind) {
        (Step::Received, _) => Event::Message { mid, text: delivery.text(update.message) },
        (Step::Sent | Step::Delivered, _) => Event::Delivery { mids: [mid], watermark },
        (Step::Read, Kind::Messenger) => Event::Read(Read::Until { watermark }),
        (Step::Read, Kind::Instagram) => Event::Read(Read::Message { mid }),
    }
}

fn account_id(kind: Kind, account: u64) -> String {
    let first: u64 = match kind {
        Kind::Messenger => 100_000_000_000_001,
        Kind::Instagram => 17_840_000_000_000_001,
    };
    (first + account).to_string()
}

/// A `mid` in the product's form.
fn id(kind: Kind, delivery: &Delivery, update: &Update) -> String {
    let unique = delivery.unique(update.message);
    match kind {
        Kind::Messenger => {
            let hash = digest::digest(&digest::SHA512, &unique);
            format!("m_{}", BASE64_URL_SAFE_NO_PAD.encode(hash))
        }
        Kind::Instagram => {
            let serial = unique.iter().fold(0_u128, |serial, byte| serial << 8 | u128::from(*byte));
            let account = account_id(kind, update.account);
            let thread = format!("340282366841710301244276{:015}", update.person + 1);
            let item = format!("ig_dm_item:1:IGMessageID:{account}:{thread}:{serial:036}");
            // Instagram marks each Z so.
            BASE64_STANDARD_NO_PAD.encode(item).replace('Z', "ZA")
        }
    }
}
