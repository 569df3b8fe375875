use aws_lc_rs::{digest, hmac};
use hookgate::messages::{Chain, ChainStep, Event, Key, Kind, Number, Observation, Product};

use super::tree::Tree;

pub const SECRET: [u8; 32] = [7; 32];

/// A longer id is hashed by parts.
const MAX_ID_BYTES: usize = 512;

/// The contract once more, for a document that is there as a whole.
pub struct Reference<'a> {
    pub upstream: &'a str,
    pub path: &'a [u8],
    pub signature: Option<&'a [u8]>,
}

/// An event, except what depends on its body and entry.
struct Draft {
    key: Option<Key>,
    kind: Kind,
    chain: Option<Chain>,
    happened: Option<i64>,
    without_number: bool,
    has_fwdproxy: bool,
}

impl Draft {
    fn new(kind: Kind, key: Option<Key>, happened: Option<i64>) -> Self {
        Self { key, kind, chain: None, happened, without_number: false, has_fwdproxy: false }
    }
}

impl Reference<'_> {
    pub fn observe(&self, body: &Tree) -> Observation {
        let product = match body.member("object").and_then(Tree::text).as_deref() {
            Some("whatsapp_business_account") => Product::WhatsApp,
            Some("page") => Product::Messenger,
            Some("instagram") => Product::Instagram,
            _ => Product::Other,
        };
        let mut observation = Observation { product, ..Observation::default() };
        let is_whatsapp = product == Product::WhatsApp;
        let mut drafts = Vec::new();
        for entry in body.objects("entry") {
            let sent = entry.member("time").and_then(time);
            // The entries of other objects may be persons.
            let id = entry.member("id").filter(|_| product != Product::Other);
            observation.sent.extend(sent);
            for change in entry.objects("changes") {
                if is_whatsapp {
                    let number = change.member("value").and_then(|value| value.member("metadata"));
                    let number = number.and_then(|metadata| metadata.member("phone_number_id"));
                    let events = self.whatsapp_change(change).into_iter();
                    drafts.extend(events.map(|draft| (draft, number, sent)));
                } else {
                    drafts.push((self.change(change), id, sent));
                }
            }
            if !is_whatsapp {
                let items = [entry.objects("messaging"), entry.objects("standby")].concat();
                let events = items.into_iter().flat_map(|item| self.messaging(item));
                drafts.extend(events.map(|draft| (draft, id, sent)));
            }
        }
        if drafts.is_empty() {
            drafts.push((Draft::new(Kind::Other, None, None), None, None));
        }
        for (position, (draft, number, sent)) in drafts.into_iter().enumerate() {
            observation.names_fwdproxy |= draft.has_fwdproxy;
            let Some(key) = draft.key.or_else(|| self.signature_key(position)) else { continue };
            let number = number.and_then(Tree::text).and_then(|number| Number::new(number.as_bytes()));
            let number = number.map(|number| {
                let known = observation.numbers.iter().position(|known| *known == number);
                known.unwrap_or_else(|| {
                    observation.numbers.push(number);
                    observation.numbers.len() - 1
                })
            });
            let Draft { kind, chain, happened, without_number, .. } = draft;
            let has_id = draft.key.is_some();
            observation.events.push(Event {
                key,
                kind,
                has_id,
                chain,
                happened,
                sent,
                number,
                without_number,
            });
        }
        observation
    }

    fn whatsapp_change(&self, change: &Tree) -> Vec<Draft> {
        let field = change.member("field").and_then(Tree::text).unwrap_or_default();
        // A field of more than 512 bytes is none.
        let has_lag = field == "messages" || field.contains("standby") && field.len() <= MAX_ID_BYTES;
        let Some(value) = change.member("value").filter(|value| matches!(value, Tree::Object(_))) else {
            return vec![self.change(change)];
        };
        let messages = value.objects("messages").into_iter().map(|message| {
            let from = message.member("from");
            let has_from = match from {
                Some(Tree::Text(from)) => !from.is_empty(),
                Some(Tree::Number(_)) => true,
                _ => false,
            };
            let key = self.id_key(1, &[message.member("id")]);
            Draft { without_number: !has_from, ..self.item(message, Kind::Message, key) }
        });
        let statuses = value.objects("statuses").into_iter().map(|status| {
            let [id, recipient] = ["id", "recipient_id"].map(|name| status.member(name));
            let recipient_user = status.member("recipient_user_id");
            let user = recipient_user.filter(|_| recipient.and_then(Tree::text).is_none());
            let key = self.id_key(2, &[id, status.member("status"), recipient, user]);
            let step = match status.member("status").and_then(Tree::text).as_deref() {
                Some("sent") => Some(ChainStep::Sent),
                Some("delivered" | "read" | "played") => Some(ChainStep::Later),
                _ => None,
            };
            let chain = step.zip(id.and_then(Tree::text));
            let chain = chain.map(|(step, wamid)| Chain { key: self.chain_key(&wamid), step });
            Draft { chain, ..self.item(status, Kind::Status, key) }
        });
        let echoes = value.objects("message_echoes").into_iter();
        let echoes = echoes.map(|echo| Draft::new(Kind::Other, self.id_key(3, &[echo.member("id")]), None));
        let with_lag = messages.chain(statuses).map(|draft| if has_lag { draft } else { without_lag(draft) });
        let drafts = with_lag.chain(echoes).collect::<Vec<_>>();
        if drafts.is_empty() { vec![self.change(change)] } else { drafts }
    }

    /// A message or status.
    fn item(&self, item: &Tree, kind: Kind, key: Option<Key>) -> Draft {
        let has_fwdproxy = match item.member("errors") {
            Some(errors @ Tree::Array(_)) => errors.has_text("fwdproxy"),
            _ => false,
        };
        Draft { has_fwdproxy, ..Draft::new(kind, key, item.member("timestamp").and_then(time)) }
    }

    fn change(&self, change: &Tree) -> Draft {
        let id = change.member("value").and_then(|value| value.member("id"));
        Draft::new(Kind::Other, self.id_key(13, &[id, change.member("field")]), None)
    }

    fn messaging(&self, item: &Tree) -> Vec<Draft> {
        let happened = item.member("timestamp").and_then(time);
        let sender = item.member("sender").and_then(|sender| sender.member("id"));
        let of = |part: &str, name: &str| item.member(part).and_then(|part| part.member(name));
        let mids = of("delivery", "mids").map(Tree::items).unwrap_or_default();
        let deliveries = mids.iter().filter_map(|mid| self.id_key(11, &[Some(mid)]));
        let deliveries = deliveries.map(|key| Draft::new(Kind::Status, Some(key), happened));
        let deliveries = deliveries.collect::<Vec<_>>();
        if !deliveries.is_empty() {
            return deliveries;
        }
        let is_deleted = of("message", "is_deleted") == Some(&Tree::Bool(true));
        let by_watermark = |number, part| {
            sender.and_then(Tree::text)?;
            self.id_key(number, &[of(part, "watermark"), sender])
        };
        let named = [
            ("message", Kind::Message, self.id_key(if is_deleted { 5 } else { 4 }, &[of("message", "mid")])),
            (
                "message_edit",
                Kind::Message,
                self.id_key(6, &[of("message_edit", "mid"), of("message_edit", "num_edit")]),
            ),
            ("reaction", Kind::Message, self.id_key(7, &[of("reaction", "mid")])),
            ("postback", Kind::Message, self.id_key(8, &[of("postback", "mid")])),
            ("read", Kind::Status, self.id_key(9, &[of("read", "mid")]).or_else(|| by_watermark(10, "read"))),
            ("delivery", Kind::Status, by_watermark(12, "delivery")),
        ];
        let is_there =
            |part: &&(&str, Kind, Option<Key>)| matches!(item.member(part.0), Some(Tree::Object(_)));
        let part = named.iter().find(|part| part.2.is_some()).or_else(|| named.iter().find(is_there));
        let (_, kind, key) = part.unwrap_or(&("", Kind::Other, None));
        vec![Draft::new(*kind, *key, happened)]
    }

    fn chain_key(&self, wamid: &str) -> Key {
        let upstream = self.upstream.as_bytes();
        sign(&[&length(upstream), upstream, &[0], &part(Some(wamid))].concat())
    }

    fn event_key(&self, subject: u8, rest: &[u8]) -> Key {
        let upstream = self.upstream.as_bytes();
        let path = [&length(self.path)[..], self.path].concat();
        sign(&[&length(upstream), upstream, &[1], &path, &[subject], rest].concat())
    }

    /// `None` if there is no first part.
    fn id_key(&self, subject: u8, parts: &[Option<&Tree>]) -> Option<Key> {
        let texts = parts.iter().map(|part| part.and_then(Tree::text)).collect::<Vec<_>>();
        texts.first()?.as_ref()?;
        let parts = texts.iter().flat_map(|text| part(text.as_deref())).collect::<Vec<_>>();
        Some(self.event_key(subject, &parts))
    }

    fn signature_key(&self, position: usize) -> Option<Key> {
        let signature = self.signature?;
        let position = u64::try_from(position).expect("64 bits").to_le_bytes();
        Some(self.event_key(14, &[&length(signature)[..], signature, &position].concat()))
    }
}

fn without_lag(draft: Draft) -> Draft {
    let has_fwdproxy = draft.has_fwdproxy;
    Draft { has_fwdproxy, ..Draft::new(Kind::Other, draft.key, None) }
}

/// Milliseconds.
fn time(tree: &Tree) -> Option<i64> {
    let text = tree.text().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    match text.parse::<i64>().ok()? {
        0 => None,
        seconds @ 1..100_000_000_000 => Some(seconds * 1000),
        milliseconds => Some(milliseconds),
    }
}

fn part(text: Option<&str>) -> Vec<u8> {
    let (mut bytes, mut digests) = (text.unwrap_or_default().as_bytes().to_vec(), 0_u64);
    while let Some((first, rest)) = bytes.split_at_checked(MAX_ID_BYTES).filter(|(_, rest)| !rest.is_empty())
    {
        bytes = [digest::digest(&digest::SHA256, first).as_ref(), rest].concat();
        digests += 1;
    }
    [&digests.to_le_bytes()[..], &length(&bytes), &bytes].concat()
}

fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).expect("64 bits").to_le_bytes()
}

fn sign(bytes: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), bytes);
    Key(tag.as_ref()[..16].try_into().expect("16 bytes"))
}
