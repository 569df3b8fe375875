mod events;
mod limits;
mod memory;
mod payloads;
mod syntax;

use serde_json::Value;

use super::{IdKey, Scan};
use crate::messages::{Event, Key, Observation, Unscanned};

const UPSTREAM: &str = "chatwoot.example.com";
const PATH: &[u8] = b"/webhooks/whatsapp/1";
const SIGNATURE: &[u8] = b"sha256=0123";

fn key() -> IdKey {
    IdKey::new(&[7; 32])
}

fn scan_pieces(pieces: &[&[u8]], signature: Option<&[u8]>) -> Result<Observation, Unscanned> {
    let mut scan = Scan::new();
    scan.begin(&key(), UPSTREAM, PATH);
    pieces.iter().for_each(|piece| scan.feed(piece));
    scan.end(signature).cloned()
}

fn scan(body: impl AsRef<[u8]>) -> Result<Observation, Unscanned> {
    scan_pieces(&[body.as_ref()], Some(SIGNATURE))
}

fn observe(body: impl AsRef<[u8]>) -> Observation {
    let body = body.as_ref();
    scan(body).unwrap_or_else(|reason| panic!("{}: {}", reason.name(), body.escape_ascii()))
}

fn only(body: impl AsRef<[u8]>) -> Event {
    let body = body.as_ref();
    let [event] = <[Event; 1]>::try_from(observe(body).events)
        .unwrap_or_else(|events| panic!("{} events: {}", events.len(), body.escape_ascii()));
    event
}

fn keys(body: impl AsRef<[u8]>) -> Vec<Key> {
    observe(body).events.iter().map(|event| event.key).collect()
}

fn payload(name: &str) -> Vec<u8> {
    let path = format!("{}/../tests/data/payloads/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn payloads() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/payloads");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

/// A WhatsApp body with this field and value.
fn whatsapp(field: &str, value: &str) -> String {
    let change = format!(r#"{{"field":"{field}","value":{value}}}"#);
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"1","time":1795539670,"changes":[{change}]}}]}}"#
    )
}

/// A body with one item of `messaging[]`.
fn messaging(object: &str, item: &str) -> String {
    format!(r#"{{"object":"{object}","entry":[{{"id":"1090","time":1795539700210,"messaging":[{item}]}}]}}"#)
}

/// The same document with the members of every object in the opposite order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().rev();
            let members = members.map(|(key, value)| format!("{}:{}", Value::from(&**key), reversed(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(",")),
        _ => value.to_string(),
    }
}
