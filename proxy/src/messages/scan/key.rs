use aws_lc_rs::hmac;

use super::text::Text;
use crate::messages::Key;

/// The secret that makes [`Key`]s of ids.
#[derive(Clone)]
pub struct IdKey(hmac::Key);

impl IdKey {
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

/// What an id names. The numbers are part of what is hashed: a ledger on disk depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Subject {
    WhatsAppMessage = 1,
    WhatsAppStatus = 2,
    WhatsAppEcho = 3,
    Message = 4,
    Deletion = 5,
    Edit = 6,
    Reaction = 7,
    Postback = 8,
    Read = 9,
    ReadWatermark = 10,
    Delivery = 11,
    DeliveryWatermark = 12,
    Change = 13,
    Signature = 14,
}

/// Precedes what a hash is of, so that no chain has the key of an event.
const CHAIN: u8 = 0;
const EVENT: u8 = 1;

/// Hashes ids of one upstream and path. What is hashed is unambiguous: every part has its length
/// before it, and a subject always has the same number of parts.
#[derive(Clone)]
pub struct Hasher {
    chain: hmac::Context,
    event: hmac::Context,
}

impl Hasher {
    /// A chain has no path. If an upstream is sent the same `wamid` on two paths, a `sent` on one
    /// completes both: the estimate of what is lost stays too low rather than too high, and a
    /// path that is changed breaks no chain.
    pub fn new(key: &IdKey, upstream: &str, path: &[u8]) -> Self {
        let mut chain = hmac::Context::with_key(&key.0);
        chain.update(&length(upstream.len()));
        chain.update(upstream.as_bytes());
        let mut event = chain.clone();
        chain.update(&[CHAIN]);
        event.update(&[EVENT]);
        event.update(&length(path.len()));
        event.update(path);
        Self { chain, event }
    }

    pub fn chain(&self, wamid: &Text) -> Key {
        let mut context = self.chain.clone();
        update(&mut context, wamid);
        key(context)
    }

    pub fn event<const PARTS: usize>(&self, subject: Subject, parts: [&Text; PARTS]) -> Key {
        let mut context = self.event.clone();
        context.update(&[subject as u8]);
        parts.into_iter().for_each(|part| update(&mut context, part));
        key(context)
    }

    /// Of the update with this position in the body that has this signature.
    pub fn signature(&self, signature: &[u8], position: usize) -> Key {
        let mut context = self.event.clone();
        context.update(&[Subject::Signature as u8]);
        context.update(&length(signature.len()));
        context.update(signature);
        context.update(&length(position));
        key(context)
    }
}

fn update(context: &mut hmac::Context, part: &Text) {
    let mut prefix = [0; 16];
    prefix[..8].copy_from_slice(&length(part.folds()));
    prefix[8..].copy_from_slice(&length(part.bytes().len()));
    context.update(&prefix);
    context.update(part.bytes());
}

fn length(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes()
}

fn key(context: hmac::Context) -> Key {
    let tag = context.sign();
    Key(tag.as_ref().first_chunk().copied().unwrap_or_default())
}
