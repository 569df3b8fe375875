use std::collections::HashMap;

use super::found::{Found, MAX_KEPT, MAX_UPDATES, Update};
use super::key::Hasher;
use super::place::List;
use crate::messages::{Event, Key, Kind, Number, Observation, Product, Unscanned};

/// Makes observations, one after the other in the same memory.
#[derive(Default)]
pub struct Report {
    pub observation: Observation,
    /// Indexes in the observation's numbers.
    indexes: HashMap<Number, usize>,
}

impl Report {
    pub fn clear(&mut self) {
        let Self { observation, indexes } = self;
        indexes.clear();
        indexes.shrink_to(MAX_KEPT);
        observation.product = Product::Other;
        observation.names_fwdproxy = false;
        observation.events.clear();
        observation.events.shrink_to(MAX_KEPT);
        observation.sent.clear();
        observation.sent.shrink_to(MAX_KEPT);
        observation.numbers.clear();
        observation.numbers.shrink_to(MAX_KEPT);
    }

    /// Adds what a body has, now that its product is known.
    pub fn fill(
        &mut self,
        product: Product,
        found: &Found,
        hasher: &Hasher,
        signature: Option<&[u8]>,
    ) -> Result<(), Unscanned> {
        let signature = signature.filter(|signature| !signature.is_empty());
        self.observation.product = product;
        self.observation.sent.extend(found.entries.iter().filter_map(|entry| entry.sent));
        let mut position = 0;
        for update in found.updates.iter().filter(|update| is_event(product, found, update)) {
            self.observation.names_fwdproxy |= update.names_fwdproxy;
            let by_signature = || Some(hasher.signature(signature?, position));
            if let Some(key) = update.key.or_else(by_signature) {
                let event = self.event(product, found, update);
                self.observation.events.push(Event { key, has_id: update.key.is_some(), ..event });
            }
            position += 1;
            if position > MAX_UPDATES {
                return Err(Unscanned::TooMany);
            }
        }
        if let (0, Some(signature)) = (position, signature) {
            self.observation.events.push(Event { key: hasher.signature(signature, 0), ..OTHER });
        }
        Ok(())
    }

    fn event(&mut self, product: Product, found: &Found, update: &Update) -> Event {
        let entry = found.entries.get(update.entry);
        let sent = entry.and_then(|entry| entry.sent);
        if product != Product::WhatsApp {
            // The entries of other objects may be persons.
            let is_business = matches!(product, Product::Messenger | Product::Instagram);
            let id = entry.and_then(|entry| entry.id).filter(|_| is_business);
            let number = self.index(id);
            return Event { kind: update.kind, happened: update.happened, sent, number, ..OTHER };
        }
        let change = found.changes.get(update.change);
        let number = self.index(change.and_then(|change| change.phone_number_id));
        let has_lag = change.is_some_and(|change| change.has_lag) && update.list <= List::Statuses;
        if !has_lag {
            return Event { sent, number, ..OTHER };
        }
        let Update { kind, chain, happened, without_number, .. } = *update;
        Event { kind, chain, happened, sent, number, without_number, ..OTHER }
    }

    fn index(&mut self, number: Option<Number>) -> Option<usize> {
        let numbers = &mut self.observation.numbers;
        let number = number?;
        // Most updates have the number of the one before.
        if let Some(index) = numbers.len().checked_sub(1).filter(|last| numbers.get(*last) == Some(&number)) {
            return Some(index);
        }
        let new = numbers.len();
        let index = *self.indexes.entry(number).or_insert(new);
        if index == new {
            numbers.push(number);
        }
        Some(index)
    }
}

const OTHER: Event = Event {
    key: Key([0; 16]),
    kind: Kind::Other,
    has_id: false,
    chain: None,
    happened: None,
    sent: None,
    number: None,
    without_number: false,
};

/// WhatsApp has messages and statuses in its changes; elsewhere a change is one event.
fn is_event(product: Product, found: &Found, update: &Update) -> bool {
    let is_whatsapp = product == Product::WhatsApp;
    match update.list {
        List::Messages | List::Statuses | List::Echoes => is_whatsapp,
        List::Changes => !is_whatsapp || found.changes.get(update.change).is_some_and(|it| !it.has_items),
        List::Messaging | List::Standby => !is_whatsapp,
    }
}
