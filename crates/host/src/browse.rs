//! How messages are looked at without being consumed: page by page, stretch by stretch, within bounds.

use bytes::Bytes;
use tokio::sync::oneshot;
use waystation_base::{
    Attempt, Millis, Offset, Tag,
    batch::{self, Record},
};
use waystation_broker::{
    BrowseStep, Refusal,
    place::{Place, Span},
};

use crate::{
    Browse, Delivery, Page, Target,
    loader::{Files, Unread},
    scan::{self, Flow, LOAD_BYTES_MAX},
};

/// Bytes that are looked at for one page; then it goes back, full or not, with where to go on.
const SCAN_BYTES_MAX: usize = 64 << 20;

/// A page in the making.
pub(crate) struct Browsing {
    pub(crate) target: Target,
    pub(crate) browse: Browse,
    pub(crate) reply: oneshot::Sender<Result<Page, Refusal>>,
    /// The stretch to look at.
    pub(crate) step: Option<BrowseStep>,
    page: Page,
    page_bytes: usize,
    scanned_bytes: usize,
    /// The next offset of the stretch to look at.
    next: Offset,
}

impl Browsing {
    pub(crate) fn new(
        target: Target,
        browse: Browse,
        reply: oneshot::Sender<Result<Page, Refusal>>,
    ) -> Browsing {
        let page = Page::default();
        Browsing { target, browse, reply, step: None, page, page_bytes: 0, scanned_bytes: 0, next: Offset(0) }
    }

    /// Takes the next stretch to look at.
    pub(crate) fn set_step(&mut self, step: BrowseStep) {
        self.next = step.from;
        self.step = Some(step);
    }

    /// Looks at the stretch until there is enough.
    pub(crate) fn read(&mut self, files: &mut Files) -> Result<(), Unread> {
        let Some(step) = self.step.take() else { return Ok(()) };
        let result = self.read_spans(&step, files);
        self.step = Some(step);
        result
    }

    fn read_spans(&mut self, step: &BrowseStep, files: &mut Files) -> Result<(), Unread> {
        for span in &step.spans {
            let Some(from) = self.begin_span(step, span, files)? else { continue };
            let log = step.log;
            let flow = files
                .visit(log, span, from, LOAD_BYTES_MAX, |place, batch| self.batch(step, place, batch))?;
            if flow == Flow::Enough {
                return Ok(());
            }
            self.next = self.next.max(span.last.next());
        }
        self.next = step.to;
        Ok(())
    }

    /// Where to begin in a span; none if nothing in it can be wanted.
    fn begin_span(
        &mut self,
        step: &BrowseStep,
        span: &Span,
        files: &mut Files,
    ) -> Result<Option<Offset>, Unread> {
        let from = self.next.max(span.first);
        if from > span.last || from >= step.to {
            return Ok(None);
        }
        match (self.browse.from_time, span.place) {
            (Some(time), Place::Settled(file)) => files.settled_time(file, step.log, from, time),
            _ => Ok(Some(from)),
        }
    }

    fn batch(&mut self, step: &BrowseStep, _: Place, batch: &Bytes) -> Result<Flow, batch::Error> {
        self.scanned_bytes += batch.len();
        for record in batch::records(batch)? {
            let record = record?;
            if record.offset < self.next {
                continue;
            }
            if record.offset >= step.to {
                self.next = step.to;
                return Ok(Flow::Enough);
            }
            if is_live(&step.live, record.offset) && !self.record(step, batch, &record)? {
                return Ok(Flow::Enough);
            }
            self.next = record.offset.next();
        }
        Ok(if self.scanned_bytes >= SCAN_BYTES_MAX { Flow::Enough } else { Flow::More })
    }

    /// Takes a record if it is wanted; says no if the page is full without it.
    fn record(
        &mut self,
        step: &BrowseStep,
        batch: &Bytes,
        record: &Record<'_>,
    ) -> Result<bool, batch::Error> {
        if self.browse.from_time.is_some_and(|time| record.timestamp < time) {
            return Ok(true);
        }
        let message = record.message(batch)?;
        let unwanted =
            |filter: &waystation_base::filter::Filter| !filter.matches(step.address.as_str(), &message);
        if self.browse.filter.as_ref().is_some_and(unwanted) {
            return Ok(true);
        }
        if self.is_full(record.bytes) {
            return Ok(false);
        }
        self.page_bytes += record.bytes;
        let attempt = step.attempts.binary_search_by_key(&record.offset, |(offset, _)| *offset);
        self.page.messages.push(Delivery {
            tag: Tag::new(step.tag_log, record.offset),
            attempt: attempt.map_or(Attempt(0), |at| step.attempts[at].1),
            held_until: Millis(0),
            address: step.address.clone(),
            partition: step.log.log,
            offset: record.offset,
            message: scan::detached(message),
        });
        Ok(true)
    }

    fn is_full(&self, bytes: usize) -> bool {
        let some = !self.page.messages.is_empty();
        self.page.messages.len() >= self.browse.max.max(1)
            || some && self.page_bytes + bytes > self.browse.bytes_max
    }

    /// Where the next stretch begins; none if the page goes back now.
    pub(crate) fn next_step(&mut self) -> Option<Tag> {
        let step = self.step.take()?;
        if self.next < step.to {
            self.page.next = Some(Tag::new(step.tag_log, self.next));
            return None;
        }
        self.page.next = step.next;
        let more = self.scanned_bytes < SCAN_BYTES_MAX && !self.is_full(0);
        step.next.filter(|_| more)
    }

    /// Gives the page back: there is no further stretch.
    pub(crate) fn end(mut self) {
        self.page.next = None;
        self.finish(Ok(()));
    }

    /// Gives the page back.
    pub(crate) fn finish(self, result: Result<(), Unread>) {
        let result = match result {
            Ok(()) => Ok(self.page),
            // Moved for the second time while it was looked for: hardly ever.
            Err(Unread::Moved) => Err(Refusal::Busy),
            Err(Unread::Damaged(why)) => Err(Refusal::Damaged(why)),
        };
        // A caller that gave up needs no answer.
        let _ = self.reply.send(result);
    }

    /// Refuses the whole.
    pub(crate) fn refuse(self, refusal: Refusal) {
        let _ = self.reply.send(Err(refusal));
    }
}

/// Whether an offset lies in one of the stretches, which ascend and include both ends.
fn is_live(live: &[(Offset, Offset)], offset: Offset) -> bool {
    let at = live.partition_point(|(_, last)| *last < offset);
    live.get(at).is_some_and(|(first, _)| *first <= offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_alive_within_a_stretch_and_at_its_ends() {
        let live = [(Offset(3), Offset(5)), (Offset(9), Offset(9))];
        let alive: Vec<u64> = (0..12).filter(|offset| is_live(&live, Offset(*offset))).collect();
        assert_eq!(alive, [3, 4, 5, 9]);
    }
}
