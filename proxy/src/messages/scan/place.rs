use super::text::Slot;
use super::tokens::Container;

/// The lists of updates, in the order in which their events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    Messages,
    Statuses,
    Echoes,
    /// `changes[]` itself, where a change is one update.
    Changes,
    Messaging,
    Standby,
}

/// The objects of a `messaging[]` item that say what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Message,
    Edit,
    Reaction,
    Postback,
    Read,
    Delivery,
}

/// Where in a body a value is. What has no place of its own is `Elsewhere`, and so is everything
/// below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Elsewhere,
    Body,
    Entries,
    Entry,
    Changes,
    Change,
    Value,
    Metadata,
    /// The array, and an object in it.
    Items(List),
    Item(List),
    Errors,
    BelowErrors,
    From,
    MessagingItems(List),
    MessagingItem(List),
    Sender,
    Part(Part),
    IsDeleted,
    Mids,
    Text(Slot),
}

impl Place {
    /// The place of an object's member.
    pub fn member(self, key: &[u8]) -> Self {
        match self {
            Self::Body => match key {
                b"object" => Self::Text(Slot::Object),
                b"entry" => Self::Entries,
                _ => Self::Elsewhere,
            },
            Self::Entry => match key {
                b"id" => Self::Text(Slot::EntryId),
                b"time" => Self::Text(Slot::EntryTime),
                b"changes" => Self::Changes,
                b"messaging" => Self::MessagingItems(List::Messaging),
                b"standby" => Self::MessagingItems(List::Standby),
                _ => Self::Elsewhere,
            },
            Self::Change => match key {
                b"field" => Self::Text(Slot::Field),
                b"value" => Self::Value,
                _ => Self::Elsewhere,
            },
            Self::Value => match key {
                b"id" => Self::Text(Slot::ValueId),
                b"metadata" => Self::Metadata,
                b"messages" => Self::Items(List::Messages),
                b"statuses" => Self::Items(List::Statuses),
                b"message_echoes" => Self::Items(List::Echoes),
                _ => Self::Elsewhere,
            },
            Self::Metadata if key == b"phone_number_id" => Self::Text(Slot::PhoneNumberId),
            Self::Item(list) => item_member(list, key),
            Self::BelowErrors => Self::BelowErrors,
            Self::MessagingItem(_) => messaging_member(key),
            Self::Sender if key == b"id" => Self::Text(Slot::SenderId),
            Self::Part(part) => part_member(part, key),
            _ => Self::Elsewhere,
        }
    }

    /// The place of an array's items.
    pub fn item(self) -> Self {
        match self {
            Self::Entries => Self::Entry,
            Self::Changes => Self::Change,
            Self::Items(list) => Self::Item(list),
            Self::MessagingItems(list) => Self::MessagingItem(list),
            Self::Mids => Self::Text(Slot::DeliveryMid),
            Self::Errors | Self::BelowErrors => Self::BelowErrors,
            _ => Self::Elsewhere,
        }
    }

    /// The place of a container that is found here.
    pub fn container(self, container: Container) -> Self {
        let expected = match self {
            Self::Elsewhere | Self::From | Self::IsDeleted | Self::Text(_) => return Self::Elsewhere,
            Self::BelowErrors => return Self::BelowErrors,
            Self::Entries
            | Self::Changes
            | Self::Items(_)
            | Self::MessagingItems(_)
            | Self::Errors
            | Self::Mids => Container::Array,
            _ => Container::Object,
        };
        if container == expected { self } else { Self::Elsewhere }
    }

    /// Whether an object here has members with a place.
    pub fn has_members(self) -> bool {
        !matches!(self, Self::Elsewhere | Self::BelowErrors)
    }
}

fn item_member(list: List, key: &[u8]) -> Place {
    match (list, key) {
        (_, b"id") => Place::Text(Slot::Id),
        (_, b"timestamp") => Place::Text(Slot::Timestamp),
        (List::Messages | List::Statuses, b"errors") => Place::Errors,
        (List::Messages, b"from") => Place::From,
        (List::Statuses, b"status") => Place::Text(Slot::Status),
        (List::Statuses, b"recipient_id") => Place::Text(Slot::RecipientId),
        (List::Statuses, b"recipient_user_id") => Place::Text(Slot::RecipientUserId),
        _ => Place::Elsewhere,
    }
}

fn messaging_member(key: &[u8]) -> Place {
    match key {
        b"sender" => Place::Sender,
        b"timestamp" => Place::Text(Slot::Timestamp),
        b"message" => Place::Part(Part::Message),
        b"message_edit" => Place::Part(Part::Edit),
        b"reaction" => Place::Part(Part::Reaction),
        b"postback" => Place::Part(Part::Postback),
        b"read" => Place::Part(Part::Read),
        b"delivery" => Place::Part(Part::Delivery),
        _ => Place::Elsewhere,
    }
}

fn part_member(part: Part, key: &[u8]) -> Place {
    let slot = match (part, key) {
        (Part::Message, b"is_deleted") => return Place::IsDeleted,
        (Part::Delivery, b"mids") => return Place::Mids,
        (Part::Message, b"mid") => Slot::MessageMid,
        (Part::Edit, b"mid") => Slot::EditMid,
        (Part::Edit, b"num_edit") => Slot::EditCount,
        (Part::Reaction, b"mid") => Slot::ReactionMid,
        (Part::Postback, b"mid") => Slot::PostbackMid,
        (Part::Read, b"mid") => Slot::ReadMid,
        (Part::Read, b"watermark") => Slot::ReadWatermark,
        (Part::Delivery, b"watermark") => Slot::DeliveryWatermark,
        _ => return Place::Elsewhere,
    };
    Place::Text(slot)
}
