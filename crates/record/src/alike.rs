//! Messages that are told of by one fact: what comes in one batch from one sender mostly differs in the bodies alone.
//!
//! They are at offsets that follow on one another, with ids that do so in their last byte (as doors give them; so there are 255 more at most), and nothing that is
//! told of them differs but the bytes of their bodies.

use waystation_base::{
    MessageId, Millis, Offset,
    batch::{Record, System},
    varint::{put_signed, take_signed},
};

use crate::fact::{Fact, Published, What};

/// The id that comes `steps` after another one; none if their last byte is full before.
pub(crate) fn after(id: MessageId, steps: u8) -> Option<MessageId> {
    let mut bytes = *id.as_bytes();
    bytes[15] = bytes[15].checked_add(steps)?;
    Some(MessageId::from_bytes(bytes))
}

/// The ids of a message, and of `more` that are told of with it.
pub(crate) fn ids(first: MessageId, more: u8) -> impl DoubleEndedIterator<Item = (u8, MessageId)> {
    (0..=more).filter_map(move |steps| Some((steps, after(first, steps)?)))
}

/// A fact, and those that are told with it: each is about the next offset.
#[derive(Clone, Debug)]
pub struct Alike<'a> {
    fact: Option<Fact>,
    /// The bytes of the messages that are left, each less those of the one before.
    sizes: &'a [u8],
}

impl<'a> Alike<'a> {
    /// `sizes` were taken by [`take_sizes`].
    pub(crate) fn new(fact: Fact, sizes: &'a [u8]) -> Alike<'a> {
        Alike { fact: Some(fact), sizes }
    }

    /// The message that the first fact which is left tells of, if it tells that one was published.
    pub(crate) fn published(&self) -> Option<&Published> {
        match &self.fact.as_ref()?.what {
            What::Published(published) => Some(published),
            _ => None,
        }
    }

    /// The ids of the messages that are told of.
    pub(crate) fn ids(&self) -> impl Iterator<Item = MessageId> {
        // Each of the sizes ends with a byte below 128, and no other is.
        let more = self.sizes.iter().filter(|byte| **byte < 128).count() as u8;
        self.published().into_iter().flat_map(move |first| ids(first.id, more)).map(|(_, id)| id)
    }

    /// Passes over the first that is left.
    fn advance(&mut self) {
        let Some(Fact { what: What::Published(published), .. }) =
            self.fact.as_mut().filter(|_| !self.sizes.is_empty())
        else {
            self.fact = None;
            return;
        };
        match (after(published.id, 1), step(published.bytes, &mut self.sizes)) {
            (Some(id), Some(bytes)) => (published.id, published.bytes) = (id, bytes),
            _ => self.fact = None,
        }
    }
}

impl Iterator for Alike<'_> {
    type Item = Fact;

    fn next(&mut self) -> Option<Fact> {
        if self.sizes.is_empty() {
            return self.fact.take();
        }
        let fact = self.fact.clone();
        self.advance();
        fact
    }

    fn nth(&mut self, steps: usize) -> Option<Fact> {
        for _ in 0..steps {
            self.fact.as_ref()?;
            self.advance();
        }
        self.next()
    }
}

/// The bytes of the next message.
fn step(bytes: u32, sizes: &mut &[u8]) -> Option<u32> {
    bytes.checked_add_signed(take_signed(sizes).ok()?.try_into().ok()?)
}

/// Takes what stands of messages that are told with one of this id and so many bytes; nothing if it cannot be.
pub(crate) fn take_sizes<'a>(
    input: &mut &'a [u8],
    id: MessageId,
    mut bytes: u32,
    more: u8,
) -> Option<&'a [u8]> {
    after(id, more)?;
    let before = *input;
    for _ in 0..more {
        bytes = step(bytes, input)?;
    }
    Some(&before[..before.len() - input.len()])
}

/// The fact that was written last, where a further message may be told with it.
#[derive(Debug)]
pub(crate) struct Open {
    /// The offset and id that the next message must have.
    next: (Offset, MessageId),
    due: [Option<Millis>; 2],
    bytes: u32,
    /// Where the number of further messages stands.
    more_at: usize,
}

impl Open {
    /// None if no id follows.
    pub(crate) fn at(more_at: usize, record: &Record<'_>, system: &System) -> Option<Open> {
        let next = (record.offset.next(), after(system.id, 1)?);
        let due = [system.deliver_at, system.expires_at];
        Some(Open { next, due, bytes: record.body_bytes() as u32, more_at })
    }

    /// Whether a message, of which all else is the same, may be told with it.
    #[inline]
    pub(crate) fn takes(&self, record: &Record<'_>, system: &System) -> bool {
        self.next == (record.offset, system.id) && self.due == [system.deliver_at, system.expires_at]
    }

    /// Tells of one more message, at the end of `out`; gives what the next one must be, if there may be one.
    #[inline]
    pub(crate) fn add(self, out: &mut Vec<u8>, record: &Record<'_>, system: &System) -> Option<Open> {
        let next = Open::at(self.more_at, record, system);
        // Ids that follow are fewer than would overflow it.
        out[self.more_at] += 1;
        put_signed(out, i64::from(record.body_bytes() as u32) - i64::from(self.bytes));
        next
    }
}

#[cfg(test)]
#[path = "alike_tests.rs"]
mod tests;
