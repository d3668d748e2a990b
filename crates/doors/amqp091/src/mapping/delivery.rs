//! What does a stored message look like to an AMQP consumer: its exchange, its key and its properties?

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use smol_str::SmolStr;
use waystation_base::{Message, value::Value};

use super::{
    header::{Role, is_told, role, text},
    names::amqp_name,
    types::seconds,
};
use crate::wire::{Flags, Put, limits::SHORT_BYTES_MAX, sized, write_entry};

/// What a delivery adds to the message's own headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Earlier deliveries, for a quorum queue; none or 0: not said.
    pub delivery_count: Option<u32>,
    /// The offset in a stream.
    pub stream_offset: Option<u64>,
}

/// Delivery mode of what survives a restart.
const PERSISTENT: u8 = 2;

/// A message on its way out, looked through once.
#[derive(Debug)]
pub struct Outgoing<'a> {
    message: &'a Message,
    source: &'a str,
    extras: Extras,
    texts: [Option<&'a Value>; text::COUNT],
    /// Flags as sent and delivery mode, of a message that came through this door.
    flags: Option<u32>,
    route: &'a str,
    key: Option<&'a str>,
    timestamp: Option<u64>,
    /// Entries of the headers table besides `extras`.
    entries: usize,
    has_deaths: bool,
}

impl<'a> Outgoing<'a> {
    /// Looks through `message`; `source` is the name of the queue or topic that it is delivered from.
    pub fn new(message: &'a Message, source: &'a str, extras: Extras) -> Outgoing<'a> {
        let extras = Extras { delivery_count: extras.delivery_count.filter(|count| *count > 0), ..extras };
        let mut outgoing = Outgoing {
            message,
            source,
            extras,
            texts: [None; text::COUNT],
            flags: None,
            route: "",
            key: None,
            timestamp: None,
            entries: 0,
            has_deaths: false,
        };
        for (name, value) in &message.headers.0 {
            outgoing.note(name, value);
        }
        outgoing
    }

    #[inline]
    fn note(&mut self, name: &'a str, value: &'a Value) {
        match (role(name), value) {
            (Role::Flags, Value::U32(flags)) => self.flags = Some(*flags),
            (Role::Route, Value::String(route)) => self.route = route,
            (Role::RoutingKey, Value::String(key)) => self.key = Some(key),
            (Role::Timestamp, Value::U64(seconds)) => self.timestamp = Some(*seconds),
            (Role::Text(at), value) if self.texts[at].is_none() && fits(value) => {
                self.texts[at] = Some(value)
            }
            (Role::Flags | Role::Route | Role::RoutingKey | Role::Timestamp | Role::Hidden, _) => {}
            (Role::Deaths, _) => {
                self.has_deaths = true;
                self.entries += 1;
            }
            _ => self.entries += 1,
        }
    }

    /// The exchange that it was published to; empty for the default exchange.
    pub fn exchange(&self) -> Cow<'a, str> {
        amqp_name(self.route)
    }

    /// The routing key; of a message that never had one, the name of its queue. The default exchange's keys are names.
    pub fn routing_key(&self) -> Cow<'a, str> {
        match self.key {
            None => amqp_name(self.source),
            Some(key) if self.route.is_empty() => amqp_name(key),
            Some(key) => Cow::Borrowed(key),
        }
    }

    /// Writes flags and properties.
    pub fn write_properties(&self, out: &mut BytesMut) {
        let at = out.len();
        out.put_u16(0);
        let mut flags = Flags::default();
        let sent = self.flags.map_or(Flags::ALL, |flags| Flags(flags as u16));
        let text = |out: &mut BytesMut, flags: &mut Flags, flag, place: usize| {
            if let Some(value) = self.texts[place] {
                flags.add(flag);
                out.put_short_bytes(bytes_of(value));
            }
        };
        text(out, &mut flags, Flags::CONTENT_TYPE, text::CONTENT_TYPE);
        text(out, &mut flags, Flags::CONTENT_ENCODING, text::CONTENT_ENCODING);
        let extra = self.extras.delivery_count.is_some() || self.extras.stream_offset.is_some();
        if self.entries > 0 || extra || (self.flags.is_some() && sent.has(Flags::HEADERS)) {
            flags.add(Flags::HEADERS);
            sized(out, |out| self.write_entries(out));
        }
        if sent.has(Flags::DELIVERY_MODE) {
            flags.add(Flags::DELIVERY_MODE);
            out.put_u8(self.flags.map_or(PERSISTENT, |flags| (flags >> 16) as u8));
        }
        if self.has_priority(sent) {
            flags.add(Flags::PRIORITY);
            out.put_u8(self.message.priority);
        }
        text(out, &mut flags, Flags::CORRELATION_ID, text::CORRELATION_ID);
        text(out, &mut flags, Flags::REPLY_TO, text::REPLY_TO);
        self.write_expiration(out, &mut flags);
        text(out, &mut flags, Flags::MESSAGE_ID, text::MESSAGE_ID);
        if sent.has(Flags::TIMESTAMP) {
            flags.add(Flags::TIMESTAMP);
            out.put_u64(self.timestamp.unwrap_or(seconds(self.message.timestamp)));
        }
        text(out, &mut flags, Flags::KIND, text::KIND);
        text(out, &mut flags, Flags::USER_ID, text::USER_ID);
        text(out, &mut flags, Flags::APP_ID, text::APP_ID);
        text(out, &mut flags, Flags::CLUSTER_ID, text::CLUSTER_ID);
        out[at..at + 2].copy_from_slice(&flags.0.to_be_bytes());
    }

    /// A message from another door shows a priority only if it has one.
    fn has_priority(&self, sent: Flags) -> bool {
        sent.has(Flags::PRIORITY) && (self.flags.is_some() || self.message.priority > 0)
    }

    /// As its sender wrote it; of a message from another door, the time that it was given.
    fn write_expiration(&self, out: &mut BytesMut, flags: &mut Flags) {
        if let Some(value) = self.texts[text::EXPIRATION] {
            flags.add(Flags::EXPIRATION);
            out.put_short_bytes(bytes_of(value));
        } else if self.flags.is_none()
            && !self.has_deaths
            && let Some(at) = self.message.expires_at
        {
            flags.add(Flags::EXPIRATION);
            out.put_short_text(&at.0.saturating_sub(self.message.timestamp.0).to_string());
        }
    }

    fn write_entries(&self, out: &mut BytesMut) {
        for (name, value) in &self.message.headers.0 {
            self.write_header(name, value, out);
        }
        if let Some(count) = self.extras.delivery_count {
            write_entry(DELIVERY_COUNT, &Value::I64(count.into()), out);
        }
        if let Some(offset) = self.extras.stream_offset {
            write_entry(STREAM_OFFSET, &Value::I64(offset as i64), out);
        }
    }

    fn write_header(&self, name: &str, value: &Value, out: &mut BytesMut) {
        match role(name) {
            Role::Entry(shown) if !self.is_replaced(name, shown) => write_entry(shown, value, out),
            // A text that is no text, too long, or there twice cannot be a property.
            Role::Text(at) if !self.texts[at].is_some_and(|taken| std::ptr::eq(taken, value)) => {
                write_entry(name, value, out);
            }
            Role::Deaths => write_entry(DEATH, &in_amqp_words(value), out),
            Role::FirstQueue => write_entry(FIRST_DEATH_QUEUE, &in_amqp_name(value), out),
            Role::FirstExchange => write_entry(FIRST_DEATH_EXCHANGE, &in_amqp_name(value), out),
            Role::FirstReason => write_entry(FIRST_DEATH_REASON, &in_amqp_reason(value), out),
            _ => {}
        }
    }

    /// Whether the sender's own entry of that name gives way to ours.
    fn is_replaced(&self, stored: &str, name: &str) -> bool {
        match name {
            _ if is_told(name) => stored != name && self.message.headers.get(name).is_some(),
            DELIVERY_COUNT => self.extras.delivery_count.is_some(),
            STREAM_OFFSET => self.extras.stream_offset.is_some(),
            DEATH | FIRST_DEATH_QUEUE | FIRST_DEATH_REASON | FIRST_DEATH_EXCHANGE => self.has_deaths,
            _ => false,
        }
    }
}

const DELIVERY_COUNT: &str = "x-delivery-count";
const STREAM_OFFSET: &str = "x-stream-offset";
const DEATH: &str = "x-death";
const FIRST_DEATH_QUEUE: &str = "x-first-death-queue";
const FIRST_DEATH_REASON: &str = "x-first-death-reason";
const FIRST_DEATH_EXCHANGE: &str = "x-first-death-exchange";

/// Whether it can be a short string.
fn fits(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Bytes(_) | Value::RawText(_))
        && bytes_of(value).len() <= SHORT_BYTES_MAX
}

fn bytes_of(value: &Value) -> &[u8] {
    match value {
        Value::String(text) => text.as_bytes(),
        Value::Bytes(bytes) | Value::RawText(bytes) => bytes,
        _ => &[],
    }
}

/// The history with queues and exchanges as AMQP clients call them.
fn in_amqp_words(deaths: &Value) -> Value {
    let Value::List(deaths) = deaths else {
        return deaths.clone();
    };
    let death = |death: &Value| match death {
        Value::Map(fields) => Value::Map(fields.iter().map(|field| in_amqp_field(field, fields)).collect()),
        other => other.clone(),
    };
    Value::List(deaths.iter().map(death).collect())
}

fn in_amqp_field((name, value): &(SmolStr, Value), fields: &[(SmolStr, Value)]) -> (SmolStr, Value) {
    let by_name = |(name, value): &(SmolStr, Value)| name == "exchange" && value.as_str() == Some("");
    let value = match (name.as_str(), value) {
        ("queue" | "exchange", value) => in_amqp_name(value),
        ("routing-keys", Value::List(keys)) if fields.iter().any(by_name) => {
            Value::List(keys.iter().map(in_amqp_name).collect())
        }
        _ => value.clone(),
    };
    (name.clone(), value)
}

fn in_amqp_name(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.clone(), |name| Value::from(&*amqp_name(name)))
}

/// RabbitMQ's word for why a message was dead-lettered.
fn in_amqp_reason(value: &Value) -> Value {
    match value.as_str() {
        Some("max_length") => Value::from("maxlen"),
        Some("max_attempts" | "max_age") => Value::from("delivery_limit"),
        _ => value.clone(),
    }
}
