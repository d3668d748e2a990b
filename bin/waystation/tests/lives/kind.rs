//! What messages there are, and where one of each kind may be.

use waystation_base::Message;

use crate::{
    census::Census,
    server::{HOLD, HOLD_ASK, HOLD_LINE},
};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is put together with others.
    Sum,
    /// Somebody works on it, and it may fail, die, and be brought back.
    Work,
    /// It is told to a subscription.
    News,
    /// It is divided into three.
    Parts,
    /// The route cannot do its steps with it.
    Bad,
    /// It has a number, and leaves in the order of these.
    Line,
    /// Somebody is asked, and replies.
    Ask,
    /// A service is asked about it.
    Look,
}

impl Kind {
    /// All, each as messages say it.
    pub const ALL: [(Kind, &str); 8] = [
        (Kind::Sum, "sum"),
        (Kind::Work, "work"),
        (Kind::News, "news"),
        (Kind::Parts, "parts"),
        (Kind::Bad, "bad"),
        (Kind::Line, "line"),
        (Kind::Ask, "ask"),
        (Kind::Look, "look"),
    ];

    /// What a message says of itself.
    pub fn of(message: &Message) -> Kind {
        let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
        let found = Kind::ALL.into_iter().find(|(_, text)| body["kind"] == *text);
        found.unwrap_or_else(|| panic!("no kind: {body}")).0
    }
}

/// Whether the broker said that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It did.
    Surely,
    /// It was asked for, and nothing was heard.
    Perhaps,
}

/// Asserts that a message is in one place, and in one only; `accepted`: whether a consumer acknowledged it.
pub fn check(n: u64, kind: Kind, sent: Known, accepted: Option<Known>, census: &Census) {
    let seen_by_consumers = |places: &[&str]| seen_by_consumers(census.sum(n, places), accepted);
    let seen = match kind {
        Kind::Sum => census.sum(n, &["in", "left", HOLD, "sums", "sum.dead"]),
        Kind::Bad => census.sum(n, &["in", "sort.dead"]),
        Kind::Line => census.sum(n, &["in", "numbered", HOLD_LINE, "ordered", "line.dead"]),
        Kind::Look => census.sum(n, &["in", "lookups", "found", "look.dead"]),
        Kind::Ask => {
            let asked = census.sum(n, &[HOLD_ASK, "answers", "ask.dead"]);
            let copies = census.sum(n, &["bank", "bank.dead", "quotes", "replies", "late"]);
            assert_eq!(copies, asked, "the request or reply of {n} is in {}", census.places(n));
            asked + census.sum(n, &["in", "asks"])
        }
        Kind::Parts => {
            let parts = census.count(n, "parts");
            assert!(parts == 0 || parts == 3, "{n} is in {}", census.places(n));
            census.count(n, "in") + parts / 3
        }
        Kind::Work => seen_by_consumers(&["in", "right", "right.dead"]),
        Kind::News => {
            let stored = census.sum(n, &["in", "news"]);
            assert!(stored <= 1, "{n} is in {}", census.places(n));
            let seen = seen_by_consumers(&["in", "readers", "readers.dead"]);
            assert_eq!(stored, seen, "{n} is in {}", census.places(n));
            seen
        }
    };
    let may_be = match sent {
        Known::Surely => 1..=1,
        Known::Perhaps => 0..=1,
    };
    assert!(may_be.contains(&seen), "{n} ({kind:?}, sent {sent:?}) is in {}", census.places(n));
}

/// In how many places a message is, if being acknowledged is one.
fn seen_by_consumers(there: u64, accepted: Option<Known>) -> u64 {
    match accepted {
        None => there,
        Some(Known::Surely) => there + 1,
        // It was acknowledged, or it is still there.
        Some(Known::Perhaps) => there.max(1),
    }
}
