//! Facts behind one another, as they stand in the blocks of a record file.

use waystation_base::{
    EntityId, Millis, Offset,
    varint::{self, put, take},
};
use waystation_broker::place::LogId;

use crate::{
    alike::Alike,
    fact::{Fact, Place, number},
};

/// Facts of a block, each with its key: those that are told as one with the key of their first. The first key stands outside.
///
/// ```text
/// (key less the one before varint: 0 for the same, 1 for another log followed by entity, log and offset, else offset less the
/// one before plus 1 | fact)*
/// ```
pub struct Block<'a> {
    rest: &'a [u8],
    place: Place,
    base: Millis,
    failed: bool,
}

/// Appends a fact's key, given the one before.
pub fn put_key(out: &mut Vec<u8>, before: Place, place: Place) {
    if before.log == place.log && place.offset >= before.offset {
        let step = place.offset.0 - before.offset.0;
        return put(out, if step == 0 { 0 } else { step.saturating_add(1) });
    }
    put(out, 1);
    put(out, place.log.entity.0.into());
    put(out, place.log.log.into());
    put(out, place.offset.0);
}

impl<'a> Block<'a> {
    /// The facts of a block whose first one is at `first`.
    pub fn new(first: Place, bytes: &'a [u8], base: Millis) -> Block<'a> {
        Block { rest: bytes, place: first, base, failed: false }
    }

    fn step(&mut self) -> Option<(Place, Alike<'a>)> {
        let input = &mut self.rest;
        match take(input).ok()? {
            0 => {}
            1 => {
                let log = LogId { entity: EntityId(number(input)?), log: take(input).ok()?.try_into().ok()? };
                self.place = Place { log, offset: Offset(take(input).ok()?) };
            }
            step => self.place.offset = Offset(self.place.offset.0.checked_add(step - 1)?),
        }
        Some((self.place, Fact::take(input, self.base)?))
    }
}

impl Block<'_> {
    /// What is told of one message, up to what cannot be read.
    pub(crate) fn of(self, place: Place) -> impl Iterator<Item = Fact> {
        let near = self.map_while(Result::ok).take_while(move |(at, _)| *at <= place);
        near.filter_map(move |(at, mut alike)| {
            let steps = place.offset.0.checked_sub(at.offset.0).filter(|_| at.log == place.log)?;
            alike.nth(usize::try_from(steps).ok()?)
        })
    }
}

impl<'a> Iterator for Block<'a> {
    type Item = Result<(Place, Alike<'a>), varint::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.failed {
            return None;
        }
        let next = self.step();
        self.failed = next.is_none();
        Some(next.ok_or(varint::Error::Truncated))
    }
}
