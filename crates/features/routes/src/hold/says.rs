//! What does a message on a step's own queue say of itself? In headers, so that no program need run again when it comes back.

use smol_str::SmolStr;
use waystation_base::{Headers, Millis, Tag, Value};

const KEY: &str = "ws-hold-key";
const ROLE: &str = "ws-hold-role";
const NUMBER: &str = "ws-hold-number";

const STEP: &str = "ws-hold-step";
const ERROR: &str = "ws-hold-error";
const REPLIES: &str = "ws-hold-replies";
const SINCE: &str = "ws-hold-since";
const NEXT: &str = "ws-hold-next";
const OF: &str = "ws-hold-of";

/// How many messages an aggregate has.
pub const SIZE: &str = "ws-aggregate-size";
/// What made an aggregate complete: `size`, `condition`, `timeout` or `full`.
pub const END: &str = "ws-aggregate-end";
/// What an aggregate belongs to.
pub const GROUP: &str = "ws-aggregate-key";
/// The ids of the messages that an aggregate is made of, up to [`PARENTS_MAX`].
pub const PARENTS: &str = "ws-parents";
/// How many of them are named.
pub const PARENTS_MAX: usize = 256;
/// Of a message that went on past a gap: how many numbers were given up.
pub const MISSED: &str = "ws-sequence-missed";

/// What a held message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part of a group; the number: how many there are, if it says so.
    Member,
    /// Part of a group that is complete with it.
    Last,
    /// What members answer to; the number: how many it waits for.
    Opener,
    /// Part of a sequence, with its number.
    Numbered,
    /// Says how it stands with a key; the number: until when a group is known, or what is next in a sequence.
    Marker,
    /// A group is given up, and not all of it is stored yet; the number: the offset of its last message.
    GivenUp,
    /// What is due of a key was tried in vain; the number: how often.
    Tried,
}

const ROLES: &[(&str, Role)] = &[
    ("member", Role::Member),
    ("last", Role::Last),
    ("opener", Role::Opener),
    ("numbered", Role::Numbered),
    ("marker", Role::Marker),
    ("given_up", Role::GivenUp),
    ("tried", Role::Tried),
];

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Says {
    pub key: SmolStr,
    pub role: Role,
    pub number: Option<u64>,
}

impl Says {
    /// Writes it.
    pub fn put(&self, headers: &mut Headers) {
        let word = ROLES.iter().find(|(_, role)| *role == self.role).map_or("", |(word, _)| word);
        headers.set(KEY, self.key.as_str());
        headers.set(ROLE, word);
        match self.number {
            Some(number) => headers.set(NUMBER, Value::U64(number)),
            None => headers.remove(NUMBER),
        }
    }

    /// Reads it.
    pub fn read(headers: &Headers) -> Option<Says> {
        let word = headers.text(ROLE)?;
        let (_, role) = ROLES.iter().find(|(known, _)| *known == word)?;
        let number = headers.get(NUMBER).and_then(whole);
        let is_whole = number.is_some() || matches!(role, Role::Member | Role::Last);
        is_whole.then_some(Says { key: headers.text(KEY)?.into(), role: *role, number })
    }

    /// Takes it away.
    pub fn strip(headers: &mut Headers) {
        for name in [KEY, ROLE, NUMBER] {
            headers.remove(name);
        }
    }
}

/// A group that is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp<'a> {
    pub key: SmolStr,
    /// The offset of its last message in the step's queue.
    pub last: u64,
    /// Its last reply in each log of the queue for replies.
    pub replies: Vec<Tag>,
    /// Which step failed.
    pub step: &'a str,
    /// Why.
    pub error: &'a str,
}

impl<'a> GivenUp<'a> {
    /// Writes it.
    pub fn put(&self, headers: &mut Headers) {
        Says { key: self.key.clone(), role: Role::GivenUp, number: Some(self.last) }.put(headers);
        headers.set(STEP, self.step);
        headers.set(ERROR, self.error);
        if !self.replies.is_empty() {
            headers.set(REPLIES, Value::List(self.replies.iter().map(|tag| Value::U64(tag.0)).collect()));
        }
    }

    /// Reads it, of what says that it is one.
    pub fn read(says: &Says, headers: &'a Headers) -> GivenUp<'a> {
        let text = |name| headers.text(name).unwrap_or_default();
        let last = says.number.unwrap_or_default();
        let replies = match headers.get(REPLIES) {
            Some(Value::List(tags)) => tags.iter().filter_map(whole).map(Tag).collect(),
            _ => Vec::new(),
        };
        GivenUp { key: says.key.clone(), last, replies, step: text(STEP), error: text(ERROR) }
    }

    /// Whether a reply was there when it was given up.
    pub fn had(replies: &[Tag], reply: Tag) -> bool {
        replies.iter().any(|last| last.log() == reply.log() && reply.offset() <= last.offset())
    }
}

/// How something was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tries {
    pub key: SmolStr,
    /// How often, in vain.
    pub times: u32,
    /// Since when.
    pub since: Millis,
    /// When it is to be tried next.
    pub next: Millis,
    /// The offset of its first message in the step's queue.
    pub of: u64,
}

impl Tries {
    /// Writes it.
    pub fn put(&self, headers: &mut Headers) {
        Says { key: self.key.clone(), role: Role::Tried, number: Some(self.times.into()) }.put(headers);
        for (name, number) in [(SINCE, self.since.0), (NEXT, self.next.0), (OF, self.of)] {
            headers.set(name, Value::U64(number));
        }
    }

    /// Reads it, of what says that it is such a note.
    pub fn read(says: &Says, headers: &Headers) -> Option<Tries> {
        let number = |name| headers.get(name).and_then(whole);
        let times = says.number.and_then(|times| u32::try_from(times).ok())?;
        let (since, next) = (Millis(number(SINCE)?), Millis(number(NEXT)?));
        Some(Tries { key: says.key.clone(), times, since, next, of: number(OF)? })
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::U64(number) => Some(*number),
        other => other.as_i64().and_then(|number| u64::try_from(number).ok()),
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::Offset;

    use super::*;

    #[test]
    fn what_is_noted_of_a_group_that_is_given_up_comes_back() {
        let tag = |log, offset| Tag::new(log, Offset(offset));
        for replies in [Vec::new(), vec![tag(0, 4), tag(300, 2)]] {
            let (key, step, error) = ("k".into(), "steps[0].aggregate", "too large");
            let note = GivenUp { key, last: 7, replies, step, error };
            let mut headers = Headers::default();
            note.put(&mut headers);
            let says = Says::read(&headers).expect("it says so");
            assert_eq!((says.role, GivenUp::read(&says, &headers)), (Role::GivenUp, note));
        }
        let had = |reply| GivenUp::had(&[tag(0, 4), tag(300, 2)], reply);
        assert!(had(tag(0, 4)) && had(tag(300, 0)));
        assert!(!had(tag(0, 5)) && !had(tag(300, 3)) && !had(tag(9, 0)));
    }

    #[test]
    fn what_is_noted_of_tries_comes_back() {
        let note = Tries { key: "k".into(), times: 3, since: Millis(5), next: Millis(u64::MAX), of: 9 };
        let mut headers = Headers::default();
        note.put(&mut headers);
        let says = Says::read(&headers).expect("it says so");
        assert_eq!(says.role, Role::Tried);
        assert_eq!(Tries::read(&says, &headers), Some(note));
        headers.remove(OF);
        assert_eq!(Tries::read(&says, &headers), None);
    }

    #[test]
    fn what_a_message_says_comes_back_and_goes_without_a_trace() {
        for (_, role) in ROLES {
            for number in [None, Some(7), Some(i64::MAX as u64)] {
                let says = Says { key: "k ä".into(), role: *role, number };
                let mut headers = Headers::default();
                says.put(&mut headers);
                let is_whole = number.is_some() || matches!(role, Role::Member | Role::Last);
                assert_eq!(Says::read(&headers), is_whole.then_some(says));
                Says::strip(&mut headers);
                assert_eq!(headers, Headers::default());
            }
        }
    }
}
