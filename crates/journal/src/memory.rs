//! A journal in memory: the model beside the real one, for tests of what stands above.

use std::ops::ControlFlow;

use bytes::Bytes;
use waystation_base::Position;

use crate::{
    contract::{AppendError, Epoch, Failure, Journal, ReadError, Visitor},
    group::Group,
    layout::frame::Frame,
};

/// Groups in a list. Nothing is durable, and everything is as durable as the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    groups: Vec<(Position, Bytes)>,
    start: Position,
    end: Position,
    synced: Position,
    epoch: Epoch,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> MemoryJournal {
        MemoryJournal::default()
    }

    fn trimmed_or(&self, position: Position, length: usize) -> ReadError {
        if position < self.start {
            return ReadError::Trimmed { position, start: self.start };
        }
        ReadError::OutOfRange { position, length, end: self.end }
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, expected: Position, epoch: Epoch, group: &mut Group) -> Result<(), AppendError> {
        check_append(expected, self.end, epoch, self.epoch, group)?;
        group.seal(self.synced, epoch, 0);
        self.groups.push((self.end, Bytes::copy_from_slice(group.frame())));
        self.end = group.end();
        self.epoch = epoch;
        Ok(())
    }

    fn sync(&mut self) -> Result<Position, Failure> {
        self.synced = self.end;
        Ok(self.end)
    }

    fn read(&self, position: Position, length: usize) -> Result<Bytes, ReadError> {
        if position < self.start {
            return Err(self.trimmed_or(position, length));
        }
        let at = self.groups.partition_point(|(start, _)| *start <= position);
        let found = at.checked_sub(1).and_then(|at| {
            let (start, bytes) = &self.groups[at];
            let from = (position.0 - start.0) as usize;
            let to = from.checked_add(length)?;
            (to <= bytes.len()).then(|| bytes.slice(from..to))
        });
        found.ok_or_else(|| self.trimmed_or(position, length))
    }

    fn scan(&self, from: Position, visitor: &mut Visitor<'_>) -> Result<Position, ReadError> {
        if from < self.start || from > self.end {
            return Err(self.trimmed_or(from, 0));
        }
        let first = self.groups.partition_point(|(start, _)| *start < from);
        for (start, bytes) in &self.groups[first..] {
            let frame = Frame::decode(bytes).expect("what was sealed is whole");
            for entry in frame.entries() {
                if visitor(entry.expect("what was sealed is whole")) == ControlFlow::Break(()) {
                    return Ok(Position(start.0 + bytes.len() as u64));
                }
            }
        }
        Ok(self.end)
    }

    fn trim(&mut self, before: Position) -> Result<(), Failure> {
        let gone = self.groups.partition_point(|(start, bytes)| start.0 + bytes.len() as u64 <= before.0);
        self.groups.drain(..gone);
        self.start = self.groups.first().map_or(self.end, |(start, _)| *start);
        Ok(())
    }

    fn start(&self) -> Position {
        self.start
    }

    fn end(&self) -> Position {
        self.end
    }
}

/// The checks that every implementation makes before it writes.
pub(crate) fn check_append(
    expected: Position,
    end: Position,
    epoch: Epoch,
    current: Epoch,
    group: &Group,
) -> Result<(), AppendError> {
    if epoch < current {
        return Err(AppendError::Fenced { epoch, current });
    }
    if expected != end || group.start() != end {
        return Err(AppendError::NotAtEnd { expected, start: group.start(), end });
    }
    if group.is_too_large() {
        return Err(AppendError::TooLarge { bytes: group.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_journal_in_memory_keeps_the_contract() {
        crate::conformance::check(super::MemoryJournal::new);
    }
}
