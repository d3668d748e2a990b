//! What stands in memory of each call: enough to decide and to list; all else is read from its record.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
};

use waystation_base::{Attempt, MessageId, Millis, Name, Offset, Tag};

use crate::{
    CallId, Error, Filter, Held, Key, ListPage, Record, Seen, State, idempotency,
    limits::{GONE_MAX, PLACE_MAX},
    page::{CALL_BYTES_MAX, Line, Page, Span},
};

/// Bytes of a record without its result's body, as they are reckoned.
const RECORD_BYTES: u64 = 512;

/// One call. A million of them should take little: names are numbers here, and a key stands behind a pointer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub offset: Offset,
    /// Where its request is kept, if that is known.
    pub request: Option<Offset>,
    /// When it expires, or when it is forgotten.
    pub due: Millis,
    tag: Tag,
    held_attempt: Attempt,
    operation: u32,
    pub version: u32,
    pub attempt: u32,
    pub state: State,
    is_retried: bool,
    key: Option<Box<Key>>,
    correlation: Option<Box<u128>>,
}

impl Entry {
    pub fn held(&self) -> Option<Held> {
        (self.held_attempt.0 > 0).then_some(Held { tag: self.tag, attempt: self.held_attempt })
    }
}

/// All calls, by id, which is by time.
#[derive(Debug, Default)]
pub(crate) struct Index {
    calls: BTreeMap<CallId, Entry>,
    timers: BTreeSet<(Millis, CallId)>,
    /// Calls that wait, of each operation.
    queued: HashMap<u32, BTreeSet<CallId>>,
    keys: HashMap<u128, (u128, CallId)>,
    /// Calls by the marks of their callers' correlation ids.
    correlations: BTreeSet<(u128, CallId)>,
    names: Vec<Name>,
    numbers: HashMap<Name, u32>,
    gone: BTreeSet<CallId>,
    gone_order: VecDeque<CallId>,
    /// Spans in which something has changed since their pages were written.
    dirty: BTreeSet<Span>,
    /// The first offset that no record has which was taken over.
    end: Offset,
    /// Bytes of the records that were taken over since the last mark: what a start would read besides the pages.
    behind_bytes: u64,
}

impl Index {
    fn number(&mut self, name: &Name) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        number
    }

    pub fn len(&self) -> usize {
        self.calls.len()
    }

    pub fn get(&self, id: CallId) -> Result<&Entry, Error> {
        let missing = || if self.gone.contains(&id) { Error::Gone } else { Error::NoCall };
        self.calls.get(&id).ok_or_else(missing)
    }

    /// The call that was started with a key, and the mark of its request.
    pub fn by_key(&self, scope: u128) -> Option<(u128, CallId)> {
        self.keys.get(&scope).copied()
    }

    pub fn operation_of(&self, entry: &Entry) -> Name {
        self.names[entry.operation as usize].clone()
    }

    /// Takes over a call's latest record.
    pub fn put(&mut self, record: &Record, offset: Offset) {
        self.behind_bytes += RECORD_BYTES + record.result.as_ref().map_or(0, |result| result.bytes);
        self.end = self.end.max(offset.next());
        let before = self.take_out(record.id);
        let operation = self.number(&record.operation);
        let held = record.held.unwrap_or(Held { tag: Tag(0), attempt: Attempt(0) });
        let entry = Entry {
            offset,
            request: record.request.or(before.and_then(|before| before.request)),
            due: record.forget_at().unwrap_or(record.deadline),
            tag: held.tag,
            held_attempt: held.attempt,
            operation,
            version: record.version,
            attempt: record.attempt,
            state: record.state,
            is_retried: record.retried_as.is_some(),
            key: record.key.map(Box::new),
            correlation: record.correlation_id.as_deref().map(idempotency::mark).map(Box::new),
        };
        self.enter(record.id, entry);
        self.dirty.insert(Span::of(record.id));
    }

    fn enter(&mut self, id: CallId, entry: Entry) {
        self.timers.insert((entry.due, id));
        if entry.state == State::Queued {
            self.queued.entry(entry.operation).or_default().insert(id);
        }
        if let Some(key) = &entry.key {
            self.keys.insert(key.scope, (key.request, id));
        }
        self.correlations.extend(entry.correlation.as_ref().map(|mark| (**mark, id)));
        self.calls.insert(id, entry);
    }

    /// Takes over a record that was found on the topic, unless what is known is as new.
    pub fn put_found(&mut self, record: &Record, offset: Offset) {
        let is_known = self.calls.get(&record.id).is_some_and(|entry| entry.offset >= offset);
        if !is_known && !self.gone.contains(&record.id) {
            self.put(record, offset);
        }
    }

    /// Takes over a page, in the place of what was known of its span.
    pub fn put_page(&mut self, span: Span, page: Page) {
        let known: Vec<_> = self.calls.range(span.ids()).map(|(id, _)| *id).collect();
        known.into_iter().for_each(|id| drop(self.take_out(id)));
        let known: Vec<_> = self.gone.range(span.ids()).copied().collect();
        for id in known.iter().filter(|id| page.gone.binary_search(id).is_err()) {
            self.gone.remove(id);
        }
        page.gone.into_iter().for_each(|id| self.note_gone(id));
        let numbers: Vec<u32> = page.names.iter().map(|name| self.number(name)).collect();
        for line in page.calls {
            let held = line.held.unwrap_or(Held { tag: Tag(0), attempt: Attempt(0) });
            self.end = self.end.max(line.offset.next());
            let entry = Entry {
                offset: line.offset,
                request: line.request,
                due: line.due,
                tag: held.tag,
                held_attempt: held.attempt,
                operation: numbers[line.name],
                version: line.version,
                attempt: line.attempt,
                state: line.state,
                is_retried: line.is_retried,
                key: line.key.map(Box::new),
                correlation: line.correlation.map(Box::new),
            };
            self.enter(line.id, entry);
        }
    }

    /// All that is known of a span.
    pub fn page(&self, span: Span) -> Page {
        let mut page = Page { gone: self.gone.range(span.ids()).copied().collect(), ..Page::default() };
        let mut places: HashMap<u32, usize> = HashMap::new();
        for (id, entry) in self.calls.range(span.ids()) {
            let name = *places.entry(entry.operation).or_insert_with(|| {
                page.names.push(self.names[entry.operation as usize].clone());
                page.names.len() - 1
            });
            page.calls.push(Line {
                id: *id,
                offset: entry.offset,
                request: entry.request,
                due: entry.due,
                held: entry.held(),
                name,
                version: entry.version,
                attempt: entry.attempt,
                state: entry.state,
                is_retried: entry.is_retried,
                key: entry.key.as_deref().copied(),
                correlation: entry.correlation.as_deref().copied(),
            });
        }
        page
    }

    /// The first offset that no record has which was taken over.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Bytes of records that a start would read besides the pages.
    pub fn behind_bytes(&self) -> u64 {
        self.behind_bytes
    }

    /// Whether the pages of what has changed would be no larger than the records that they stand for.
    pub fn is_worth_writing(&self) -> bool {
        let most = usize::try_from(self.behind_bytes / CALL_BYTES_MAX as u64).unwrap_or(usize::MAX);
        let calls = self.dirty.iter().flat_map(|span| self.calls.range(span.ids()));
        calls.take(most.saturating_add(1)).count() <= most
    }

    /// Gives what has changed, to be written.
    pub fn take_dirty(&mut self) -> BTreeSet<Span> {
        self.behind_bytes = 0;
        std::mem::take(&mut self.dirty)
    }

    /// What was to be written and is not.
    pub fn put_back_dirty(&mut self, spans: impl IntoIterator<Item = Span>, bytes: u64) {
        self.behind_bytes += bytes;
        self.dirty.extend(spans);
    }

    fn take_out(&mut self, id: CallId) -> Option<Entry> {
        let entry = self.calls.remove(&id)?;
        self.timers.remove(&(entry.due, id));
        if let Some(queued) = self.queued.get_mut(&entry.operation) {
            queued.remove(&id);
        }
        if let Some(mark) = &entry.correlation {
            self.correlations.remove(&(**mark, id));
        }
        if let Some(key) = &entry.key {
            // Another call may have it since.
            if self.keys.get(&key.scope).is_some_and(|(_, of)| *of == id) {
                self.keys.remove(&key.scope);
            }
        }
        Some(entry)
    }

    /// Forgets a call, but for the fact that it was there; that is written at `offset`.
    pub fn forget(&mut self, id: CallId, offset: Offset) {
        self.behind_bytes += RECORD_BYTES;
        self.end = self.end.max(offset.next());
        self.take_out(id);
        self.dirty.insert(Span::of(id));
        self.note_gone(id);
    }

    /// Lets go of a call whose record is not there.
    pub fn lose(&mut self, id: CallId) {
        self.take_out(id);
        self.dirty.insert(Span::of(id));
    }

    fn note_gone(&mut self, id: CallId) {
        if self.gone.insert(id) {
            self.gone_order.push_back(id);
        }
        if self.gone_order.len() > GONE_MAX
            && let Some(oldest) = self.gone_order.pop_front()
            && self.gone.remove(&oldest)
        {
            self.dirty.insert(Span::of(oldest));
        }
    }

    /// The next moment at which a call is to expire or to be forgotten.
    pub fn next_due(&self) -> Option<Millis> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Calls whose time has come, at most `max`. Each is given once: it stands in no timer until it is put again.
    pub fn take_due(&mut self, now: Millis, max: usize) -> Vec<CallId> {
        let mut due = Vec::new();
        while due.len() < max && self.timers.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.timers.pop_first().map(|(_, id)| id));
        }
        due
    }

    /// Sets a call's timer anew, to try once more what could not be done.
    pub fn try_again(&mut self, id: CallId, at: Millis) {
        if let Some(entry) = self.calls.get_mut(&id) {
            self.timers.remove(&(entry.due, id));
            entry.due = at;
            self.timers.insert((at, id));
        }
    }

    pub fn see(&self, id: CallId) -> Result<Seen, Error> {
        self.get(id).map(|entry| self.seen(id, entry, true))
    }

    /// The same without its place, which takes counting.
    pub fn glance(&self, id: CallId) -> Result<Seen, Error> {
        self.get(id).map(|entry| self.seen(id, entry, false))
    }

    fn seen(&self, id: CallId, entry: &Entry, with_place: bool) -> Seen {
        Seen {
            id,
            operation: self.operation_of(entry),
            state: entry.state,
            version: entry.version,
            attempt: entry.attempt,
            due: entry.due,
            held: entry.held(),
            place: if with_place { self.place(id, entry) } else { None },
            offset: entry.offset,
            is_retried: entry.is_retried,
        }
    }

    fn place(&self, id: CallId, entry: &Entry) -> Option<u64> {
        let queued = self.queued.get(&entry.operation).filter(|_| entry.state == State::Queued)?;
        let place = queued.range(..=id).take(PLACE_MAX + 1).count();
        (place <= PLACE_MAX).then_some(place as u64)
    }

    /// Calls before an end, newest first: all, or those with a correlation id.
    fn newest(
        &self,
        correlation_id: Option<&str>,
        end: Bound<CallId>,
    ) -> Box<dyn Iterator<Item = (CallId, &Entry)> + '_> {
        let Some(mark) = correlation_id.map(idempotency::mark) else {
            let range = self.calls.range::<CallId, _>((Bound::Unbounded, end.as_ref()));
            return Box::new(range.rev().map(|(id, entry)| (*id, entry)));
        };
        let first = (mark, CallId(MessageId::from_bytes([0; 16])));
        let last = (mark, CallId(MessageId::from_bytes([0xff; 16])));
        let end = match end {
            Bound::Excluded(id) => Bound::Excluded((mark, id)),
            _ => Bound::Included(last),
        };
        let range = self.correlations.range((Bound::Included(first), end));
        Box::new(range.rev().filter_map(|(_, id)| Some((*id, self.calls.get(id)?))))
    }

    /// A page of calls, newest first; at most `scan_max` are looked at.
    pub fn list(&self, filter: &Filter, scan_max: usize) -> ListPage {
        let operation = match &filter.operation {
            None => None,
            Some(name) => match self.numbers.get(name) {
                Some(number) => Some(*number),
                None => return ListPage::default(),
            },
        };
        let end = filter.before.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = ListPage::default();
        for (looked, (id, entry)) in self.newest(filter.correlation_id.as_deref(), end).enumerate() {
            if page.calls.len() >= filter.max || looked >= scan_max {
                return page;
            }
            page.next = Some(id);
            let fits = operation.is_none_or(|number| number == entry.operation)
                && filter.state.is_none_or(|state| state == entry.state)
                && filter.is_retried.is_none_or(|is_retried| is_retried == entry.is_retried);
            if fits {
                page.calls.push(self.seen(id, entry, false));
            }
        }
        page.next = None;
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, state: State) -> Record {
        Record {
            state,
            deadline: Millis(number + 100),
            key: Some(Key { scope: number.into(), request: 7 }),
            finished: state.is_finished().then_some(Millis(number + 10)),
            ..crate::record::tests::record(CallId(MessageId::new(Millis(number), 1 << 64)))
        }
    }

    #[test]
    fn a_key_that_another_call_has_since_stays_its_own() {
        let with_key =
            |number| Record { key: Some(Key { scope: 9, request: 7 }), ..record(number, State::Queued) };
        let (first, second) = (with_key(1), with_key(2));
        let mut index = Index::default();
        index.put(&first, Offset(0));
        index.put(&second, Offset(2));
        index.forget(first.id, Offset(1));
        assert_eq!(index.by_key(9), Some((7, second.id)));
        index.lose(second.id);
        assert_eq!(index.by_key(9), None);
    }

    #[test]
    fn a_call_is_due_at_its_deadline_and_once_finished_at_the_end_of_its_retention() {
        let mut index = Index::default();
        index.put(&record(1, State::Queued), Offset(0));
        assert_eq!(index.next_due(), Some(Millis(101)));
        index.put(&record(1, State::Succeeded), Offset(1));
        assert_eq!(index.next_due(), Some(Millis(61)));
        assert_eq!(index.take_due(Millis(60), 9), []);
        let id = record(1, State::Queued).id;
        assert_eq!(index.take_due(Millis(61), 9), [id]);
        assert_eq!(index.by_key(1), Some((7, id)));
        index.forget(id, Offset(2));
        assert_eq!((index.get(id).err(), index.by_key(1)), (Some(Error::Gone), None));
        assert_eq!(index.get(record(2, State::Queued).id).err(), Some(Error::NoCall));
    }

    #[test]
    fn a_place_counts_those_that_wait_and_came_before() {
        let mut index = Index::default();
        for number in 1..=5 {
            index.put(&record(number, State::Queued), Offset(number));
        }
        let place = |index: &Index, number| index.see(record(number, State::Queued).id).expect("there").place;
        assert_eq!((place(&index, 1), place(&index, 5)), (Some(1), Some(5)));
        index.put(&record(2, State::Working), Offset(9));
        assert_eq!((place(&index, 2), place(&index, 5)), (None, Some(4)));
        for number in 6..=PLACE_MAX as u64 + 2 {
            index.put(&record(number, State::Queued), Offset(number));
        }
        let (last, past) = (PLACE_MAX as u64 + 1, PLACE_MAX as u64 + 2);
        assert_eq!((place(&index, last), place(&index, past)), (Some(PLACE_MAX as u64), None));
    }

    #[test]
    fn a_list_goes_back_in_time_page_by_page() {
        let mut index = Index::default();
        for number in 1..=5 {
            let state = if number % 2 == 0 { State::Failed } else { State::Queued };
            index.put(&record(number, state), Offset(number));
        }
        let mut filter = Filter { max: 2, state: Some(State::Queued), ..Filter::default() };
        let page = index.list(&filter, 99);
        let ids = |page: &ListPage| page.calls.iter().map(|call| call.id.time().0).collect::<Vec<_>>();
        assert_eq!(ids(&page), [5, 3]);
        filter.before = page.next;
        let page = index.list(&filter, 99);
        assert_eq!((ids(&page), page.next), (vec![1], None));
        filter.operation = Some(Name::new("other").expect("a name"));
        assert!(index.list(&filter, 99).calls.is_empty());
    }

    #[test]
    fn a_list_looks_at_so_many_calls_and_says_where_to_go_on() {
        let mut index = Index::default();
        for number in 1..=4 {
            let state = if number == 1 { State::Failed } else { State::Queued };
            index.put(&record(number, state), Offset(number));
        }
        let mut filter = Filter { max: 9, state: Some(State::Failed), ..Filter::default() };
        let at_the_bound = index.list(&filter, 4);
        assert_eq!((at_the_bound.calls.len(), at_the_bound.next), (1, None));
        let past_it = index.list(&filter, 3);
        assert_eq!((past_it.calls.len(), past_it.next), (0, Some(record(2, State::Queued).id)));
        filter.before = past_it.next;
        assert_eq!(index.list(&filter, 3).calls.len(), 1);
    }

    #[test]
    fn calls_are_found_by_the_correlation_id_of_their_callers() {
        let mut index = Index::default();
        for number in 1..=6 {
            let id = if number % 2 == 0 { "even" } else { "odd" };
            let record = Record { correlation_id: Some(id.into()), ..record(number, State::Queued) };
            index.put(&record, Offset(number));
        }
        index.forget(record(4, State::Queued).id, Offset(7));
        let mut filter = Filter { max: 1, correlation_id: Some("even".into()), ..Filter::default() };
        let mut found = Vec::new();
        loop {
            let page = index.list(&filter, 99);
            found.extend(page.calls.iter().map(|call| call.id.time().0));
            filter.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(found, [6, 2]);
    }

    fn other(index: &Index, spans: &BTreeSet<Span>) -> Index {
        let mut other = Index::default();
        for span in spans {
            let bytes = index.page(*span).write();
            other.put_page(*span, Page::read(*span, &bytes).expect("a page"));
        }
        other
    }

    #[test]
    fn pages_say_all_that_stands_in_memory() {
        let mut index = Index::default();
        for number in 1..=40 {
            let state = State::ALL[number as usize % 6];
            let correlation_id = (number % 4 == 0).then(|| "c".to_owned());
            let held = (state == State::Working).then_some(Held { tag: Tag(number), attempt: Attempt(2) });
            let operation = Name::new(format!("op{}", number % 3)).expect("a name");
            // Some share a page.
            let record = Record { correlation_id, held, operation, ..record(number * 40, state) };
            index.put(&record, Offset(number));
        }
        index.forget(record(40 * 40, State::Queued).id, Offset(41));
        assert_eq!(index.end(), Offset(42));
        let spans = index.take_dirty();
        assert!(spans.len() < 20 && index.behind_bytes() == 0);
        let mut other = other(&index, &spans);
        assert_eq!(
            (&other.calls, &other.timers, &other.queued),
            (&index.calls, &index.timers, &index.queued)
        );
        assert_eq!(
            (&other.keys, &other.correlations, &other.gone),
            (&index.keys, &index.correlations, &index.gone)
        );
        // A later page takes the place of an earlier one.
        let span = *spans.first().expect("a span");
        let count = other.len();
        other.put_page(span, Page::default());
        assert!(other.len() < count && other.calls.range(span.ids()).next().is_none());
    }

    #[test]
    fn a_record_older_than_what_a_page_has_is_not_taken_over() {
        let mut index = Index::default();
        index.put(&record(1, State::Succeeded), Offset(5));
        index.put_found(&record(1, State::Queued), Offset(4));
        assert_eq!(index.see(record(1, State::Queued).id).expect("there").state, State::Succeeded);
        index.forget(record(1, State::Queued).id, Offset(9));
        index.put_found(&record(1, State::Succeeded), Offset(5));
        assert_eq!(index.get(record(1, State::Queued).id).err(), Some(Error::Gone));
    }

    #[test]
    fn pages_are_worth_writing_when_they_are_no_larger_than_what_they_stand_for() {
        let mut index = Index::default();
        (1..=100).for_each(|number| index.put(&record(number, State::Queued), Offset(number)));
        assert!(index.is_worth_writing());
        drop(index.take_dirty());
        // One change in a page of a hundred calls.
        index.put(&record(1, State::Working), Offset(101));
        assert!(!index.is_worth_writing());
        let enough = 100 * CALL_BYTES_MAX as u64 - index.behind_bytes();
        index.put_back_dirty([], enough - 1);
        assert!(!index.is_worth_writing());
        index.put_back_dirty([], 1);
        assert!(index.is_worth_writing());
    }

    #[test]
    fn of_those_that_are_gone_the_latest_are_known() {
        let mut index = Index::default();
        for number in 0..=GONE_MAX as u64 {
            index.forget(record(number, State::Queued).id, Offset(number));
        }
        assert_eq!(index.get(record(0, State::Queued).id).err(), Some(Error::NoCall));
        assert_eq!(index.get(record(1, State::Queued).id).err(), Some(Error::Gone));
    }
}
