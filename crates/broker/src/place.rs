//! Where a stored message is, and what the shard keeps in memory of one that is near delivery.

use smol_str::{SmolStr, ToSmolStr};
use waystation_base::{
    EntityId, Message, Millis, Offset, Position,
    batch::{self, Record},
    filter::Filter,
    message::header::DEATH_TOPIC,
    name::REDRIVEN_PREFIX,
    value::Value,
};
use xxhash_rust::xxh3::xxh3_64;

/// Where the record batch that holds a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the journal; the batch begins at this position.
    Journal(Position),
    /// In a settled file: find it by log and offset.
    Settled(u32),
}

/// Names one log: a priority lane of a queue, or a partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId {
    /// Whose.
    pub entity: EntityId,
    /// The partition, or the lane.
    pub log: u16,
}

/// A message near delivery, without its body.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// The log that it is stored in.
    pub log: LogId,
    /// Its offset there.
    pub offset: Offset,
    /// Where its batch is.
    pub place: Place,
    /// Where in the batch its record begins, in bytes; of a message in a settled file without meaning.
    pub at: u32,
    /// Bytes of the body: what length limits count, as RabbitMQ does, and the same wherever the message is copied to.
    pub bytes: u32,
    /// When it was published; of a delayed message, when it was to be delivered.
    pub timestamp: Millis,
    /// When it expires; [`Millis::NEVER`] if it does not.
    pub expires_at: Millis,
    /// A hash of its key; 0 if it has none.
    pub key_hash: u64,
    /// A hash of its tenant's name; 0 if it has none, or nobody asked.
    pub tenant: u64,
}

impl Meta {
    /// What a stored record says. Shard and readers both ask here, so that they agree.
    pub fn of(log: LogId, place: Place, record: &Record<'_>) -> Result<Meta, batch::Error> {
        let system = record.system()?;
        Ok(Meta {
            log,
            offset: record.offset,
            place,
            at: record.at,
            bytes: record.body_bytes() as u32,
            timestamp: record.timestamp.max(system.deliver_at.unwrap_or_default()),
            expires_at: system.expires_at.unwrap_or(Millis::NEVER),
            key_hash: key_hash(record.key),
            tenant: 0,
        })
    }
}

/// A hash of a key that is never 0; 0 if there is none.
pub fn key_hash(key: Option<&[u8]>) -> u64 {
    key.map_or(0, |key| xxh3_64(key).max(1))
}

/// What names a message's tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantBy {
    /// A header of it.
    Header(SmolStr),
    /// The virtual host of the address that it was published to; of a dead letter that came back to a subscription, of the topic that
    /// it was a message of.
    VirtualHost,
}

impl TenantBy {
    /// A hash of the name; 0 if there is none.
    pub fn of(&self, address: &str, message: &Message) -> u64 {
        match self {
            TenantBy::Header(header) => {
                let name = tenant_of(message, header);
                key_hash(name.as_ref().map(|name| name.as_bytes()))
            }
            TenantBy::VirtualHost => {
                let came_by = address.strip_prefix(REDRIVEN_PREFIX);
                let came_by = came_by.map(|to| message.headers.text(DEATH_TOPIC).unwrap_or(to));
                let address = came_by.unwrap_or(address);
                key_hash(address.split_once(VIRTUAL_HOST_ENDS).map(|(host, _)| host.as_bytes()))
            }
        }
    }
}

/// What parts the virtual host from the rest of a name.
const VIRTUAL_HOST_ENDS: &str = "::";
/// Bytes of a tenant's name; of a longer one the beginning counts.
const TENANT_BYTES_MAX: usize = 255;

/// The tenant that a header of a message names.
pub(crate) fn tenant_of(message: &Message, header: &str) -> Option<SmolStr> {
    let value = message.headers.get(header)?;
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.as_i64()?.to_smolstr(),
    };
    let most = text.len().min(TENANT_BYTES_MAX);
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at))?;
    Some(SmolStr::new(&text[..end])).filter(|text| !text.is_empty())
}

/// See [`crate::Effect::Load`]: messages of one log, from an offset on.
#[derive(Clone, Debug)]
pub struct Load {
    /// What it is for; comes back in [`Loaded`].
    pub purpose: Purpose,
    /// The log.
    pub log: LogId,
    /// Where to begin.
    pub from: Offset,
    /// Where to end (exclusive).
    pub to: Offset,
    /// Only these offsets, ascending, all within `from..to`; none: every one.
    pub only: Option<Vec<Offset>>,
    /// Give back only messages for which this holds.
    pub filter: Option<std::sync::Arc<Filter>>,
    /// Tell whose each message is ([`Meta::tenant`]).
    pub tenant_by: Option<TenantBy>,
    /// Most messages to give back; the reader may stop sooner (after 256 KiB, say), but looks at one at least.
    pub messages_max: usize,
    /// Where the batches with these offsets are, in order.
    pub spans: Vec<Span>,
}

/// A stretch of a log in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First offset.
    pub first: Offset,
    /// Last offset.
    pub last: Offset,
    /// In the journal: exactly one batch. In a settled file: the run of this log that begins at `first`.
    pub place: Place,
}

/// What a load is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To fill the window of a queue's lane or a subscription's source, in that generation of it.
    Window {
        /// The queue or subscription.
        entity: EntityId,
        /// The lane or source number.
        log: u16,
        /// Makes an answer void that comes after a seek or purge.
        generation: u32,
    },
    /// To find again messages that came back ([`Load::only`]).
    Returned {
        /// The queue or subscription.
        entity: EntityId,
        /// The log number of its tags.
        log: u16,
        /// Makes an answer void that comes after a seek.
        generation: u32,
    },
    /// One message is to be dead-lettered: its body is needed.
    DeadLetter {
        /// The queue or subscription.
        entity: EntityId,
        /// The message.
        tag: waystation_base::Tag,
    },
}

/// The answer to a [`Load`].
#[derive(Clone, Debug)]
pub struct Loaded {
    /// From the load.
    pub purpose: Purpose,
    /// What was found, in order of offset; with the message itself where the purpose needs its body.
    pub messages: Vec<(Meta, Option<waystation_base::Message>)>,
    /// Everything below this offset has been looked at: what is not in `messages` is not there, or not wanted.
    pub next: Offset,
    /// The stored bytes cannot be read: the text says where and why.
    pub damaged: Option<String>,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waystation_base::batch::Encoder;

    use super::*;

    const LOG: LogId = LogId { entity: EntityId(3), log: 1 };
    const PLACE: Place = Place::Journal(Position(77));

    fn meta(message: &Message) -> Meta {
        let (mut out, mut scratch) = (Vec::new(), batch::Scratch::default());
        let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(5), message.timestamp);
        let at = encoder.push(Offset(9), message);
        encoder.finish();
        Meta::of(LOG, PLACE, &Record::read(&out, at).expect("a record")).expect("a meta")
    }

    #[test]
    fn a_meta_says_what_the_record_says() {
        let plain = Message { timestamp: Millis(50), body: Bytes::from_static(b"x"), ..Message::default() };
        let of_plain = meta(&plain);
        assert_eq!((of_plain.log, of_plain.offset, of_plain.place), (LOG, Offset(9), PLACE));
        assert_eq!(
            (of_plain.timestamp, of_plain.expires_at, of_plain.key_hash),
            (Millis(50), Millis::NEVER, 0)
        );
        assert_eq!(of_plain.at as usize, batch::HEADER_BYTES);
        let full = Message {
            key: Some(Bytes::from_static(b"k")),
            expires_at: Some(Millis(90)),
            deliver_at: Some(Millis(70)),
            ..plain
        };
        let of_full = meta(&full);
        assert_eq!((of_full.timestamp, of_full.expires_at), (Millis(70), Millis(90)));
        assert_eq!(of_full.key_hash, key_hash(Some(b"k")));
        // Of the body alone.
        assert_eq!((of_plain.bytes, of_full.bytes), (1, 1));
    }

    #[test]
    fn only_no_key_hashes_to_zero() {
        assert_eq!(key_hash(None), 0);
        assert_ne!(key_hash(Some(b"")), 0);
    }
}
