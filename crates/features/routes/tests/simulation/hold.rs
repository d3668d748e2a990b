//! Steps that hold messages: drawn and declared, and what a model says of when a group is complete.

use serde_json::{Value, json};
use waystation_testkit::random::Random;

use crate::{doc::Doc, plan::Ask};

/// Numbers of messages that belong together: so many follow each other.
const TOGETHER: u64 = 6;
/// Virtual milliseconds that groups and gaps wait at most.
const TIMEOUT_MS_MAX: u64 = 250;

/// An aggregator or a resequencer, and what follows it.
#[derive(Debug)]
pub struct Hold {
    pub kind: Kind,
    pub timeout_ms: u64,
    /// Late ones begin a group of their own; else they are dead letters.
    pub late_is_own: bool,
    /// What is behind it fails for what holds so many, or whose `a` is that.
    fails: Option<u64>,
}

#[derive(Debug)]
pub enum Kind {
    /// What does not pass ends before.
    Aggregate(Option<Ask>, Rule),
    Resequence,
}

/// When a group is complete before its time is up.
#[derive(Debug)]
pub enum Rule {
    Size(u64),
    /// As its last message says.
    Count,
    When(Ask),
}

impl Hold {
    pub fn draw(random: &mut Random) -> Hold {
        let kind = if random.one_in(3) {
            Kind::Resequence
        } else {
            let rule = match random.below(3) {
                0 => Rule::Size(random.range(1, 4)),
                1 => Rule::Count,
                _ => Rule::When(Ask::draw(random)),
            };
            Kind::Aggregate(random.maybe(30, Ask::draw), rule)
        };
        let late_is_own = matches!(kind, Kind::Aggregate(..)) && random.one_in(2);
        let (timeout_ms, fails) = (random.range(20, TIMEOUT_MS_MAX), random.maybe(40, |it| it.range(1, 3)));
        Hold { kind, timeout_ms, late_is_own, fails }
    }

    pub fn is_resequencer(&self) -> bool {
        matches!(self.kind, Kind::Resequence)
    }

    /// Whether a message comes to be held.
    pub fn takes(&self, doc: &Doc) -> bool {
        match &self.kind {
            Kind::Aggregate(Some(ask), _) => ask.holds(doc),
            _ => true,
        }
    }

    /// The word that its queue ends with.
    pub fn word(&self) -> &'static str {
        match self.kind {
            Kind::Aggregate(..) => "aggregate",
            Kind::Resequence => "resequence",
        }
    }

    /// The group of a message.
    pub fn key(&self, doc: &Doc) -> String {
        match self.kind {
            Kind::Aggregate(..) => (doc.n / TOGETHER).to_string(),
            Kind::Resequence => doc.line.to_string(),
        }
    }

    /// What is declared; `to`: where it sends.
    pub fn steps(&self, to: &str) -> Vec<Value> {
        let late = if self.late_is_own { "own" } else { "dead_letter" };
        let (mut steps, timeout_ms) = (Vec::new(), self.timeout_ms);
        match &self.kind {
            Kind::Resequence => steps.push(json!({"resequence": {
                "key": ".line", "number": ".number", "timeout_ms": timeout_ms, "late": late,
            }})),
            Kind::Aggregate(ask, rule) => {
                steps.extend(ask.iter().map(|ask| json!({"filter": ask.condition()})));
                let mut spec = json!({
                    "key": format!(".n / {TOGETHER} | floor"), "timeout_ms": timeout_ms, "late": late,
                });
                let (name, value) = match rule {
                    Rule::Size(size) => ("size", json!(size)),
                    Rule::Count => ("count", json!(".a % 3 + 2")),
                    Rule::When(ask) => ("when", ask.condition()),
                };
                spec[name] = value;
                steps.push(json!({"aggregate": spec}));
            }
        }
        let count = if self.is_resequencer() { ".a" } else { "length" };
        steps.extend(self.fails.map(|fails| {
            let body = format!("if {count} == {fails} then error(\"no good\") else . end");
            json!({"transform": {"body": body}})
        }));
        steps.push(json!({"to": to}));
        steps
    }

    /// Whether what is behind it fails.
    pub fn fails(&self, docs: &[Doc]) -> bool {
        let count = match (&self.kind, docs) {
            (Kind::Resequence, [doc, ..]) => doc.a,
            _ => docs.len() as u64,
        };
        self.fails == Some(count)
    }

    /// Whether these are a whole group; none: by a message that says so.
    pub fn is_complete(&self, docs: &[Doc]) -> bool {
        let Kind::Aggregate(_, rule) = &self.kind else { return false };
        let Some(last) = docs.last() else { return false };
        match rule {
            Rule::Size(size) => docs.len() as u64 >= *size,
            Rule::Count => docs.len() as u64 >= last.a % 3 + 2,
            Rule::When(ask) => ask.holds(last),
        }
    }
}
