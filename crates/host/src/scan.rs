//! What of a stored batch an asker wants: the one place where records are matched against a load, a page or a plan.

use std::ops::RangeInclusive;

use bytes::Bytes;
use waystation_base::{
    Message, Offset,
    batch::{self, Record},
    value::Value,
};
use waystation_broker::{
    effect::Handed,
    place::{Load, Loaded, LogId, Meta, Place, Purpose},
};

/// Bytes of messages after which a load stops.
pub(crate) const LOAD_BYTES_MAX: usize = 256 << 10;

/// A load under way.
pub(crate) struct LoadScan {
    pub(crate) load: Load,
    /// The queue or topic of the log, for the filter.
    address: String,
    messages: Vec<(Meta, Option<Message>)>,
    next: Offset,
    bytes: usize,
}

/// Whether a scan wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It does.
    More,
    /// It does, but nothing before this offset.
    From(Offset),
    /// It has enough.
    Enough,
}

impl LoadScan {
    pub(crate) fn new(load: Load, address: String) -> LoadScan {
        let next = load.from;
        LoadScan { load, address, messages: Vec::new(), next, bytes: 0 }
    }

    /// The first offset that is still wanted, if there is any: everything below it has been looked at.
    pub(crate) fn next(&self) -> Offset {
        self.listed_from(self.next).unwrap_or(self.load.to)
    }

    /// The first offset from `from` on that the load may want.
    fn listed_from(&self, from: Offset) -> Option<Offset> {
        match &self.load.only {
            Some(only) => only.get(only.partition_point(|offset| *offset < from)).copied(),
            None => Some(from),
        }
    }

    /// Whether any offset from `first` to `last` is wanted.
    pub(crate) fn wants(&self, first: Offset, last: Offset) -> bool {
        let next = self.listed_from(self.next.max(first));
        next.is_some_and(|offset| offset <= last && offset < self.load.to)
    }

    /// Looks at a batch.
    pub(crate) fn batch(&mut self, place: Place, batch: &Bytes) -> Result<Flow, batch::Error> {
        let mut wanted = self.next();
        let last = batch::Header::read(batch)?.last_offset();
        for record in batch::records(batch)? {
            if wanted > last {
                break;
            }
            let record = record?;
            if record.offset < wanted {
                continue;
            }
            if record.offset >= self.load.to {
                self.next = self.load.to;
                return Ok(Flow::Enough);
            }
            // One that is listed may be there no more.
            if self.listed_from(record.offset) == Some(record.offset) {
                self.record(place, batch, &record)?;
            }
            self.next = record.offset.next();
            if self.is_full() {
                return Ok(Flow::Enough);
            }
            wanted = self.next();
        }
        self.passed(last);
        Ok(if self.load.only.is_some() { Flow::From(wanted) } else { Flow::More })
    }

    fn is_full(&self) -> bool {
        let bytes_full = self.may_stop_early() && self.bytes >= LOAD_BYTES_MAX;
        bytes_full || self.messages.len() >= self.load.messages_max
    }

    /// Whether the asker goes on by itself where the answer ends. One that lists messages takes the answer as whole.
    pub(crate) fn may_stop_early(&self) -> bool {
        self.load.only.is_none()
    }

    fn record(&mut self, place: Place, batch: &Bytes, record: &Record<'_>) -> Result<(), batch::Error> {
        let needs_body = matches!(self.load.purpose, Purpose::DeadLetter { .. });
        // A filter may reject many: what was read counts, so that one load stays short.
        self.bytes += record.bytes;
        let mut meta = Meta::of(self.load.log, place, record)?;
        let looks = self.load.filter.is_some() || self.load.tenant_by.is_some();
        let message = if looks || needs_body { Some(record.message(batch)?) } else { None };
        if let Some(message) = &message {
            if self.load.filter.as_ref().is_some_and(|filter| !filter.matches(&self.address, message)) {
                return Ok(());
            }
            meta.tenant = self.load.tenant_by.as_ref().map_or(0, |by| by.of(&self.address, message));
        }
        self.messages.push((meta, message.filter(|_| needs_body)));
        Ok(())
    }

    /// Notes that there is nothing more up to `last`.
    pub(crate) fn passed(&mut self, last: Offset) {
        self.next = self.next.max(last.next().min(self.load.to));
    }

    /// The answer, when every span has been looked at.
    pub(crate) fn finish(mut self) -> Loaded {
        // What lies behind the last span was not looked at, unless nothing is anywhere.
        let end = self.load.spans.last().map_or(self.load.to, |span| span.last.next().min(self.load.to));
        self.next = self.next.max(end);
        self.stop(None)
    }

    /// Whether there is a part of the answer that may go alone.
    pub(crate) fn has_part(&self) -> bool {
        self.may_stop_early() && (!self.messages.is_empty() || self.next > self.load.from)
    }

    /// The answer so far.
    pub(crate) fn stop(self, damaged: Option<String>) -> Loaded {
        Loaded { purpose: self.load.purpose, messages: self.messages, next: self.next, damaged }
    }
}

/// A batch that messages are read out of one after another.
///
/// A message keeps the memory that it was read from; those that are small beside that memory even together are copied.
pub(crate) struct Opened {
    place: Place,
    log: LogId,
    batch: Bytes,
    offsets: RangeInclusive<Offset>,
    is_kept: bool,
    /// Where the record after the one that was read last begins.
    next: u32,
}

impl Opened {
    /// Opens the batch that holds the first of `handed`. As long as any message of it is kept, so are `kept_bytes`.
    pub(crate) fn new<'a>(
        batch: Bytes,
        kept_bytes: usize,
        handed: impl Iterator<Item = &'a Handed>,
    ) -> Result<Opened, batch::Error> {
        let header = batch::Header::read(&batch)?;
        let mut handed = handed.map(|one| &one.meta).peekable();
        let first = handed.peek().expect("a batch is opened for a message");
        let offsets = header.base_offset..=header.last_offset();
        let next = batch::HEADER_BYTES as u32;
        let mut opened = Opened { place: first.place, log: first.log, batch, offsets, is_kept: false, next };
        let wanted: usize =
            handed.take_while(|meta| opened.holds(meta)).map(|meta| meta.bytes as usize).sum();
        opened.is_kept = wanted * KEPT_SHARE_MAX >= kept_bytes;
        Ok(opened)
    }

    /// Whether a message is in this batch, if it is where it is said to be.
    pub(crate) fn holds(&self, meta: &Meta) -> bool {
        (meta.place, meta.log) == (self.place, self.log) && self.offsets.contains(&meta.offset)
    }

    /// Reads a message; `None` if it is not in the batch.
    pub(crate) fn message(&mut self, meta: &Meta) -> Result<Option<Message>, batch::Error> {
        let record = match meta.place {
            Place::Journal(_) => Record::read(&self.batch, meta.at)?,
            // Packed anew when it settled, and mostly one behind the other.
            Place::Settled(_) => match Record::read(&self.batch, self.next) {
                Ok(record) if record.offset == meta.offset => record,
                _ => match record_with(&self.batch, meta.offset)? {
                    Some(record) => record,
                    None => return Ok(None),
                },
            },
        };
        self.next = record.at + record.bytes as u32;
        let message = record.message(&self.batch)?;
        Ok(Some(if self.is_kept { message } else { detached(message) }))
    }
}

/// Messages that are read together may keep this many times their bytes in memory.
const KEPT_SHARE_MAX: usize = 8;

/// The message with memory of its own.
pub(crate) fn detached(mut message: Message) -> Message {
    message.body = Bytes::copy_from_slice(&message.body);
    message.key = message.key.map(|key| Bytes::copy_from_slice(&key));
    for (_, value) in &mut message.headers.0 {
        if let Value::Bytes(bytes) | Value::RawText(bytes) = value {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }
    message
}

/// The bytes of the whole batch at the front of `bytes`.
pub(crate) fn batch_at_front(bytes: &Bytes) -> Result<Bytes, batch::Error> {
    let header = batch::Header::read(bytes)?;
    Ok(bytes.slice(..header.bytes))
}

/// The bytes of the whole batch at the front of `bytes` if its checksum fits.
pub(crate) fn checked_batch(bytes: &Bytes) -> Result<Bytes, batch::Error> {
    let batch = batch_at_front(bytes)?;
    batch::check_crc(&batch)?;
    Ok(batch)
}

/// Finds an offset's record.
pub(crate) fn record_with(batch: &[u8], offset: Offset) -> Result<Option<Record<'_>>, batch::Error> {
    for record in batch::records(batch)? {
        let record = record?;
        if record.offset == offset {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// A log by which a text names it.
pub(crate) fn log_name(log: LogId) -> String {
    format!("log {}/{}", log.entity, log.log)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waystation_base::{Attempt, EntityId, Millis, Position, Tag, batch::Encoder, filter::Filter};

    use super::*;

    const LOG: LogId = LogId { entity: EntityId(1), log: 0 };
    const PLACE: Place = Place::Journal(Position(64));

    fn batch(first: u64, bodies: &[&str]) -> Bytes {
        let (mut out, mut scratch) = (Vec::new(), batch::Scratch::default());
        let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(first), Millis(1));
        for (body, offset) in bodies.iter().zip(first..) {
            let mut message =
                Message { timestamp: Millis(1), body: body.to_string().into(), ..Message::default() };
            message.headers.set("n", body.to_string());
            encoder.push(Offset(offset), &message);
        }
        encoder.finish();
        Bytes::from(out)
    }

    fn load(from: u64, to: u64, change: impl FnOnce(&mut Load)) -> LoadScan {
        let mut load = Load {
            purpose: Purpose::Window { entity: LOG.entity, log: 0, generation: 1 },
            log: LOG,
            from: Offset(from),
            to: Offset(to),
            only: None,
            tenant_by: None,
            filter: None,
            messages_max: 100,
            spans: Vec::new(),
        };
        change(&mut load);
        LoadScan::new(load, "q".to_owned())
    }

    fn check(mut scan: LoadScan, flow: Flow, offsets: &[u64], next: u64) {
        assert_eq!(scan.batch(PLACE, &batch(10, &["a", "b", "c", "d"])), Ok(flow));
        let loaded = scan.stop(None);
        assert_eq!(loaded.messages.iter().map(|(meta, _)| meta.offset.0).collect::<Vec<_>>(), offsets);
        assert_eq!(loaded.next, Offset(next));
    }

    #[test]
    fn a_load_gives_what_was_asked_for_and_says_how_far_it_looked() {
        check(load(0, 100, |_| ()), Flow::More, &[10, 11, 12, 13], 14);
        check(load(11, 100, |_| ()), Flow::More, &[11, 12, 13], 14);
        check(load(11, 13, |_| ()), Flow::Enough, &[11, 12], 13);
        check(load(0, 100, |load| load.messages_max = 2), Flow::Enough, &[10, 11], 12);
        let only = |offsets: &[u64]| Some(offsets.iter().copied().map(Offset).collect());
        check(load(0, 100, |load| load.only = only(&[3, 12])), Flow::From(Offset(100)), &[12], 14);
        check(
            load(0, 100, |load| load.only = only(&[11, 12, 40, 70])),
            Flow::From(Offset(40)),
            &[11, 12],
            14,
        );
        let filter: Filter = Filter::Exact([("n".to_owned(), "c".to_owned())].into());
        check(load(0, 100, |load| load.filter = Some(Arc::new(filter))), Flow::More, &[12], 14);
    }

    #[test]
    fn a_load_stops_after_load_bytes_max_and_gives_one_message_at_least() {
        let body = "x".repeat(LOAD_BYTES_MAX);
        let mut scan = load(0, 100, |_| ());
        assert_eq!(scan.batch(PLACE, &batch(10, &[&body, "b"])), Ok(Flow::Enough));
        assert_eq!(scan.stop(None).next, Offset(11));
    }

    #[test]
    fn only_what_is_listed_is_wanted() {
        let scan = load(5, 50, |load| load.only = Some(vec![Offset(7), Offset(30)]));
        assert!(scan.wants(Offset(0), Offset(7)));
        assert!(!scan.wants(Offset(8), Offset(29)));
        assert!(scan.wants(Offset(30), Offset(90)));
        assert!(!scan.wants(Offset(50), Offset(90)));
        assert!(!scan.wants(Offset(0), Offset(4)));
    }

    fn handed(batch: &Bytes, place: Place, offset: u64) -> Handed {
        let record = record_with(batch, Offset(offset)).expect("records").expect("there");
        let meta = Meta::of(LOG, place, &record).expect("a record");
        let tag = Tag(offset);
        Handed { tag, attempt: Attempt(1), held_until: Millis::NEVER, meta }
    }

    fn check_kept(bodies: &[&str], offsets: &[u64], is_kept: bool) {
        for place in [PLACE, Place::Settled(3)] {
            let batch = batch(0, bodies);
            let handed: Vec<_> = offsets.iter().map(|offset| handed(&batch, place, *offset)).collect();
            let mut opened = Opened::new(batch.clone(), batch.len(), handed.iter()).expect("a batch");
            for one in &handed {
                let message = opened.message(&one.meta).expect("records").expect("there");
                assert_eq!(message.body, bodies[one.meta.offset.0 as usize]);
                assert_eq!(batch.as_ptr_range().contains(&message.body.as_ptr()), is_kept);
            }
        }
    }

    #[test]
    fn a_batch_is_kept_by_messages_that_are_much_of_it_and_by_no_others() {
        let large = "x".repeat(10_000);
        check_kept(&["abc", &large], &[0], false);
        check_kept(&["abc", &large], &[1], true);
        check_kept(&["abc", &large], &[0, 1], true);
        let many: Vec<String> = (0..64).map(|n| format!("{n}{}", "y".repeat(200))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check_kept(&many, &[1, 7, 3], false);
        check_kept(&many, &(0..20).chain(40..60).collect::<Vec<_>>(), true);
    }

    #[test]
    fn what_is_not_in_a_settled_batch_is_missed() {
        let (whole, part) = (batch(0, &["a", "b", "c"]), batch(0, &["a", "b"]));
        let missing = handed(&whole, Place::Settled(3), 2);
        let mut opened = Opened::new(part.clone(), part.len(), [&missing].into_iter()).expect("a batch");
        assert_eq!(opened.message(&missing.meta), Ok(None));
    }
}
