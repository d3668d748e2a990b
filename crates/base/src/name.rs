//! What a queue, topic, subscription or route may be called: checked once, here.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::limits::NAME_BYTES_MAX;

/// A checked name: 1 to [`NAME_BYTES_MAX`] bytes of ASCII letters, digits and `._-:/@%+=~,!`; a leading `$` is
/// reserved for Waystation's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Name(SmolStr);

/// The queue for replies to asynchronous calls: the one name of Waystation's own that clients publish to, by every door and from
/// every virtual host.
pub const CALL_REPLIES: &str = "$calls.replies";

/// What the address of somebody who waits for a reply at the AMQP 0-9-1 door begins with (direct reply-to): no queue stands behind it.
pub const DIRECT_REPLY_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// The queue of replies to such addresses from outside that door, which hands them over; `reply-to` of each says to whom.
pub const DIRECT_REPLIES: &str = "$replies.direct";

/// What the name of a topic begins with that one subscription alone reads, beside what it is declared for: dead letters of the
/// subscription come back by it, and to nobody else.
pub const REDRIVEN_PREFIX: &str = "$redriven.";

/// Topics of Waystation's own that may be subscribed to by their names: what they tell is meant for others.
pub const TOLD: [&str; 2] = ["$alerts", "$audit"];

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was given.
    #[error("a name must have at least 1 character")]
    Empty,
    /// Past [`NAME_BYTES_MAX`].
    #[error("a name may have at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A character outside the set.
    #[error(
        "character {found:?} at byte {at} is not allowed in a name: use ASCII letters, digits and any of ._-:/@%+=~,!"
    )]
    Character {
        /// The character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
    /// Starts with `$`.
    #[error("names that start with '$' are reserved")]
    Reserved,
    /// An empty, `.` or `..` part between slashes.
    #[error("a name may not have an empty, '.' or '..' part between slashes")]
    Part,
}

impl Name {
    /// Checks a name from outside.
    pub fn new(text: impl AsRef<str>) -> Result<Name, Error> {
        let text = text.as_ref();
        if text.starts_with('$') { Err(Error::Reserved) } else { Name::check(text, text) }
    }

    /// Checks a name of Waystation's own; it must start with `$`.
    pub fn reserved(text: impl AsRef<str>) -> Result<Name, Error> {
        let text = text.as_ref();
        // What comes back to a subscription of Waystation's own is named after that.
        let own = text.strip_prefix(REDRIVEN_PREFIX).and_then(|name| name.strip_prefix('$'));
        Name::check(text, own.or_else(|| text.strip_prefix('$')).ok_or(Error::Reserved)?)
    }

    /// The topic by which dead letters come back to a subscription of this name.
    pub fn redriven(&self) -> Result<Name, Error> {
        Name::reserved(format!("{REDRIVEN_PREFIX}{self}"))
    }

    /// Of such a topic: the subscription.
    pub fn redriven_to(&self) -> Option<&str> {
        self.0.strip_prefix(REDRIVEN_PREFIX)
    }

    fn check(whole: &str, text: &str) -> Result<Name, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if whole.len() > NAME_BYTES_MAX {
            return Err(Error::TooLong(whole.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:/@%+=~,!".contains(c);
        if let Some((at, found)) = text.char_indices().find(|(_, c)| !allowed(*c)) {
            return Err(Error::Character { found, at: at + whole.len() - text.len() });
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::Part);
        }
        Ok(Name(SmolStr::new(whole)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of Waystation's own (`$…`).
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl TryFrom<SmolStr> for Name {
    type Error = Error;

    fn try_from(text: SmolStr) -> Result<Name, Error> {
        if text.starts_with('$') { Name::reserved(&text) } else { Name::new(&text) }
    }
}

impl From<Name> for SmolStr {
    fn from(name: Name) -> SmolStr {
        name.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Name, Error> {
        Name::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Whether `name` matches `pattern`, word by word between dots: `*` stands for one word, `#` for none or more
/// (the topic exchange's rule, AMQP 0-9-1 §3.1.3.3).
pub fn matches(pattern: &str, name: &str) -> bool {
    fn words(pattern: &[&str], name: &[&str]) -> bool {
        // Greedy with one point of return, so that many '#' do not cost exponential time.
        let (mut p, mut n, mut back) = (0, 0, None);
        while n < name.len() {
            if p < pattern.len() && pattern[p] == "#" {
                back = Some((p, n));
                p += 1;
            } else if p < pattern.len() && (pattern[p] == "*" || pattern[p] == name[n]) {
                p += 1;
                n += 1;
            } else if let Some((hash, taken)) = back {
                p = hash + 1;
                n = taken + 1;
                back = Some((hash, n));
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|word| *word == "#")
    }
    let pattern: Vec<&str> = self::words(pattern).collect();
    let name: Vec<&str> = self::words(name).collect();
    words(&pattern, &name)
}

/// The words between the dots of a key or pattern. An empty text has none, though `.` has two empty ones (as RabbitMQ
/// counts them: `*` does not match the empty key).
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('.').filter(|_| !text.is_empty())
}

/// Whether a text is a pattern for [`matches`] rather than a plain name.
pub fn is_pattern(text: &str) -> bool {
    text.split('.').any(|word| word == "*" || word == "#")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), Error>) {
        assert_eq!(Name::new(text).map(|_| ()), expected, "{text:?}");
    }

    #[test]
    fn names_are_checked_for_length_characters_and_reserved_prefix() {
        check("orders.eu-west/late_ones:1", Ok(()));
        check("a@b%2F+c=d~e,f!", Ok(()));
        check("", Err(Error::Empty));
        check(&"x".repeat(NAME_BYTES_MAX), Ok(()));
        check(&"x".repeat(NAME_BYTES_MAX + 1), Err(Error::TooLong(NAME_BYTES_MAX + 1)));
        check("a b", Err(Error::Character { found: ' ', at: 1 }));
        check("ä", Err(Error::Character { found: 'ä', at: 0 }));
        check("$alerts", Err(Error::Reserved));
        check("a//b", Err(Error::Part));
        check("../b", Err(Error::Part));
        assert!(Name::reserved("$alerts").is_ok_and(|name| name.is_reserved()));
    }

    #[test]
    fn a_subscription_has_a_topic_for_what_comes_back() {
        let topic = Name::new("shop/board").expect("a name").redriven().expect("a name");
        assert_eq!((topic.as_str(), topic.redriven_to()), ("$redriven.shop/board", Some("shop/board")));
        let own = Name::reserved("$routes.r").expect("a name").redriven().expect("a name");
        assert_eq!((own.as_str(), own.redriven_to()), ("$redriven.$routes.r", Some("$routes.r")));
        assert!(Name::reserved("$redriven.$").is_err() && Name::reserved("$redriven.a$").is_err());
        assert_eq!(Name::new("board").expect("a name").redriven_to(), None);
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert!(Name::new(&longest).expect("a name").redriven().is_err());
    }

    #[test]
    fn patterns_match_word_by_word() {
        for (pattern, name, expected) in [
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders", false),
            ("orders.*", "orders.eu.late", false),
            ("orders.#", "orders", true),
            ("orders.#", "orders.eu.late", true),
            ("#.late", "orders.eu.late", true),
            ("#.late", "late", true),
            ("#.eu.#.late", "a.eu.b.eu.late", true),
            ("*", "", false),
            ("#", "", true),
            ("", "", true),
            ("*.*", ".", true),
            ("a.*.b", "a..b", true),
            ("a.#.#.b", "a.b", true),
            ("a.#.c.b", "a.b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
