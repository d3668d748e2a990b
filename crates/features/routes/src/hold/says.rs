//! What does a message on a step's own queue say of itself? In headers, so that no program need run again when it comes back.

use smol_str::SmolStr;
use waystation_base::{Headers, Value};

const KEY: &str = "ws-hold-key";
const ROLE: &str = "ws-hold-role";
const NUMBER: &str = "ws-hold-number";

const STEP: &str = "ws-hold-step";
const ERROR: &str = "ws-hold-error";

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
}

const ROLES: &[(&str, Role)] = &[
    ("member", Role::Member),
    ("last", Role::Last),
    ("opener", Role::Opener),
    ("numbered", Role::Numbered),
    ("marker", Role::Marker),
    ("given_up", Role::GivenUp),
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
        let number =
            headers.get(NUMBER).and_then(Value::as_i64).and_then(|number| u64::try_from(number).ok());
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
    }

    /// Reads it, of what says that it is one.
    pub fn read(says: &Says, headers: &'a Headers) -> GivenUp<'a> {
        let text = |name| headers.text(name).unwrap_or_default();
        let last = says.number.unwrap_or_default();
        GivenUp { key: says.key.clone(), last, step: text(STEP), error: text(ERROR) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_of_a_group_that_is_given_up_comes_back() {
        let note = GivenUp { key: "k".into(), last: 7, step: "steps[0].aggregate", error: "too large" };
        let mut headers = Headers::default();
        note.put(&mut headers);
        let says = Says::read(&headers).expect("it says so");
        assert_eq!((says.role, GivenUp::read(&says, &headers)), (Role::GivenUp, note));
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
