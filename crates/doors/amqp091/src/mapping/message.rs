//! What does a published message become? Its properties, exchange, key and body as a message of Waystation's.
//!
//! This is the hot path: the properties are read straight from the frame, headers are pushed once and in wire order.

use bytes::Bytes;
use smallvec::SmallVec;
use smol_str::{SmolStr, format_smolstr};
use waystation_base::{
    Message, MessageId, Millis,
    limits::DELAY_MS_MAX,
    message::{Headers, header},
    value::Value,
};

use super::{
    Invalid,
    header::{APP_ID, BCC, CLUSTER_ID, ESCAPED, FLAGS, TIMESTAMP},
    types::type_name,
};
use crate::wire::{Flags, Reader, Table, Text};

/// A message on its way in.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// What is stored.
    pub message: Message,
    /// Further routing keys: what `CC` and `BCC` said.
    pub copies: SmallVec<[SmolStr; 1]>,
    /// Which properties it had.
    pub flags: Flags,
}

/// Headers that every message from this door has: flags, route, routing key.
const OWN_HEADERS: usize = 3;

/// Reads a message. `properties` are flags and properties as sent; `route` is Waystation's name of the exchange, empty for the
/// default exchange; `key` is the routing key as sent, or to the default exchange Waystation's name of the queue.
pub fn read_message(
    properties: &[u8],
    route: SmolStr,
    key: SmolStr,
    body: Bytes,
    id: MessageId,
    now: Millis,
) -> Result<Incoming, Invalid> {
    let mut reader = Reader::new(properties);
    let flags = Flags::read(&mut reader)?;
    let mut headers = Vec::with_capacity(OWN_HEADERS + flags.0.count_ones() as usize);
    headers.push((SmolStr::new_static(FLAGS), Value::U32(flags.0.into())));
    headers.push((SmolStr::new_static(header::ROUTE), Value::String(route)));
    headers.push((SmolStr::new_static(header::ROUTING_KEY), Value::String(key)));
    let mut incoming = Incoming { message: Message::new(id, now, body), copies: SmallVec::new(), flags };
    if flags.0 != 0 {
        read_properties(&mut reader, flags, &mut headers, &mut incoming)?;
    }
    reader.finish()?;
    incoming.message.headers = Headers(headers);
    Ok(incoming)
}

/// Reads the properties in the order of their flags.
fn read_properties(
    reader: &mut Reader<'_>,
    flags: Flags,
    headers: &mut Vec<(SmolStr, Value)>,
    incoming: &mut Incoming,
) -> Result<(), Invalid> {
    let message = &mut incoming.message;
    let text = |reader: &mut Reader<'_>, headers: &mut Vec<_>, flag, name| -> Result<(), Invalid> {
        if flags.has(flag) {
            headers.push((SmolStr::new_static(name), text_value(reader.short_bytes()?)));
        }
        Ok(())
    };
    text(reader, headers, Flags::CONTENT_TYPE, header::CONTENT_TYPE)?;
    text(reader, headers, Flags::CONTENT_ENCODING, header::CONTENT_ENCODING)?;
    if flags.has(Flags::HEADERS) {
        read_table(reader, headers, &mut incoming.copies)?;
    }
    if flags.has(Flags::DELIVERY_MODE) {
        headers[0].1 = Value::U32(u32::from(flags.0) | u32::from(reader.u8()?) << 16);
    }
    if flags.has(Flags::PRIORITY) {
        message.priority = reader.u8()?;
    }
    text(reader, headers, Flags::CORRELATION_ID, header::CORRELATION_ID)?;
    text(reader, headers, Flags::REPLY_TO, header::REPLY_TO)?;
    if flags.has(Flags::EXPIRATION) {
        let bytes = reader.short_bytes()?;
        message.expires_at = Some(message.timestamp.plus(expiration_ms(bytes)?));
        headers.push((SmolStr::new_static(header::EXPIRATION), text_value(bytes)));
    }
    text(reader, headers, Flags::MESSAGE_ID, header::MESSAGE_ID)?;
    if flags.has(Flags::TIMESTAMP) {
        let seconds = reader.u64()?;
        if seconds <= SECONDS_MAX {
            message.timestamp = Millis(seconds * 1000);
        } else {
            headers.push((SmolStr::new_static(TIMESTAMP), Value::U64(seconds)));
        }
    }
    text(reader, headers, Flags::KIND, header::TYPE)?;
    text(reader, headers, Flags::USER_ID, header::USER_ID)?;
    text(reader, headers, Flags::APP_ID, APP_ID)?;
    text(reader, headers, Flags::CLUSTER_ID, CLUSTER_ID)
}

/// The largest timestamp in seconds that is a moment in milliseconds as batches hold it.
const SECONDS_MAX: u64 = i64::MAX as u64 / 1000;

#[inline]
fn text_value(bytes: &[u8]) -> Value {
    match Text::new(bytes) {
        Text::Utf8(text) => Value::String(text),
        Text::Raw(bytes) => Value::RawText(bytes),
    }
}

/// Reads the headers table entry by entry. `BCC` is taken out; `CC` stays and is noted.
fn read_table(
    reader: &mut Reader<'_>,
    headers: &mut Vec<(SmolStr, Value)>,
    copies: &mut SmallVec<[SmolStr; 1]>,
) -> Result<(), Invalid> {
    let mut wrong = None;
    Table::read_entries(reader, |name, value| {
        if name == header::CC || name == BCC {
            wrong = add_copies(name, &value, copies).err().or(wrong.take());
            if name == BCC {
                return;
            }
        }
        headers.push((stored_name(name), value));
    })?;
    wrong.map_or(Ok(()), Err)
}

/// The name under which an entry of the headers table is stored.
#[inline]
fn stored_name(name: &str) -> SmolStr {
    match name.is_empty() || header::is_escaped(name) {
        true => format_smolstr!("{ESCAPED}{name}"),
        false => SmolStr::new(name),
    }
}

fn add_copies(name: &str, value: &Value, copies: &mut SmallVec<[SmolStr; 1]>) -> Result<(), Invalid> {
    let wrong = |value: &Value| {
        let text =
            format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}", type_name(value));
        Invalid::precondition(text)
    };
    let Value::List(keys) = value else {
        return Err(wrong(value));
    };
    for key in keys {
        let Value::String(key) = key else {
            return Err(wrong(key));
        };
        copies.push(key.clone());
    }
    Ok(())
}

/// The milliseconds that an `expiration` says.
fn expiration_ms(bytes: &[u8]) -> Result<u64, Invalid> {
    let text = String::from_utf8_lossy(bytes);
    let refused = |why: String| Invalid::precondition(format!("invalid expiration '{text}': {why}"));
    let digits_at = usize::from(text.starts_with(['-', '+']));
    let digits_end =
        text[digits_at..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |at| at + digits_at);
    if digits_end == digits_at {
        return Err(refused("no_integer".into()));
    }
    if digits_end < text.len() {
        return Err(refused(format!("{{leftover_string,\"{}\"}}", &text[digits_end..])));
    }
    let number = text.trim_start_matches('+');
    match number.parse::<i128>() {
        Ok(ms @ 0..) if ms <= i128::from(DELAY_MS_MAX) => Ok(ms as u64),
        Ok(..0) => Err(refused(format!("{{value_negative,{number}}}"))),
        _ => Err(refused(format!("{{value_too_large,{number}}}"))),
    }
}
