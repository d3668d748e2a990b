//! What a fact is, and how it is written.
//!
//! ```text
//! kind u8 | time less the base, signed varint | client varint (0: nobody) | subscription varint (0: none) | by kind:
//!   1 published:  more u8 | id 16 bytes | bytes varint | step u8 | flags u8 (4: nothing took it, 8: and its sender was told) |
//!                 delay varint if flag 1 | life varint if flag 2 |
//!                 number of attributes u8 | (attribute u8 | text behind its length)* |
//!                 (bytes less those of the message before, signed varint)* for each of more
//!   2 handed:     attempt varint | held for varint (0: while attached)
//!   3 returned:   attempt varint | delay varint (0: ready at once) | step u8
//!   4 extended:   held for varint
//!   5 condemned:  reason u8 | attempt varint | error text behind its length
//!   6 done:       reason u8 | step u8
//!   7 failed:     error class behind its length | error text behind its length
//!   8 called:     status varint (0: no answer) | took varint | endpoint behind its length | error text behind its length
//! ```
//! One fact may tell that several messages were published (see [`Alike`]): those at the offsets that follow, with the ids that follow, of
//! which all else is the same but for their bytes.
//!
//! Clients are numbers in a table of the file or memory that holds the fact.

use std::ops::Range;

use smol_str::SmolStr;
use waystation_base::{
    Attempt, EntityId, MessageId, Millis, Offset,
    text::cut,
    varint::{put, put_prefixed, put_signed, take, take_bytes, take_prefixed, take_signed},
};
use waystation_broker::{
    entry::{Reason, Step},
    place::LogId,
};

use crate::alike::{self, Alike};

/// Bytes of one attribute that are kept.
pub const ATTRIBUTE_BYTES_MAX: usize = 256;
/// Attributes of one message that are kept.
pub const ATTRIBUTES_MAX: usize = 32;
/// Bytes of a consumer's error text that are kept.
pub const ERROR_BYTES_MAX: usize = 1024;

/// One message in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The log.
    pub log: LogId,
    /// Its offset.
    pub offset: Offset,
}

impl Place {
    /// Orders by queue or topic, then log, then offset.
    pub fn key(self) -> u128 {
        u128::from(self.log.entity.0) << 80 | u128::from(self.log.log) << 64 | u128::from(self.offset.0)
    }

    /// The place in the same log that comes `steps` later.
    pub fn after(self, steps: u64) -> Place {
        Place { offset: Offset(self.offset.0.saturating_add(steps)), ..self }
    }

    /// The place in the same log that comes `steps` earlier, or the first.
    pub(crate) fn before(self, steps: u64) -> Place {
        Place { offset: Offset(self.offset.0.saturating_sub(steps)), ..self }
    }

    /// The place of a key.
    pub fn of_key(key: u128) -> Place {
        let log = LogId { entity: EntityId((key >> 80) as u32), log: (key >> 64) as u16 };
        Place { log, offset: Offset(key as u64) }
    }
}

/// What is told of a message beside its id. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Attribute {
    /// The sender's own id.
    MessageId = 1,
    /// The id of the message or call that it came from.
    Cause = 2,
    /// What ties it to others.
    CorrelationId = 3,
    /// The W3C trace context.
    Traceparent = 4,
    /// The route that it was published to.
    Route = 5,
    /// Under which key.
    RoutingKey = 6,
    /// Where replies go.
    ReplyTo = 7,
    /// What kind of message it is, in the sender's words.
    Type = 8,
    /// The route with steps that made it.
    StepRoute = 9,
    /// Why it was dead-lettered last.
    DeathReason = 10,
    /// Where it was dead-lettered last.
    DeathSource = 11,
    /// The redrive that brought it here.
    Redrive = 12,
    /// The operation that it calls.
    Operation = 13,
    /// Where a callback goes.
    CallbackUrl = 14,
    /// A call that it answers.
    Call = 15,
    /// A business key: `name=value`.
    Business = 16,
}

impl Attribute {
    const ALL: [Attribute; 16] = {
        use Attribute::*;
        [
            MessageId,
            Cause,
            CorrelationId,
            Traceparent,
            Route,
            RoutingKey,
            ReplyTo,
            Type,
            StepRoute,
            DeathReason,
            DeathSource,
            Redrive,
            Operation,
            CallbackUrl,
            Call,
            Business,
        ]
    };

    fn from_stored(number: u8) -> Option<Attribute> {
        Attribute::ALL.into_iter().find(|attribute| *attribute as u8 == number)
    }
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It was stored.
    #[default]
    Stored,
    /// Nothing took it, and its sender did not ask.
    Dropped,
    /// Nothing took it, and its sender was told so.
    Told,
}

impl Fate {
    fn flags(self) -> u8 {
        match self {
            Fate::Stored => 0,
            Fate::Dropped => 4,
            Fate::Told => 12,
        }
    }

    fn of_flags(flags: u8) -> Fate {
        match (flags & 4 != 0, flags & 8 != 0) {
            (false, _) => Fate::Stored,
            (true, false) => Fate::Dropped,
            (true, true) => Fate::Told,
        }
    }
}

/// A message was published: stored, unless nothing took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Waystation's id for it.
    pub id: MessageId,
    /// Bytes of its body.
    pub bytes: u32,
    /// What made the broker store it.
    pub step: Step,
    /// Whether it was stored.
    pub fate: Fate,
    /// Milliseconds until it may be delivered.
    pub delay_ms: Option<u64>,
    /// Milliseconds until it expires.
    pub life_ms: Option<u64>,
    /// What else is told.
    pub attributes: Vec<(Attribute, SmolStr)>,
}

impl Published {
    /// The first attribute of a kind.
    pub fn attribute(&self, kind: Attribute) -> Option<&str> {
        self.attributes.iter().find(|(have, _)| *have == kind).map(|(_, text)| text.as_str())
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was stored.
    Published(Published),
    /// It was handed to a consumer.
    Handed {
        /// How often so far.
        attempt: Attempt,
        /// Milliseconds of the lease; 0: while the consumer is attached.
        held_ms: u64,
    },
    /// It came back.
    Returned {
        /// Attempts that count so far.
        attempt: Attempt,
        /// Milliseconds until it is tried again; 0: at once.
        delay_ms: u64,
        /// Why: asked for, the lease was over, the consumer was gone, a restart.
        step: Step,
    },
    /// The lease was prolonged.
    Extended {
        /// Milliseconds from now.
        held_ms: u64,
    },
    /// It is to go to the dead letters.
    Condemned {
        /// Why.
        reason: Reason,
        /// How often it had been handed out.
        attempt: Attempt,
        /// The consumer's words.
        error: Option<String>,
    },
    /// A consumer said what went wrong; what becomes of the message follows.
    Failed {
        /// Which kind of error.
        class: Option<String>,
        /// The error.
        error: Option<String>,
    },
    /// It was sent to somebody's endpoint by a request; what becomes of it follows. The time is that at which the request began.
    Called {
        /// The endpoint.
        to: String,
        /// How it was answered; none: it was not.
        status: Option<u16>,
        /// Milliseconds until the answer, or until it was given up.
        took_ms: u64,
        /// What went wrong.
        error: Option<String>,
    },
    /// It is done here.
    Done {
        /// How.
        reason: Reason,
        /// In which step.
        step: Step,
    },
}

/// One thing that happened to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// When.
    pub at: Millis,
    /// On whose behalf, by its number; 0: nobody's.
    pub client: u32,
    /// To which subscription's copy; none: to the message in its queue or topic.
    pub subscription: Option<EntityId>,
    /// What.
    pub what: What,
}

impl Fact {
    /// Appends the fact; its time is counted from `base`.
    pub fn put(&self, out: &mut Vec<u8>, base: Millis) {
        let mut head = |kind: u8| put_head(out, kind, (self.at, base), self.client, self.subscription);
        match &self.what {
            What::Published(published) => {
                head(1);
                put_published(out, published);
            }
            What::Handed { attempt, held_ms } => {
                head(2);
                put(out, attempt.0.into());
                put(out, *held_ms);
            }
            What::Returned { attempt, delay_ms, step } => {
                head(3);
                put(out, attempt.0.into());
                put(out, *delay_ms);
                out.push(*step as u8);
            }
            What::Extended { held_ms } => {
                head(4);
                put(out, *held_ms);
            }
            What::Condemned { reason, attempt, error } => {
                head(5);
                out.push(*reason as u8);
                put(out, attempt.0.into());
                let error = cut(error.as_deref().unwrap_or_default(), ERROR_BYTES_MAX);
                put_prefixed(out, error.as_bytes());
            }
            What::Failed { class, error } => {
                head(7);
                let class = cut(class.as_deref().unwrap_or_default(), ATTRIBUTE_BYTES_MAX);
                let error = cut(error.as_deref().unwrap_or_default(), ERROR_BYTES_MAX);
                [class, error].into_iter().for_each(|text| put_prefixed(out, text.as_bytes()));
            }
            What::Called { to, status, took_ms, error } => {
                head(8);
                put(out, status.unwrap_or(0).into());
                put(out, *took_ms);
                let error = cut(error.as_deref().unwrap_or_default(), ERROR_BYTES_MAX);
                [cut(to, ATTRIBUTE_BYTES_MAX), error]
                    .into_iter()
                    .for_each(|text| put_prefixed(out, text.as_bytes()));
            }
            What::Done { reason, step } => {
                head(6);
                out.extend_from_slice(&[*reason as u8, *step as u8]);
            }
        }
    }

    /// Takes a fact off the front of `input`, with those that are told with it; nothing if it is none.
    pub fn take<'a>(input: &mut &'a [u8], base: Millis) -> Option<Alike<'a>> {
        let kind = byte(input)?;
        let at = Millis(base.0.wrapping_add_signed(take_signed(input).ok()?));
        let client = number(input)?;
        let subscription = Some(EntityId(number(input)?)).filter(|id| id.0 != 0);
        let mut bytes = &[][..];
        let what = match kind {
            1 => {
                let published;
                (published, bytes) = take_published(input)?;
                What::Published(published)
            }
            2 => What::Handed { attempt: Attempt(number(input)?), held_ms: take(input).ok()? },
            3 => What::Returned {
                attempt: Attempt(number(input)?),
                delay_ms: take(input).ok()?,
                step: step(input)?,
            },
            4 => What::Extended { held_ms: take(input).ok()? },
            5 => What::Condemned {
                reason: reason(input)?,
                attempt: Attempt(number(input)?),
                error: optional(input)?,
            },
            6 => What::Done { reason: reason(input)?, step: step(input)? },
            8 => {
                let status = Some(number(input)?).filter(|status| *status != 0);
                let status = status.map(u16::try_from).transpose().ok()?;
                let took_ms = take(input).ok()?;
                What::Called { status, took_ms, to: text(input)?.to_owned(), error: optional(input)? }
            }
            7 => What::Failed { class: optional(input)?, error: optional(input)? },
            _ => return None,
        };
        Some(Alike::new(Fact { at, client, subscription, what }, bytes))
    }
}

fn put_head(out: &mut Vec<u8>, kind: u8, at: (Millis, Millis), client: u32, subscription: Option<EntityId>) {
    let (at, base) = at;
    out.push(kind);
    put_signed(out, at.0.wrapping_sub(base.0) as i64);
    put(out, client.into());
    put(out, subscription.map_or(0, |id| id.0.into()));
}

fn put_published(out: &mut Vec<u8>, published: &Published) {
    let Published { id, bytes, step, fate, delay_ms, life_ms, attributes } = published;
    let message = (*id, *bytes, *step, *fate);
    let mut writer = PublishedWriter::begin(out, message, [*delay_ms, *life_ms]);
    for (attribute, text) in attributes {
        let _: bool = writer.attribute(*attribute, text);
    }
}

/// Writes that a message was stored without gathering it first: one of these is written for each message that comes.
pub(crate) struct PublishedWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the number of messages stands that are told with it.
    more_at: usize,
    /// Where the number of attributes stands.
    count_at: usize,
}

impl<'a> PublishedWriter<'a> {
    /// Appends a whole fact but for its attributes: that a client stored the message at a time, which is counted from a base.
    pub(crate) fn of_fact(
        out: &'a mut Vec<u8>,
        at: (Millis, Millis),
        client: u32,
        message: (MessageId, u32, Step, Fate),
        ms: [Option<u64>; 2],
    ) -> PublishedWriter<'a> {
        put_head(out, 1, at, client, None);
        PublishedWriter::begin(out, message, ms)
    }

    /// `ms`: until it may be delivered, and until it expires.
    fn begin(
        out: &'a mut Vec<u8>,
        message: (MessageId, u32, Step, Fate),
        ms: [Option<u64>; 2],
    ) -> PublishedWriter<'a> {
        let (id, bytes, step, fate) = message;
        let more_at = out.len();
        out.push(0);
        out.extend_from_slice(id.as_bytes());
        put(out, bytes.into());
        out.push(step as u8);
        out.push(u8::from(ms[0].is_some()) | u8::from(ms[1].is_some()) << 1 | fate.flags());
        ms.into_iter().flatten().for_each(|ms| put(out, ms));
        out.push(0);
        PublishedWriter { more_at, count_at: out.len() - 1, out }
    }

    /// Adds an attribute; one past [`ATTRIBUTES_MAX`] is left out. Says whether it is kept.
    pub(crate) fn attribute(&mut self, attribute: Attribute, text: &str) -> bool {
        let count = self.out[self.count_at];
        if usize::from(count) == ATTRIBUTES_MAX {
            return false;
        }
        self.out[self.count_at] = count + 1;
        self.out.push(attribute as u8);
        put_prefixed(self.out, cut(text, ATTRIBUTE_BYTES_MAX).as_bytes());
        true
    }

    /// Where in the memory that is written to the number of messages stands that are told with it.
    pub(crate) fn more_at(&self) -> usize {
        self.more_at
    }

    /// Where in the memory that is written to the attributes are.
    pub(crate) fn attributes(&self) -> Range<usize> {
        self.count_at..self.out.len()
    }

    /// Gives the message, which has no attributes yet, those of one before, by where they are.
    pub(crate) fn repeat(self, attributes: Range<usize>) {
        self.out.truncate(self.count_at);
        self.out.extend_from_within(attributes);
    }
}

/// The id of the message whose storing a fact tells of, if it tells of one, and how many more it tells of: without reading the rest.
pub(crate) fn published_id(mut fact: &[u8]) -> Option<(MessageId, u8)> {
    let input = &mut fact;
    if byte(input)? != 1 {
        return None;
    }
    take_signed(input).ok()?;
    let (_client, _subscription) = (number(input)?, number(input)?);
    let more = byte(input)?;
    Some((MessageId::from_bytes(take_bytes(input, 16).ok()?.try_into().ok()?), more))
}

/// A message, and the bytes of those that are told with it as they stand there.
fn take_published<'a>(input: &mut &'a [u8]) -> Option<(Published, &'a [u8])> {
    let more = byte(input)?;
    let id = MessageId::from_bytes(take_bytes(input, 16).ok()?.try_into().ok()?);
    let bytes = number(input)?;
    let step = step(input)?;
    let flags = byte(input)?;
    let mut ms = |flag| match flags & flag != 0 {
        true => take(input).ok().map(Some),
        false => Some(None),
    };
    let (delay_ms, life_ms) = (ms(1)?, ms(2)?);
    let count = byte(input)?;
    if usize::from(count) > ATTRIBUTES_MAX {
        return None;
    }
    let attribute = |_| Some((Attribute::from_stored(byte(input)?)?, SmolStr::new(text(input)?)));
    let attributes = (0..count).map(attribute).collect::<Option<_>>()?;
    let fate = Fate::of_flags(flags);
    let sizes = alike::take_sizes(input, id, bytes, more)?;
    Some((Published { id, bytes, step, fate, delay_ms, life_ms, attributes }, sizes))
}

pub(crate) fn byte(input: &mut &[u8]) -> Option<u8> {
    take_bytes(input, 1).ok().map(|bytes| bytes[0])
}

pub(crate) fn number(input: &mut &[u8]) -> Option<u32> {
    take(input).ok()?.try_into().ok()
}

fn step(input: &mut &[u8]) -> Option<Step> {
    Step::from_stored(byte(input)?)
}

fn reason(input: &mut &[u8]) -> Option<Reason> {
    Reason::from_stored(byte(input)?)
}

fn text<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_prefixed(input).ok()?).ok()
}

/// A text; none if it is empty.
fn optional(input: &mut &[u8]) -> Option<Option<String>> {
    Some(Some(text(input)?.to_owned()).filter(|text| !text.is_empty()))
}

#[cfg(test)]
#[path = "fact_tests.rs"]
mod tests;
