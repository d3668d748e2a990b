//! Is each aggregate whole, and only once, and what leaves a resequencer in the order of its numbers? Told by what came to the queue of such a
//! step, and by what left it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use waystation_base::{Message, MessageId, Value, message::header};

use crate::{
    doc::Doc,
    hold::Hold,
    plan::{Place, Plan},
};

/// What the error of a late message begins with.
const LATE: &str = "it came after";

/// See the module.
pub struct Holds {
    plan: Arc<Plan>,
    groups: BTreeMap<(usize, String), Group>,
    /// What left in the present step.
    left: BTreeMap<(usize, String), Left>,
    /// Ids of what came to the sources of such routes: what a step holds has another one.
    seen: BTreeSet<MessageId>,
    /// Aggregates and numbered messages that left, those for whose time was up among them, and late ones.
    pub whole: u64,
    pub timed_out: u64,
    pub late: u64,
}

/// What left in one step: to where it should, and to the dead letters instead, or since it was late.
#[derive(Default)]
struct Left {
    whole: VecDeque<Message>,
    given_up: VecDeque<Message>,
    late: VecDeque<Message>,
}

/// What belongs together.
#[derive(Default)]
struct Group {
    came: Vec<Came>,
    /// So many of those left, in their order.
    gone: usize,
    /// One was complete, or given up.
    was_complete: bool,
    /// The last number that left.
    last: u64,
}

struct Came {
    doc: Doc,
    id: String,
    at: u64,
    /// A numbered one has left.
    left: bool,
}

/// When a message was stored: its id says so.
fn stored_at(message: &Message) -> u64 {
    message.id.as_bytes()[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))
}

/// The ids of what an aggregate is made of.
fn parents(message: &Message) -> Vec<Value> {
    match message.headers.get("ws-parents") {
        Some(Value::List(parents)) => parents.clone(),
        other => panic!("the parents of an aggregate are {other:?}"),
    }
}

fn is_late(message: &Message) -> bool {
    message.headers.text(header::DEATH_ERROR).is_some_and(|error| error.starts_with(LATE))
}

impl Holds {
    pub fn new(plan: Arc<Plan>) -> Holds {
        Holds {
            plan,
            groups: BTreeMap::new(),
            left: BTreeMap::new(),
            seen: BTreeSet::new(),
            whole: 0,
            timed_out: 0,
            late: 0,
        }
    }

    /// A message lies in a place from now on; no note of a step.
    pub fn come(&mut self, place: Place, message: &Message) {
        let (Place::Source(number) | Place::Held(number) | Place::Whole(number) | Place::Dead(number)) =
            place
        else {
            return;
        };
        let plan = self.plan.clone();
        let Some(hold) = plan.routes[number].hold() else { return };
        let key = (number, hold.key(&Doc::all_of(message)[0]));
        match place {
            Place::Source(_) => drop(self.seen.insert(message.id)),
            Place::Held(_) => self.held(number, hold, message),
            Place::Whole(_) => self.left.entry(key).or_default().whole.push_back(message.clone()),
            // It failed before it was held.
            _ if self.seen.contains(&message.id) => {}
            _ if is_late(message) => self.left.entry(key).or_default().late.push_back(message.clone()),
            _ => self.left.entry(key).or_default().given_up.push_back(message.clone()),
        }
    }

    /// Looks at what left in one step: its entries are in the order of the places.
    pub fn end_step(&mut self) {
        let plan = self.plan.clone();
        for ((number, key), Left { mut whole, mut given_up, late }) in std::mem::take(&mut self.left) {
            let hold = plan.routes[number].hold().expect("a step");
            while let Some(message) = match self.is_next(&(number, key.clone()), hold, &whole, &given_up) {
                true => whole.pop_front(),
                false => given_up.pop_front().or_else(|| whole.pop_front()),
            } {
                match message.headers.get(header::DEATH_REASON) {
                    Some(_) => self.given_up(number, hold, &message),
                    None if hold.is_resequencer() => self.in_order(number, hold, &message),
                    None => self.whole(number, hold, &message),
                }
            }
            late.iter().for_each(|message| self.late(number, hold, message));
        }
    }

    /// Whether what is whole comes before what was given up.
    fn is_next(
        &self,
        key: &(usize, String),
        hold: &Hold,
        whole: &VecDeque<Message>,
        given_up: &VecDeque<Message>,
    ) -> bool {
        let (Some(first), Some(other)) = (whole.front(), given_up.front()) else {
            return given_up.is_empty();
        };
        if hold.is_resequencer() {
            return Doc::of(first).number < Doc::of(other).number;
        }
        let came = self.groups.get(key).and_then(|group| group.came.get(group.gone));
        came.is_some_and(|came| parents(first).first() == Some(&Value::from(came.id.as_str())))
    }

    fn held(&mut self, number: usize, hold: &Hold, message: &Message) {
        let doc = Doc::of(message);
        assert_eq!(message.headers.text("ws-hold-key"), Some(hold.key(&doc).as_str()), "{doc:?}");
        let (id, at) = (message.id.to_string(), stored_at(message));
        self.group(number, hold, &doc).came.push(Came { doc, id, at, left: false });
    }

    fn group(&mut self, number: usize, hold: &Hold, doc: &Doc) -> &mut Group {
        self.groups.entry((number, hold.key(doc))).or_default()
    }

    /// An aggregate: what came next of its key, and no more and no less than makes it complete.
    fn whole(&mut self, number: usize, hold: &Hold, message: &Message) {
        let docs = Doc::all_of(message);
        let what = format!("an aggregate of r{number} of {docs:?}");
        let group = self.group(number, hold, &docs[0]);
        assert!(!group.was_complete || hold.late_is_own, "{what} is the second of its key");
        let members = &group.came[group.gone..][..docs.len()];
        let parents = parents(message);
        let ids: Vec<Value> = members.iter().map(|came| Value::from(came.id.as_str())).collect();
        assert_eq!(parents, ids, "{what} is of what came first of its key");
        let known: Vec<Doc> = members.iter().map(|came| came.doc.clone()).collect();
        assert!(known.iter().zip(&docs).all(|(one, other)| one.n == other.n), "{what} is of {known:?}");
        assert!(!hold.fails(&known), "{what} should have failed");
        let was_early = (1..known.len()).any(|count| hold.is_complete(&known[..count]));
        assert!(!was_early, "{what} was complete before");
        let is_late = match message.headers.text("ws-aggregate-end") {
            Some("size" | "condition") => {
                assert!(hold.is_complete(&known), "{what} is not complete");
                false
            }
            Some("timeout") => {
                assert!(!hold.is_complete(&known), "{what} was complete before its time was up");
                let (at, since) = (stored_at(message), members[0].at);
                assert!(at >= since + hold.timeout_ms, "{what} came at {at}, its first at {since}");
                true
            }
            other => panic!("{what} ended with {other:?}"),
        };
        group.gone += docs.len();
        group.was_complete = true;
        self.whole += 1;
        self.timed_out += u64::from(is_late);
    }

    /// A numbered message: after all smaller ones but for those that were given up in time.
    fn in_order(&mut self, number: usize, hold: &Hold, message: &Message) {
        let doc = Doc::of(message);
        assert!(!hold.fails(std::slice::from_ref(&doc)), "{doc:?} should have failed");
        self.whole += 1;
        let gap = self.release(number, hold, &doc, stored_at(message));
        let missed = message.headers.get("ws-sequence-missed").and_then(Value::as_i64).unwrap_or_default();
        assert_eq!(missed, gap as i64, "numbers missing before {doc:?} from r{number}");
    }

    /// Numbers that are missing before it.
    fn release(&mut self, number: usize, hold: &Hold, doc: &Doc, at: u64) -> u64 {
        let group = self.group(number, hold, doc);
        let last = std::mem::replace(&mut group.last, doc.number);
        assert!(doc.number > last, "{doc:?} left r{number} after number {last}");
        let gap = doc.number - last - 1;
        let mut waiting = group.came.iter().filter(|came| !came.left && came.doc.number > last);
        let waited = waiting.any(|came| came.at + hold.timeout_ms <= at);
        assert!(gap == 0 || waited, "{doc:?} left r{number} at {at} though nothing had waited for {last}");
        let came = group.came.iter_mut().find(|came| !came.left && came.doc == *doc);
        came.unwrap_or_else(|| panic!("{doc:?} left r{number} and had not come")).left = true;
        self.timed_out += u64::from(gap > 0);
        gap
    }

    /// A dead letter for what was held, and came later than it could leave.
    fn late(&mut self, number: usize, hold: &Hold, message: &Message) {
        let doc = Doc::of(message);
        let group = self.group(number, hold, &doc);
        let mut others = group.came.iter().filter(|came| came.doc.number == doc.number);
        let is_late = match hold.is_resequencer() {
            true => doc.number <= group.last || others.any(|came| came.doc.n != doc.n),
            false => group.was_complete && !hold.late_is_own,
        };
        assert!(is_late, "{doc:?} was not too late for r{number}");
        let rest = if hold.is_resequencer() { 0 } else { group.gone };
        let came = group.came[rest..].iter_mut().find(|came| !came.left && came.doc == doc);
        came.unwrap_or_else(|| panic!("{doc:?} had not come to r{number}")).left = true;
        self.late += 1;
    }

    /// A dead letter in the place of what would have left.
    fn given_up(&mut self, number: usize, hold: &Hold, message: &Message) {
        let doc = Doc::of(message);
        if hold.is_resequencer() {
            self.release(number, hold, &doc, stored_at(message));
            return;
        }
        let group = self.group(number, hold, &doc);
        let next = group.came.get(group.gone).map(|came| &came.doc);
        assert_eq!(next, Some(&doc), "a dead letter of r{number} is of what came next of its key");
        group.gone += 1;
        group.was_complete = true;
    }
}
