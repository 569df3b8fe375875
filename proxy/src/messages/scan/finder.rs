use super::found::{Change, Entry, Found};
use super::key::{Hasher, Subject};
use super::place::{List, Part, Place};
use super::search::Search;
use super::text::{Slot, Texts};
use super::tokens::{Container, Handler, Literal, MAX_DEPTH, Token};
use crate::messages::{Chain, ChainStep, Key, Kind, Number, Unscanned};

/// No key that is looked for is longer.
const MAX_KEY_BYTES: usize = 24;

/// Finds updates in a document as it passes. What it keeps of one that is not over yet: the places
/// of the open containers, the values in [`Slot`], and what it found.
#[derive(Default)]
pub struct Finder {
    pub hasher: Option<Hasher>,
    pub found: Found,
    pub texts: Texts,
    places: Places,
    /// The place of the value that comes next.
    next: Place,
    key: MemberKey,
    token: Option<Token>,
    search: Search,
    item: Item,
}

struct Places {
    open: [Place; MAX_DEPTH + 1],
    depth: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self { open: [Place::Elsewhere; MAX_DEPTH + 1], depth: 0 }
    }
}

impl Places {
    fn innermost(&self) -> Place {
        self.open.get(self.depth).copied().unwrap_or_default()
    }

    fn push(&mut self, place: Place) {
        self.depth += 1;
        if let Some(open) = self.open.get_mut(self.depth) {
            *open = place;
        }
    }

    fn pop(&mut self) -> Place {
        let place = self.innermost();
        self.depth = self.depth.saturating_sub(1);
        place
    }
}

#[derive(Default)]
struct MemberKey {
    bytes: [u8; MAX_KEY_BYTES],
    length: usize,
}

impl MemberKey {
    fn push(&mut self, piece: &[u8]) {
        let end = self.length + piece.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(piece);
        }
        // A key that is too long stays too long.
        self.length = end;
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// What is known of the update that is open, besides its texts.
#[derive(Default)]
struct Item {
    has_from: bool,
    names_fwdproxy: bool,
    is_deleted: bool,
    list: Option<List>,
    /// Index of its first update: a delivery has one for each message.
    first: usize,
    parts: [bool; Part::Delivery as usize + 1],
}

impl Finder {
    /// Forgets the body before.
    pub fn clear(&mut self) {
        self.found.clear();
        self.texts.clear();
        self.places.depth = 0;
        self.next = Place::Body;
        self.key = MemberKey::default();
        self.item = Item::default();
    }

    /// A member begins: an earlier one of the same name is void.
    fn discard(&mut self, place: Place) {
        match place {
            Place::Entries => self.found.discard_entries(),
            Place::Changes => self.found.discard(List::Changes),
            Place::MessagingItems(list) | Place::Items(list) => self.found.discard(list),
            Place::Value => {
                self.found.discard_items();
                self.forget(&[Slot::ValueId, Slot::PhoneNumberId]);
            }
            Place::Metadata => self.forget(&[Slot::PhoneNumberId]),
            Place::From => self.item.has_from = false,
            Place::Errors => self.item.names_fwdproxy = false,
            Place::Sender => self.forget(&[Slot::SenderId]),
            Place::IsDeleted => self.item.is_deleted = false,
            Place::Part(part) => {
                self.item.parts[part as usize] = false;
                self.forget(slots(part));
                match part {
                    Part::Message => self.item.is_deleted = false,
                    Part::Delivery => self.discard_mids(),
                    _ => {}
                }
            }
            Place::Mids => self.discard_mids(),
            Place::Text(slot) => self.texts[slot].clear(),
            _ => {}
        }
    }

    fn forget(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.texts[*slot].clear());
    }

    /// Those of the open update.
    fn discard_mids(&mut self) {
        self.found.updates.truncate(self.item.first);
    }

    fn begin_place(&mut self, place: Place) {
        match place {
            Place::Entry => {
                self.forget(&[Slot::EntryId, Slot::EntryTime]);
                self.found.begin_entry();
            }
            Place::Change => {
                self.forget(&[Slot::Field, Slot::ValueId, Slot::PhoneNumberId]);
                self.found.begin_change();
            }
            Place::Item(_) => {
                let ids = [Slot::Id, Slot::Status, Slot::RecipientId, Slot::RecipientUserId];
                self.forget(&ids);
                self.forget(&[Slot::Timestamp]);
                self.item = Item::default();
            }
            Place::MessagingItem(list) => {
                self.forget(&[Slot::Timestamp, Slot::SenderId]);
                PARTS.iter().for_each(|part| self.forget(slots(*part)));
                let first = self.found.updates.len();
                self.item = Item { list: Some(list), first, ..Item::default() };
            }
            Place::Part(part) => self.item.parts[part as usize] = true,
            _ => {}
        }
    }

    fn end_place(&mut self, place: Place) -> Result<(), Unscanned> {
        match place {
            Place::Item(list) => self.end_item(list),
            Place::MessagingItem(list) => self.end_messaging_item(list),
            Place::Change => self.end_change(),
            Place::Entry => {
                let id = self.texts[Slot::EntryId].short().and_then(Number::new);
                self.found.end_entry(Entry { id, sent: self.texts[Slot::EntryTime].time() })
            }
            _ => Ok(()),
        }
    }

    fn end_item(&mut self, list: List) -> Result<(), Unscanned> {
        let (kind, key) = match list {
            List::Messages => (Kind::Message, self.event(Subject::WhatsAppMessage, [Slot::Id])),
            List::Statuses => {
                if !self.texts[Slot::RecipientId].is_empty() {
                    // One names the recipient; the other may be missing from a retry.
                    self.texts[Slot::RecipientUserId].clear();
                }
                let slots = [Slot::Id, Slot::Status, Slot::RecipientId, Slot::RecipientUserId];
                (Kind::Status, self.event(Subject::WhatsAppStatus, slots))
            }
            _ => (Kind::Other, self.event(Subject::WhatsAppEcho, [Slot::Id])),
        };
        let chain = if list == List::Statuses { self.chain() } else { None };
        let update = self.found.push(list, key, kind)?;
        update.chain = chain;
        update.happened = self.texts[Slot::Timestamp].time();
        update.without_number = list == List::Messages && !self.item.has_from;
        update.names_fwdproxy = self.item.names_fwdproxy;
        Ok(())
    }

    /// `failed` proves nothing, and neither does a status that is not known.
    fn chain(&self) -> Option<Chain> {
        let step = match self.texts[Slot::Status].bytes() {
            b"sent" => ChainStep::Sent,
            b"delivered" | b"read" | b"played" => ChainStep::Later,
            _ => return None,
        };
        let wamid = Some(&self.texts[Slot::Id]).filter(|wamid| !wamid.is_empty())?;
        Some(Chain { key: self.hasher.as_ref()?.chain(wamid), step })
    }

    fn end_messaging_item(&mut self, list: List) -> Result<(), Unscanned> {
        let happened = self.texts[Slot::Timestamp].time();
        let mids = self.found.updates.get_mut(self.item.first..).unwrap_or_default();
        if !mids.is_empty() {
            mids.iter_mut().for_each(|update| update.happened = happened);
            return Ok(());
        }
        let parts = || PARTS.into_iter().filter(|part| self.item.parts[*part as usize]);
        let named = parts().find_map(|part| Some((part, self.part_event(part)?)));
        let kind = match named.map(|(part, _)| part).or_else(|| parts().next()) {
            Some(Part::Read | Part::Delivery) => Kind::Status,
            Some(_) => Kind::Message,
            None => Kind::Other,
        };
        let update = self.found.push(list, named.map(|(_, key)| key), kind)?;
        update.happened = happened;
        Ok(())
    }

    /// The key by what a part of the open update says.
    fn part_event(&self, part: Part) -> Option<Key> {
        let with_sender = |subject, watermark| {
            let has_sender = !self.texts[Slot::SenderId].is_empty();
            has_sender.then(|| self.event(subject, [watermark, Slot::SenderId])).flatten()
        };
        match part {
            Part::Message if self.item.is_deleted => self.event(Subject::Deletion, [Slot::MessageMid]),
            Part::Message => self.event(Subject::Message, [Slot::MessageMid]),
            // A message can be edited more than once.
            Part::Edit => self.event(Subject::Edit, [Slot::EditMid, Slot::EditCount]),
            Part::Reaction => self.event(Subject::Reaction, [Slot::ReactionMid]),
            Part::Postback => self.event(Subject::Postback, [Slot::PostbackMid]),
            Part::Read => self
                .event(Subject::Read, [Slot::ReadMid])
                .or_else(|| with_sender(Subject::ReadWatermark, Slot::ReadWatermark)),
            Part::Delivery => with_sender(Subject::DeliveryWatermark, Slot::DeliveryWatermark),
        }
    }

    fn end_change(&mut self) -> Result<(), Unscanned> {
        // Two fields may tell of the same comment.
        let key = self.event(Subject::Change, [Slot::ValueId, Slot::Field]);
        let has_items = self.found.has_items();
        self.found.push(List::Changes, key, Kind::Other)?;
        let field = self.texts[Slot::Field].short().unwrap_or_default();
        let has_lag = field == b"messages" || memchr::memmem::find(field, b"standby").is_some();
        let phone_number_id = self.texts[Slot::PhoneNumberId].short().and_then(Number::new);
        self.found.end_change(Change { has_lag, has_items, phone_number_id })
    }

    /// `None` if the first slot, which has the id, is empty.
    fn event<const PARTS: usize>(&self, subject: Subject, slots: [Slot; PARTS]) -> Option<Key> {
        let id = slots.first().filter(|slot| !self.texts[**slot].is_empty());
        id.and(self.hasher.as_ref()).map(|hasher| hasher.event(subject, slots.map(|slot| &self.texts[slot])))
    }

    fn end_text(&mut self, slot: Slot, token: Token) -> Result<(), Unscanned> {
        if token == Token::Number && self.texts[slot].number().is_none() {
            self.texts[slot].clear();
        }
        if slot == Slot::DeliveryMid
            && let (Some(list), Some(key)) = (self.item.list, self.event(Subject::Delivery, [slot]))
        {
            self.found.push(list, Some(key), Kind::Status)?;
        }
        Ok(())
    }
}

/// The order in which the parts of an update are asked for its id.
const PARTS: [Part; 6] =
    [Part::Message, Part::Edit, Part::Reaction, Part::Postback, Part::Read, Part::Delivery];

fn slots(part: Part) -> &'static [Slot] {
    match part {
        Part::Message => &[Slot::MessageMid],
        Part::Edit => &[Slot::EditMid, Slot::EditCount],
        Part::Reaction => &[Slot::ReactionMid],
        Part::Postback => &[Slot::PostbackMid],
        Part::Read => &[Slot::ReadMid, Slot::ReadWatermark],
        Part::Delivery => &[Slot::DeliveryMid, Slot::DeliveryWatermark],
    }
}

impl Handler for Finder {
    fn open(&mut self, container: Container) {
        let place = self.next.container(container);
        self.places.push(place);
        self.next = place.item();
        self.begin_place(place);
    }

    fn close(&mut self) -> Result<(), Unscanned> {
        let place = self.places.pop();
        self.next = self.places.innermost().item();
        self.end_place(place)
    }

    fn begin(&mut self, token: Token) -> bool {
        self.token = Some(token);
        if token == Token::Key {
            let place = self.places.innermost();
            self.key.length = 0;
            self.next = if place == Place::BelowErrors { place } else { Place::Elsewhere };
            return place.has_members();
        }
        match self.next {
            Place::Text(slot) => self.texts[slot].clear(),
            Place::From => {}
            Place::BelowErrors if token == Token::String => self.search = Search::default(),
            _ => return false,
        }
        true
    }

    fn piece(&mut self, bytes: &[u8]) {
        if self.token == Some(Token::Key) {
            return self.key.push(bytes);
        }
        match self.next {
            Place::Text(slot) => self.texts[slot].push(bytes),
            Place::From => self.item.has_from = true,
            Place::BelowErrors if self.search.finds(bytes) => self.item.names_fwdproxy = true,
            _ => {}
        }
    }

    fn end(&mut self, token: Token) -> Result<(), Unscanned> {
        if token == Token::Key {
            let key = std::mem::take(&mut self.key);
            self.key(key.bytes());
            return Ok(());
        }
        match self.next {
            Place::Text(slot) => self.end_text(slot, token),
            _ => Ok(()),
        }
    }

    fn key(&mut self, bytes: &[u8]) {
        self.next = self.places.innermost().member(bytes);
        self.discard(self.next);
    }

    fn literal(&mut self, literal: Literal) {
        if self.next == Place::IsDeleted && literal == Literal::True {
            self.item.is_deleted = true;
        }
    }
}
