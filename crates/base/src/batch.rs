//! How messages are stored: Kafka's record batch, message format version 2 (Kafka protocol guide, "Record Batch").
//!
//! ```text
//! batch, big-endian: base_offset i64 | batch_length i32 (of what follows) | leader_epoch i32 | magic i8 = 2 | crc u32 |
//!   attributes i16 | last_offset_delta i32 | base_timestamp i64 | max_timestamp i64 | producer_id i64 |
//!   producer_epoch i16 | base_sequence i32 | count i32 | records
//! record: length varint | attributes i8 | timestamp_delta varint | offset_delta varint | key_length varint | key |
//!   value_length varint | value | header_count varint | (name_length varint | name | value_length varint | value)*
//! ```
//! The CRC-32C covers everything from `attributes` on. All varints are zigzag-coded.
//!
//! Our own messages carry one header named `ws` in front of the sender's, which holds what has no place in a record:
//!
//! ```text
//! flags u8 | id 16 bytes | priority u8 if flag 1 | expires_at varint if flag 2 | deliver_at varint if flag 4 |
//!   one type tag for each further header if flag 8 (without it all of them are text)
//! ```
//! A further header holds the plain form of its value ([`Value::put_plain`]), so that any reader of batches can read it.

use bytes::Bytes;
use smol_str::SmolStr;

use crate::{
    ids::{MessageId, Offset},
    limits::{BATCH_BYTES_MAX, HEADERS_MAX},
    message::{Headers, Message},
    time::Millis,
    value::{self, Value},
    varint,
};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// The name of our own header.
const SYSTEM_HEADER: &[u8] = b"ws";
const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
/// Bytes of base offset and length, which `batch_length` does not count.
const LENGTH_EXCLUDES: usize = 12;
const COMPRESSION_MASK: i16 = 7;
/// Bytes of a record from its attributes to its body, without the key.
const PREFIX_BYTES_MAX: usize = 1 + 4 * varint::BYTES_MAX;
const TEXT: u8 = 14;
/// The string type's tag must not change: batches without type tags rely on it.
const _: () = assert!(TEXT == 14);

/// Why bytes are not a record batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than the header or the length says.
    #[error("a record batch needs {need} bytes, {have} are there")]
    Truncated {
        /// What the batch needs.
        need: usize,
        /// What is there.
        have: usize,
    },
    /// A length below the header's or past [`BATCH_BYTES_MAX`].
    #[error("a record batch of length {0} is out of bounds")]
    Length(i32),
    /// Not message format 2.
    #[error("record batch format {0} is not supported, only 2")]
    Magic(i8),
    /// The checksum differs.
    #[error("record batch checksum differs: stored {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// Compressed records cannot be taken apart here.
    #[error("record batch compression {0} is not supported")]
    Compression(i16),
    /// A count or delta that cannot be.
    #[error("record batch field {0} is out of range")]
    Field(&'static str),
    /// A record's parts do not fit its length.
    #[error("record {index} is malformed: {error}")]
    Record {
        /// Its place in the batch.
        index: usize,
        /// What was wrong.
        error: varint::Error,
    },
    /// A header's stored value.
    #[error("record header is malformed: {0}")]
    Header(#[from] value::Error),
}

/// The fixed part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch.
    pub bytes: usize,
    /// Compression, timestamp type, transaction and control flags.
    pub attributes: i16,
    /// Offset of the last record less the base.
    pub last_offset_delta: u32,
    /// What record timestamps count from.
    pub base_timestamp: Millis,
    /// The latest record timestamp.
    pub max_timestamp: Millis,
    /// An idempotent producer's id, or -1.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Its sequence number of the first record.
    pub base_sequence: i32,
    /// Records in the batch.
    pub count: u32,
}

impl Header {
    /// Reads the fixed part and checks its fields and that all bytes are there; not the checksum.
    pub fn read(bytes: &[u8]) -> Result<Header, Error> {
        if bytes.len() < HEADER_BYTES {
            return Err(Error::Truncated { need: HEADER_BYTES, have: bytes.len() });
        }
        let length = i32::from_be_bytes(array(bytes, LENGTH_AT));
        let whole = usize::try_from(length).map_err(|_| Error::Length(length))? + LENGTH_EXCLUDES;
        if !(HEADER_BYTES..=BATCH_BYTES_MAX).contains(&whole) {
            return Err(Error::Length(length));
        }
        if bytes.len() < whole {
            return Err(Error::Truncated { need: whole, have: bytes.len() });
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(Error::Magic(magic));
        }
        let unsigned =
            |at, field| u32::try_from(i32::from_be_bytes(array(bytes, at))).map_err(|_| Error::Field(field));
        let millis = |at| Millis(i64::from_be_bytes(array(bytes, at)).max(0) as u64);
        let base = i64::from_be_bytes(array(bytes, 0));
        Ok(Header {
            base_offset: Offset(u64::try_from(base).map_err(|_| Error::Field("base offset"))?),
            bytes: whole,
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)),
            last_offset_delta: unsigned(23, "last offset delta")?,
            base_timestamp: millis(27),
            max_timestamp: millis(35),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            count: unsigned(57, "record count")?,
        })
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + u64::from(self.last_offset_delta))
    }
}

/// Checks the stored checksum of one whole batch.
pub fn check_crc(batch: &[u8]) -> Result<(), Error> {
    let stored = u32::from_be_bytes(array(batch, CRC_AT));
    let computed = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    if stored == computed { Ok(()) } else { Err(Error::Crc { stored, computed }) }
}

/// Writes another base offset and leader epoch, which the checksum leaves out.
pub fn rebase(batch: &mut [u8], base: Offset, leader_epoch: i32) {
    batch[..8].copy_from_slice(&base.0.to_be_bytes());
    batch[EPOCH_AT..EPOCH_AT + 4].copy_from_slice(&leader_epoch.to_be_bytes());
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("checked length")
}

/// Writes one batch behind what `out` holds.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    base_offset: Offset,
    base_timestamp: Millis,
    max_timestamp: Millis,
    last_offset: Offset,
    count: u32,
    scratch: &'a mut Scratch,
}

/// Memory that encoders use again.
#[derive(Debug, Default)]
pub struct Scratch {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Begins a batch whose first record will have `base_offset` or a later one.
    pub fn new(
        out: &'a mut Vec<u8>,
        scratch: &'a mut Scratch,
        base_offset: Offset,
        base_timestamp: Millis,
    ) -> Encoder<'a> {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        let max_timestamp = Millis(0);
        Encoder {
            out,
            start,
            base_offset,
            base_timestamp,
            max_timestamp,
            last_offset: base_offset,
            count: 0,
            scratch,
        }
    }

    /// Adds a message at `offset`, which must grow from call to call, and returns where in the batch its record begins.
    pub fn push(&mut self, offset: Offset, message: &Message) -> u32 {
        assert!(self.count == 0 || offset > self.last_offset, "offsets grow");
        let at = self.out.len() - self.start;
        let Scratch { prefix, suffix, value } = &mut *self.scratch;
        prefix.clear();
        suffix.clear();
        prefix.reserve(PREFIX_BYTES_MAX + message.key.as_ref().map_or(0, Bytes::len));
        prefix.push(0);
        varint::put_signed(prefix, message.timestamp.0.wrapping_sub(self.base_timestamp.0) as i64);
        varint::put_signed(prefix, (offset.0 - self.base_offset.0) as i64);
        match &message.key {
            None => varint::put_signed(prefix, -1),
            Some(key) => {
                varint::put_signed(prefix, key.len() as i64);
                prefix.extend_from_slice(key);
            }
        }
        varint::put_signed(prefix, message.body.len() as i64);
        put_headers(suffix, value, message);
        let length = prefix.len() + message.body.len() + suffix.len();
        self.out.reserve(varint::BYTES_MAX + length);
        varint::put_signed(self.out, length as i64);
        self.out.extend_from_slice(prefix);
        self.out.extend_from_slice(&message.body);
        self.out.extend_from_slice(suffix);
        self.advance(offset, message.timestamp);
        at as u32
    }

    /// Adds a record of another batch as it stands, at its own offset.
    pub fn push_record(&mut self, record: &Record<'_>) -> u32 {
        let at = self.out.len() - self.start;
        let mut prefix = vec![record.attributes];
        varint::put_signed(&mut prefix, record.timestamp.0.wrapping_sub(self.base_timestamp.0) as i64);
        varint::put_signed(&mut prefix, (record.offset.0 - self.base_offset.0) as i64);
        varint::put_signed(self.out, (prefix.len() + record.rest.len()) as i64);
        self.out.extend_from_slice(&prefix);
        self.out.extend_from_slice(record.rest);
        self.advance(record.offset, record.timestamp);
        at as u32
    }

    fn advance(&mut self, offset: Offset, timestamp: Millis) {
        self.last_offset = offset;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
    }

    /// Bytes so far, with the header.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Fills in the header and the checksum.
    pub fn finish(self) {
        let batch = &mut self.out[self.start..];
        let length = (batch.len() - LENGTH_EXCLUDES) as i32;
        batch[..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        batch[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        batch[23..27].copy_from_slice(&((self.last_offset.0 - self.base_offset.0) as i32).to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        batch[43..51].copy_from_slice(&(-1i64).to_be_bytes());
        batch[51..53].copy_from_slice(&(-1i16).to_be_bytes());
        batch[53..57].copy_from_slice(&(-1i32).to_be_bytes());
        batch[57..61].copy_from_slice(&(self.count as i32).to_be_bytes());
        let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
        batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    }
}

fn put_headers(out: &mut Vec<u8>, scratch: &mut Vec<u8>, message: &Message) {
    let headers = &message.headers.0;
    varint::put_signed(out, headers.len() as i64 + 1);
    put_prefixed(out, SYSTEM_HEADER);
    scratch.clear();
    put_system(scratch, message);
    put_prefixed(out, scratch);
    for (name, value) in headers {
        put_prefixed(out, name.as_bytes());
        match value {
            Value::String(text) => put_prefixed(out, text.as_bytes()),
            Value::Bytes(bytes) | Value::RawText(bytes) => put_prefixed(out, bytes),
            other => {
                scratch.clear();
                other.put_plain(scratch);
                put_prefixed(out, scratch);
            }
        }
    }
}

fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(varint::BYTES_MAX + bytes.len());
    varint::put_signed(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

fn put_system(out: &mut Vec<u8>, message: &Message) {
    let typed = message.headers.0.iter().any(|(_, value)| value.type_tag() != TEXT);
    let flags = u8::from(message.priority != 0)
        | u8::from(message.expires_at.is_some()) << 1
        | u8::from(message.deliver_at.is_some()) << 2
        | u8::from(typed) << 3;
    out.push(flags);
    out.extend_from_slice(message.id.as_bytes());
    if message.priority != 0 {
        out.push(message.priority);
    }
    for at in [message.expires_at, message.deliver_at].into_iter().flatten() {
        varint::put(out, at.0);
    }
    if typed {
        out.extend(message.headers.0.iter().map(|(_, value)| value.type_tag()));
    }
}

/// One record, taken apart as far as the queue needs it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where in the batch it begins.
    pub at: u32,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Millis,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone to compaction.
    pub value: Option<&'a [u8]>,
    /// Bytes of the whole record as stored.
    pub bytes: usize,
    attributes: u8,
    /// Key, value and headers as stored.
    rest: &'a [u8],
    headers: &'a [u8],
}

/// What the `ws` header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// The message's id; nil in a batch of another maker.
    pub id: MessageId,
    /// 0 if not said.
    pub priority: u8,
    /// When it is of no use any more.
    pub expires_at: Option<Millis>,
    /// Not to be delivered before.
    pub deliver_at: Option<Millis>,
}

impl<'a> Record<'a> {
    /// Reads the record that begins at byte `at` of a whole, uncompressed batch.
    pub fn read(batch: &'a [u8], at: u32) -> Result<Record<'a>, Error> {
        let header = Header::read(batch)?;
        let mut rest = batch.get(at as usize..header.bytes).ok_or(Error::Field("record place"))?;
        Record::take(&mut rest, &header, at, 0)
    }

    fn take(input: &mut &'a [u8], header: &Header, at: u32, index: usize) -> Result<Record<'a>, Error> {
        Record::take_parts(input, header, at).map_err(|error| Error::Record { index, error })
    }

    fn take_parts(input: &mut &'a [u8], header: &Header, at: u32) -> Result<Record<'a>, varint::Error> {
        let whole = input.len();
        let mut record = take_signed_prefixed(input)?.ok_or(varint::Error::Length)?;
        let bytes = whole - input.len();
        let attributes = varint::take_bytes(&mut record, 1)?[0];
        let timestamp = varint::take_signed(&mut record)?;
        let delta = varint::take_signed(&mut record)?;
        let delta = u32::try_from(delta)
            .ok()
            .filter(|d| *d <= header.last_offset_delta)
            .ok_or(varint::Error::Length)?;
        let rest = record;
        let key = take_signed_prefixed(&mut record)?;
        let value = take_signed_prefixed(&mut record)?;
        // Held within what a batch can store, so that a message keeps its time when it is stored anew.
        let timestamp = header.base_timestamp.0.saturating_add_signed(timestamp).min(i64::MAX as u64);
        let timestamp = Millis(timestamp);
        let offset = Offset(header.base_offset.0 + u64::from(delta));
        Ok(Record { at, offset, timestamp, key, value, bytes, attributes, rest, headers: record })
    }

    /// Bytes of the value: the same in whichever batch the record lies.
    pub fn body_bytes(&self) -> usize {
        self.value.map_or(0, <[u8]>::len)
    }

    /// What our own header says; nothing for a record of another maker. Reads no further than that header.
    pub fn system(&self) -> Result<System, Error> {
        Ok(self.headers()?.system)
    }

    /// The headers, our own taken apart.
    #[inline]
    pub fn headers(&self) -> Result<RecordHeaders<'a>, Error> {
        self.take_headers().map_err(malformed)
    }

    /// Their number is no larger than the bytes that hold them.
    #[inline]
    fn take_headers(&self) -> Result<RecordHeaders<'a>, varint::Error> {
        let mut rest = self.headers;
        let count = varint::take_signed(&mut rest)?;
        let left = usize::try_from(count).ok().filter(|n| *n <= rest.len()).ok_or(varint::Error::Length)?;
        let senders = rest;
        if left == 0 || take_signed_prefixed(&mut rest)? != Some(SYSTEM_HEADER) {
            let (system, types) = (System::default(), None);
            return Ok(RecordHeaders { system, types, senders: RawHeaders { left, rest: senders } });
        }
        let mut value = take_signed_prefixed(&mut rest)?.ok_or(varint::Error::Length)?;
        let flags = varint::take_bytes(&mut value, 1)?[0];
        let id = MessageId::from_bytes(array(varint::take_bytes(&mut value, 16)?, 0));
        let priority = if flags & 1 != 0 { varint::take_bytes(&mut value, 1)?[0] } else { 0 };
        let mut moment = |flag| (flags & flag != 0).then(|| varint::take(&mut value).map(Millis)).transpose();
        let expires_at = moment(2)?;
        let deliver_at = moment(4)?;
        let system = System { id, priority, expires_at, deliver_at };
        Ok(RecordHeaders { system, types: Some(value), senders: RawHeaders { left: left - 1, rest } })
    }

    /// The whole message. `batch` is the batch that this record was read from: key, body and bytes values share it.
    pub fn message(&self, batch: &Bytes) -> Result<Message, Error> {
        let RecordHeaders { system, types, senders } = self.headers()?;
        let mut headers = Vec::with_capacity(senders.left.min(HEADERS_MAX));
        for header in senders {
            let (name, value) = header.map_err(malformed)?;
            let tag = types.and_then(|types| types.get(headers.len()).copied());
            let value = header_value(batch, tag, types.is_some(), value)?;
            headers.push((SmolStr::new(String::from_utf8_lossy(name)), value));
        }
        Ok(Message {
            id: system.id,
            timestamp: self.timestamp,
            key: self.key.map(|key| batch.slice_ref(key)),
            body: self.value.map_or_else(Bytes::new, |body| batch.slice_ref(body)),
            priority: system.priority,
            expires_at: system.expires_at,
            deliver_at: system.deliver_at,
            headers: Headers(headers),
        })
    }
}

/// A record's headers, as they are stored.
#[derive(Clone, Copy, Debug)]
pub struct RecordHeaders<'a> {
    /// What our own header says.
    pub system: System,
    /// The types of the sender's values, as far as they are not all text; `None` in a record of another maker.
    types: Option<&'a [u8]>,
    senders: RawHeaders<'a>,
}

impl<'a> RecordHeaders<'a> {
    /// Whether the senders of both said the same, byte for byte.
    #[inline]
    pub fn says_same(&self, other: &RecordHeaders<'_>) -> bool {
        (self.senders.left, self.senders.rest, self.types)
            == (other.senders.left, other.senders.rest, other.types)
    }

    /// Gives `visit` each of the sender's headers as it is stored: its name, the plain form of its value, and the value's type, if
    /// it is not text.
    #[inline]
    pub fn visit(self, mut visit: impl FnMut(&'a [u8], &'a [u8], Option<u8>)) -> Result<(), Error> {
        let types = self.types.unwrap_or_default();
        for (index, header) in self.senders.enumerate() {
            let (name, value) = header.map_err(malformed)?;
            let tag = types.get(index).copied().filter(|tag| *tag != TEXT);
            if let Some(value) = value {
                visit(name, value, tag);
            }
        }
        Ok(())
    }
}

/// Walks over headers.
#[derive(Clone, Copy, Debug)]
struct RawHeaders<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for RawHeaders<'a> {
    type Item = RawHeader<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut pair = || {
            let name = take_signed_prefixed(&mut self.rest)?.ok_or(varint::Error::Length)?;
            Ok((name, take_signed_prefixed(&mut self.rest)?))
        };
        Some(pair())
    }
}

/// A header as stored: its name and its value.
type RawHeader<'a> = Result<(&'a [u8], Option<&'a [u8]>), varint::Error>;

fn malformed(error: varint::Error) -> Error {
    Error::Record { index: 0, error }
}

fn header_value(batch: &Bytes, tag: Option<u8>, ours: bool, value: Option<&[u8]>) -> Result<Value, Error> {
    let Some(value) = value else { return Ok(Value::Null) };
    match tag {
        Some(15) => Ok(Value::Bytes(batch.slice_ref(value))),
        Some(18) => Ok(Value::RawText(batch.slice_ref(value))),
        Some(tag) => Ok(Value::from_plain(tag, value)?),
        None if ours => Ok(Value::from_plain(TEXT, value)?),
        // Another maker's header has no type: text where it can be read as text.
        None => Ok(match std::str::from_utf8(value) {
            Ok(text) => Value::String(text.into()),
            Err(_) => Value::Bytes(batch.slice_ref(value)),
        }),
    }
}

#[inline]
fn take_signed_prefixed<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, varint::Error> {
    let length = varint::take_signed(input)?;
    if length == -1 {
        return Ok(None);
    }
    varint::take_bytes(input, usize::try_from(length).map_err(|_| varint::Error::Length)?).map(Some)
}

/// Walks over the records of one whole, uncompressed batch. Ends at the first malformed one, with its error.
pub fn records(batch: &[u8]) -> Result<impl Iterator<Item = Result<Record<'_>, Error>>, Error> {
    let header = Header::read(batch)?;
    let compression = header.attributes & COMPRESSION_MASK;
    if compression != 0 {
        return Err(Error::Compression(compression));
    }
    let mut rest = &batch[HEADER_BYTES..header.bytes];
    let mut index = 0;
    let mut failed = false;
    Ok(std::iter::from_fn(move || {
        if failed || index == header.count as usize {
            return None;
        }
        let at = (header.bytes - rest.len()) as u32;
        let record = Record::take(&mut rest, &header, at, index);
        failed = record.is_err();
        index += 1;
        Some(record)
    }))
}

#[cfg(test)]
mod tests;
