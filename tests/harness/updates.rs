use serde_json::Value;

/// How much of a body a receiver reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    #[default]
    All,
    /// The first update, as receivers do that take `entry[0].changes[0].value.messages[0]`.
    First,
}

/// One update of a body, and where in the body it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Its place in `entry[]`.
    pub entry: usize,
    /// Its place in `changes[]`, for Messenger and Instagram in `messaging[]`.
    pub change: usize,
    /// `messages`, `statuses`, `message`, `delivery`, `read`.
    pub kind: &'static str,
    /// A `wamid` or a `mid`; empty where there is none.
    pub id: String,
    pub json: Value,
}

/// The updates of a delivery's body, in order; none if it is not Meta's JSON.
pub fn updates(body: &[u8], reading: Reading) -> Vec<Update> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut updates = Vec::new();
    for (entry, json) in list(&body["entry"]).enumerate() {
        for (change, json) in list(&json["changes"]).enumerate() {
            for kind in ["messages", "statuses"] {
                let of_kind = list(&json["value"][kind]);
                updates.extend(of_kind.map(|json| Update::new(entry, change, kind, &json["id"], json)));
            }
        }
        for (change, json) in list(&json["messaging"]).enumerate() {
            let kinds = ["message", "delivery", "read"].into_iter();
            let found = kinds.filter(|kind| json.get(kind).is_some());
            updates.extend(found.map(|kind| {
                let id = if kind == "delivery" { &json[kind]["mids"][0] } else { &json[kind]["mid"] };
                Update::new(entry, change, kind, id, json)
            }));
        }
    }
    match reading {
        Reading::All => updates,
        Reading::First => updates.into_iter().take(1).collect(),
    }
}

impl Update {
    fn new(entry: usize, change: usize, kind: &'static str, id: &Value, json: &Value) -> Self {
        Self { entry, change, kind, id: id.as_str().unwrap_or_default().to_owned(), json: json.clone() }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
