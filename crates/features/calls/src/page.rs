//! How is a part of the index written down, so that a start need not read every call's record?
//!
//! A page is a message on the compacted topic [`crate::names::INDEX`]: all that stands in memory of the calls that were accepted
//! within an eighth of a second. A mark is the one message there that says how far the pages reach.
//!
//! ```text
//! page   version u8 = 1
//!        names   count, then each: length, bytes             operations that the calls below are of
//!        gone    count, then each: id (16 bytes)             calls that were forgotten, ascending
//!        calls   count, then each, ids ascending:
//!          id 16 bytes · state u8 · flags u8
//!          offset · due · version · attempt · name (its place among the names)
//!          held: tag · attempt          if HELD
//!          request: offset              if REQUEST
//!          key: scope, request          if KEY          16 bytes each
//!          correlation mark             if CORRELATION  16 bytes
//! mark   version u8 = 1 · the first offset on the topic of calls that the pages may not know
//! ```
//!
//! Counts, lengths and all numbers without a size are varints as in `waystation_base::varint`; what has a size is big-endian. Nothing may follow.
//! Pages are made from records and may be thrown away: whoever cannot read one reads all records.

use bytes::Bytes;
use waystation_base::{
    Attempt, MessageId, Millis, Name, Offset, Tag,
    varint::{self, put, put_prefixed, take, take_bytes, take_prefixed},
};

use crate::{CallId, Held, Key, State};

const VERSION: u8 = 1;
/// Milliseconds of acceptance that a page is about, as a power of two: some thousand calls where as many come as can, so that
/// writing one holds up nobody for long.
const SPAN_BITS: u32 = 7;
const MARK_KEY: &[u8] = b"mark";

const HELD: u8 = 1;
const REQUEST: u8 = 2;
const KEY: u8 = 4;
const CORRELATION: u8 = 8;
const RETRIED: u8 = 16;
const FLAGS: u8 = HELD | REQUEST | KEY | CORRELATION | RETRIED;

/// Bytes of the shortest call: id, state, flags and five numbers.
const CALL_BYTES_MIN: usize = 23;
/// Bytes of the longest one, for bounds of pages that are being made.
pub(crate) const CALL_BYTES_MAX: usize = 16 + 2 + 8 * varint::BYTES_MAX + 48;

/// Why bytes are no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A number or length that cannot be read.
    #[error(transparent)]
    Varint(#[from] varint::Error),
    /// Another version's.
    #[error("version {0} is not known, {VERSION} is")]
    Version(u8),
    /// A count past what the bytes can hold.
    #[error("a count points outside the input")]
    Count,
    /// An operation's name that is none, or a call of an operation that is not among the names.
    #[error("an operation's name is wrong")]
    Name,
    /// A state or flag that is not known.
    #[error("a state or flag is not known")]
    Unknown,
    /// A mark that says more than there is: the topic lost records.
    #[error("the mark says {mark}, and the records end at {end}")]
    Ahead {
        /// What it says.
        mark: Offset,
        /// The offset that the next record will have.
        end: Offset,
    },
    /// Ids that do not ascend, or are not of this page.
    #[error("ids do not ascend")]
    Order,
    /// A number past its range.
    #[error("a number is out of range")]
    Range,
    /// Bytes after the end.
    #[error("bytes follow after the end")]
    Rest,
}

/// Which calls a page is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// The span that a call falls into.
    pub fn of(id: CallId) -> Span {
        Span(id.time().0 >> SPAN_BITS)
    }

    /// Its least and its greatest id.
    pub(crate) fn ids(self) -> std::ops::RangeInclusive<CallId> {
        let first = u128::from(self.0) << (80 + SPAN_BITS);
        let last = first | ((1 << (80 + SPAN_BITS)) - 1);
        let id = |number: u128| CallId(MessageId::from_bytes(number.to_be_bytes()));
        id(first)..=id(last)
    }

    /// The key of its page.
    pub(crate) fn key(self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_be_bytes())
    }
}

/// What a message on the topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Page(Span),
    Mark,
}

pub(crate) fn mark_key() -> Bytes {
    Bytes::from_static(MARK_KEY)
}

pub(crate) fn kind_of(key: Option<&Bytes>) -> Option<Kind> {
    let key = key?.as_ref();
    match <[u8; 8]>::try_from(key) {
        Ok(number) => Some(Kind::Page(Span(u64::from_be_bytes(number)))),
        Err(_) => (key == MARK_KEY).then_some(Kind::Mark),
    }
}

/// What is written of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Which.
    pub id: CallId,
    /// Where its record is.
    pub offset: Offset,
    /// Where its request is kept, if that is known.
    pub request: Option<Offset>,
    /// When it expires, or is forgotten.
    pub due: Millis,
    /// What the present worker holds.
    pub held: Option<Held>,
    /// Its operation's place among the page's names.
    pub name: usize,
    /// How many steps it has taken.
    pub version: u32,
    /// How often a worker has begun.
    pub attempt: u32,
    /// Where it stands.
    pub state: State,
    /// It was tried anew.
    pub is_retried: bool,
    /// Its idempotency key.
    pub key: Option<Key>,
    /// The mark of its caller's correlation id.
    pub correlation: Option<u128>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Operations.
    pub names: Vec<Name>,
    /// Calls that were forgotten.
    pub gone: Vec<CallId>,
    /// Calls.
    pub calls: Vec<Line>,
}

impl Page {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.calls.is_empty()
    }

    /// As bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.names.len() as u64);
        self.names.iter().for_each(|name| put_prefixed(&mut out, name.as_str().as_bytes()));
        put(&mut out, self.gone.len() as u64);
        self.gone.iter().for_each(|id| out.extend_from_slice(id.0.as_bytes()));
        put(&mut out, self.calls.len() as u64);
        self.calls.iter().for_each(|line| line.write(&mut out));
        out
    }

    /// From bytes, of the page about `span`.
    pub fn read(span: Span, mut input: &[u8]) -> Result<Page, Error> {
        let input = &mut input;
        check_version(input)?;
        let names = count(input, 1)?;
        let names = (0..names).map(|_| name(input)).collect::<Result<Vec<_>, _>>()?;
        let gone = count(input, 16)?;
        let gone = (0..gone).map(|_| id(input)).collect::<Result<Vec<_>, _>>()?;
        let calls = count(input, CALL_BYTES_MIN)?;
        let calls = (0..calls).map(|_| Line::read(input, names.len())).collect::<Result<Vec<_>, _>>()?;
        let ascend = gone.is_sorted_by(|a, b| a < b) && calls.is_sorted_by(|a, b| a.id < b.id);
        let is_here = |id: CallId| Span::of(id) == span;
        if !ascend || !gone.iter().copied().chain(calls.iter().map(|line| line.id)).all(is_here) {
            return Err(Error::Order);
        }
        if input.is_empty() { Ok(Page { names, gone, calls }) } else { Err(Error::Rest) }
    }
}

impl Line {
    fn write(&self, out: &mut Vec<u8>) {
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        out.extend_from_slice(self.id.0.as_bytes());
        out.push(self.state as u8);
        out.push(
            flag(self.held.is_some(), HELD)
                | flag(self.request.is_some(), REQUEST)
                | flag(self.key.is_some(), KEY)
                | flag(self.correlation.is_some(), CORRELATION)
                | flag(self.is_retried, RETRIED),
        );
        let numbers = [self.offset.0, self.due.0, self.version.into(), self.attempt.into(), self.name as u64];
        numbers.into_iter().for_each(|number| put(out, number));
        if let Some(Held { tag, attempt }) = self.held {
            put(out, tag.0);
            put(out, attempt.0.into());
        }
        if let Some(request) = self.request {
            put(out, request.0);
        }
        if let Some(Key { scope, request }) = self.key {
            out.extend_from_slice(&scope.to_be_bytes());
            out.extend_from_slice(&request.to_be_bytes());
        }
        if let Some(mark) = self.correlation {
            out.extend_from_slice(&mark.to_be_bytes());
        }
    }

    fn read(input: &mut &[u8], names: usize) -> Result<Line, Error> {
        let id = id(input)?;
        let head = take_bytes(input, 2)?;
        let state = *State::ALL.get(usize::from(head[0])).ok_or(Error::Unknown)?;
        let flags = head[1];
        if flags & !FLAGS != 0 {
            return Err(Error::Unknown);
        }
        let (offset, due) = (Offset(take(input)?), Millis(take(input)?));
        let (version, attempt) = (small(input)?, small(input)?);
        let name = usize::try_from(take(input)?).ok().filter(|name| *name < names).ok_or(Error::Name)?;
        let has = |flag: u8| flags & flag != 0;
        let held = match has(HELD) {
            true => Some(Held { tag: Tag(take(input)?), attempt: Attempt(small(input)?) }),
            false => None,
        };
        let request = if has(REQUEST) { Some(Offset(take(input)?)) } else { None };
        let key = match has(KEY) {
            true => Some(Key { scope: wide(input)?, request: wide(input)? }),
            false => None,
        };
        let correlation = if has(CORRELATION) { Some(wide(input)?) } else { None };
        let is_retried = has(RETRIED);
        Ok(Line {
            id,
            offset,
            request,
            due,
            held,
            name,
            version,
            attempt,
            state,
            is_retried,
            key,
            correlation,
        })
    }
}

/// A mark as bytes.
pub(crate) fn write_mark(end: Offset) -> Vec<u8> {
    let mut out = vec![VERSION];
    put(&mut out, end.0);
    out
}

/// A mark from bytes.
pub(crate) fn read_mark(mut input: &[u8]) -> Result<Offset, Error> {
    check_version(&mut input)?;
    let end = Offset(take(&mut input)?);
    if input.is_empty() { Ok(end) } else { Err(Error::Rest) }
}

fn check_version(input: &mut &[u8]) -> Result<(), Error> {
    match take_bytes(input, 1)?[0] {
        VERSION => Ok(()),
        other => Err(Error::Version(other)),
    }
}

/// How many things follow, of which each has so many bytes at least.
fn count(input: &mut &[u8], bytes_min: usize) -> Result<usize, Error> {
    let count = usize::try_from(take(input)?).map_err(|_| Error::Count)?;
    if count > input.len() / bytes_min { Err(Error::Count) } else { Ok(count) }
}

fn name(input: &mut &[u8]) -> Result<Name, Error> {
    let text = std::str::from_utf8(take_prefixed(input)?).map_err(|_| Error::Name)?;
    Name::new(text).map_err(|_| Error::Name)
}

fn small(input: &mut &[u8]) -> Result<u32, Error> {
    u32::try_from(take(input)?).map_err(|_| Error::Range)
}

fn wide(input: &mut &[u8]) -> Result<u128, Error> {
    let bytes = take_bytes(input, 16)?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
}

fn id(input: &mut &[u8]) -> Result<CallId, Error> {
    Ok(CallId(MessageId::from_bytes(wide(input)?.to_be_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_at(ms: u64, random: u128) -> CallId {
        CallId(MessageId::new(Millis(ms), random))
    }

    fn line(id: CallId) -> Line {
        Line {
            id,
            offset: Offset(1 << 40),
            request: None,
            due: Millis(1_700_000_000_000),
            held: None,
            name: 0,
            version: 3,
            attempt: 1,
            state: State::Succeeded,
            is_retried: false,
            key: None,
            correlation: None,
        }
    }

    fn full(id: CallId) -> Line {
        Line {
            request: Some(Offset(u64::MAX)),
            held: Some(Held { tag: Tag(u64::MAX), attempt: Attempt(u32::MAX) }),
            name: 1,
            state: State::Working,
            is_retried: true,
            key: Some(Key { scope: u128::MAX, request: 5 }),
            correlation: Some(7),
            due: Millis::NEVER,
            offset: Offset(u64::MAX),
            version: u32::MAX,
            attempt: u32::MAX,
            ..line(id)
        }
    }

    fn page() -> Page {
        let names = ["op", "other"].map(|name| Name::new(name).expect("a name")).to_vec();
        let at = |random: u128| id_at(1_024_000, random << 64);
        Page { names, gone: vec![at(1), at(2)], calls: vec![line(at(3)), full(at(4))] }
    }

    #[test]
    fn a_page_comes_back_and_no_part_of_it_does() {
        let (page, span) = (page(), Span::of(id_at(1_024_000, 0)));
        let bytes = page.write();
        assert_eq!(Page::read(span, &bytes), Ok(page.clone()));
        for end in 0..bytes.len() {
            assert!(Page::read(span, &bytes[..end]).is_err(), "{end}");
        }
        assert_eq!(Page::read(span, &[&bytes[..], &[0]].concat()), Err(Error::Rest));
        assert_eq!(Page::read(Span(span.0 + 1), &bytes), Err(Error::Order));
        assert_eq!(Page::read(span, &[2, 0, 0, 0]), Err(Error::Version(2)));
        assert_eq!(Page::read(span, &[1, 0, 0, 0]), Ok(Page::default()));
        assert_eq!(Page::read(span, &[1, 0, 0, 255, 255, 255, 255, 15]), Err(Error::Count));
        let (mut short, mut long) = (Vec::new(), Vec::new());
        let smallest =
            Line { offset: Offset(0), due: Millis(0), version: 0, attempt: 0, ..line(id_at(1, 1)) };
        smallest.write(&mut short);
        full(id_at(1, 1)).write(&mut long);
        assert_eq!(short.len(), CALL_BYTES_MIN);
        assert!(long.len() <= CALL_BYTES_MAX);
    }

    #[test]
    fn a_mark_comes_back_and_is_told_from_a_page_by_its_key() {
        let mark = write_mark(Offset(300));
        assert_eq!(read_mark(&mark), Ok(Offset(300)));
        assert!(read_mark(&mark[..1]).is_err() && read_mark(&[1, 0, 0]).is_err());
        assert_eq!(kind_of(Some(&mark_key())), Some(Kind::Mark));
        assert_eq!(kind_of(Some(&Span(7).key())), Some(Kind::Page(Span(7))));
        assert_eq!(kind_of(Some(&Bytes::from_static(b"x"))), None);
    }

    #[test]
    fn a_span_has_the_ids_of_its_time() {
        let span = Span::of(id_at(1_151, 9));
        assert_eq!(span, Span::of(id_at(1_024, 1)));
        let (first, last) = (*span.ids().start(), *span.ids().end());
        assert_eq!((Span::of(first), Span::of(last)), (span, span));
        assert_eq!((first.time(), last.time()), (Millis(1_024), Millis(1_151)));
    }
}
