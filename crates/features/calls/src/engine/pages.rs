//! When is what stands in memory written down, so that a start has little to read? When the records since the last time would take
//! longer to read than the pages that have changed, or are old.
//!
//! A mark says that the pages know every record before an offset. A step may be durable and not have landed here, behind others that
//! have; so a mark's offset is taken first, then everything lands that was under way by then, then the pages are written, then the
//! mark. Pages may know more than their mark says: a start takes no record that is older than what a page has.

use std::collections::{BTreeMap, BTreeSet};

use waystation_base::{Message, MessageId, Millis, Offset};
use waystation_broker::{Refusal, command::Transaction};

use super::{
    Engine,
    flight::{Landed, publish},
};
use crate::{
    limits::PAGES_BYTES_MAX,
    names,
    page::{self, Span},
};

/// Bytes of a message besides its body, as they are reckoned.
const MESSAGE_BYTES: usize = 64;

/// Milliseconds after a refusal until what is old is written.
const REFUSED_MS: u64 = 60_000;

/// How far it is.
#[derive(Debug, Default)]
enum Phase {
    /// Nothing is being written.
    #[default]
    Quiet,
    /// What began before this generation has to land.
    Landing { generation: u64, end: Offset },
    /// These spans are to be written, then the mark.
    Writing { spans: BTreeSet<Span>, end: Offset, behind_bytes: u64 },
    /// The mark is being written.
    Marking { end: Offset, behind_bytes: u64 },
}

/// What is under way, and how far the pages are.
#[derive(Debug, Default)]
pub(super) struct Pages {
    phase: Phase,
    /// The spans that are on their way to the journal.
    written: Vec<Span>,
    /// Bytes of records from which on it is looked whether pages are worth writing.
    look_at_bytes: u64,
    /// The mark says that they know every record before this.
    marked: Offset,
    /// The oldest record that the pages do not know is no older than this.
    behind_since: Option<Millis>,
    /// When it was begun to write them.
    began: Millis,
    /// After a refusal age alone is no reason before this.
    again_at: Millis,
    generation: u64,
    /// Flights under way, by the generation in which they began.
    aloft: BTreeMap<u64, usize>,
}

impl Pages {
    /// A start found this mark.
    pub fn marked(&mut self, end: Offset) {
        self.marked = end;
    }

    /// A start had to read records from this time on.
    pub fn behind_since(&mut self, time: Millis) {
        self.behind_since = Some(time);
    }

    /// A flight begins; gives its generation.
    pub fn launched(&mut self) -> u64 {
        *self.aloft.entry(self.generation).or_default() += 1;
        self.generation
    }

    /// A flight has ended.
    pub fn landed(&mut self, generation: u64) {
        if let Some(count) = self.aloft.get_mut(&generation) {
            *count -= 1;
            if *count == 0 {
                self.aloft.remove(&generation);
            }
        }
    }

    fn oldest(&self) -> u64 {
        self.aloft.first_key_value().map_or(self.generation, |(generation, _)| *generation)
    }
}

impl Engine {
    /// Goes on with the pages, or begins with them if that is worth it.
    pub(super) fn keep_pages(&mut self) {
        match &self.pages.phase {
            Phase::Quiet => {
                if !self.are_pages_due() {
                    return;
                }
                self.pages.began = self.now();
                self.pages.generation += 1;
                let (generation, end) = (self.pages.generation, self.index.end());
                self.pages.phase = Phase::Landing { generation, end };
                self.keep_pages();
            }
            Phase::Landing { generation, end } if self.pages.oldest() >= *generation => {
                let (end, behind_bytes) = (*end, self.index.behind_bytes());
                let spans = self.index.take_dirty();
                self.pages.phase = Phase::Writing { spans, end, behind_bytes };
                self.write_pages();
            }
            Phase::Landing { .. } | Phase::Writing { .. } | Phase::Marking { .. } => {}
        }
    }

    /// Whether there is enough to write down, or something that is old.
    fn are_pages_due(&mut self) -> bool {
        let (now, behind) = (self.now(), self.index.behind_bytes());
        if behind == 0 {
            self.pages.behind_since = None;
        }
        if behind == 0 || !self.is_set_up {
            return false;
        }
        let since = *self.pages.behind_since.get_or_insert(now);
        if now.since(since) >= self.limits.behind_ms_max && now >= self.pages.again_at {
            return true;
        }
        if behind < self.pages.look_at_bytes.max(self.limits.behind_bytes_min) {
            return false;
        }
        let is_worth_it = self.index.is_worth_writing();
        if !is_worth_it {
            self.pages.look_at_bytes = behind.saturating_mul(2);
        }
        is_worth_it
    }

    /// Writes what has changed, if that is worth it: everything has landed, and nothing more will come.
    pub(super) fn write_last_pages(&mut self) {
        let is_quiet = matches!(self.pages.phase, Phase::Quiet) && self.is_set_up;
        // Pages may know more than their mark says: then the mark alone is written.
        if is_quiet && self.pages.marked < self.index.end() && self.index.is_worth_writing() {
            let (end, behind_bytes) = (self.index.end(), self.index.behind_bytes());
            let spans = self.index.take_dirty();
            self.pages.phase = Phase::Writing { spans, end, behind_bytes };
            self.write_pages();
        }
    }

    /// Writes some of the pages, or the mark when none are left.
    fn write_pages(&mut self) {
        let Phase::Writing { spans, end, behind_bytes } = &mut self.pages.phase else { return };
        let (mut publishes, mut bytes) = (Vec::new(), 0);
        let now = self.clock.now();
        let message = |id, key, body: Vec<u8>| {
            publish(names::INDEX, Message { key: Some(key), ..Message::new(id, now, body) })
        };
        let written = &mut self.pages.written;
        while bytes < PAGES_BYTES_MAX
            && let Some(span) = spans.pop_first()
        {
            written.push(span);
            let page = self.index.page(span);
            // Without a body it takes away the page that was.
            let body = if page.is_empty() { Vec::new() } else { page.write() };
            bytes += body.len() + MESSAGE_BYTES;
            publishes.push(message(span.ids().start().0, span.key(), body));
        }
        if publishes.is_empty() {
            let id = MessageId::new(now, end.0.into());
            publishes.push(message(id, page::mark_key(), page::write_mark(*end)));
            self.pages.phase = Phase::Marking { end: *end, behind_bytes: *behind_bytes };
        }
        let broker = self.broker.clone();
        self.launch(async move {
            let transaction = Transaction { publishes, settlements: Vec::new() };
            Landed::Paged(broker.transact(transaction).await.map(|_| ()))
        });
    }

    /// Some pages, or the mark, have become durable, or were refused.
    pub(super) fn paged(&mut self, result: Result<(), Refusal>) {
        let written = std::mem::take(&mut self.pages.written);
        match (result, std::mem::take(&mut self.pages.phase)) {
            (Ok(()), phase @ Phase::Writing { .. }) => {
                self.pages.phase = phase;
                self.write_pages();
            }
            (Ok(()), phase) => {
                if let Phase::Marking { end, .. } = phase {
                    self.pages.marked = end;
                }
                self.pages.look_at_bytes = 0;
                self.pages.behind_since = Some(self.pages.began);
            }
            (Err(error), phase) => {
                tracing::warn!(%error, "the index of calls cannot be written now; a start would read more records");
                let (spans, behind_bytes) = match phase {
                    Phase::Writing { spans, behind_bytes, .. } => (spans, behind_bytes),
                    Phase::Marking { behind_bytes, .. } => (BTreeSet::new(), behind_bytes),
                    Phase::Quiet | Phase::Landing { .. } => (BTreeSet::new(), 0),
                };
                self.index.put_back_dirty(spans.into_iter().chain(written), behind_bytes);
                self.pages.look_at_bytes = self.index.behind_bytes().saturating_mul(2);
                self.pages.again_at = self.now().plus(REFUSED_MS);
            }
        }
    }
}
