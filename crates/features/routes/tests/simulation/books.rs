//! What the journal says, entry by entry: the account of every address, and what each message comes to as it lies.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use waystation_base::{Message, Position, message::header};
use waystation_broker::entry::Reason;
use waystation_journal::{FileJournal, Journal, Options, Preparation, Verify};
use waystation_testkit::{
    disk::SimDisk,
    model::{Accounts, Change, Lying},
};

use crate::{
    doc::Doc,
    holds::Holds,
    order::Orders,
    plan::{self, Place, Plan, Unit},
    world::DATA,
};

/// An entry: where, of what kind, and what it says.
pub type Written = (Position, u8, Vec<u8>);

/// What was seen in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Moments that were looked at.
    pub moments: u64,
    /// Messages whose time was over at the end of their way.
    pub expired: u64,
    /// Aggregates and numbered messages that steps let go.
    pub whole: u64,
    /// Of them, those that were let go since time was up.
    pub timed_out: u64,
    /// Those that came too late for that.
    pub late: u64,
}

/// See the module.
pub struct Books {
    accounts: Accounts,
    facts: Facts,
    /// All entries so far.
    pub written: Vec<Written>,
    end: Position,
}

struct Facts {
    plan: Arc<Plan>,
    is_calm: bool,
    orders: Orders,
    holds: Holds,
    /// Of each message that was sent, what it is to come to.
    expected: BTreeMap<u64, BTreeMap<Unit, i64>>,
    /// What it comes to as it lies, with what was taken at the end of its way.
    come_to: BTreeMap<u64, BTreeMap<Unit, i64>>,
    touched: BTreeSet<u64>,
    /// All that came.
    came: BTreeSet<u64>,
    moments: u64,
    /// How much lies where on its way still.
    under_way: BTreeMap<String, i64>,
    expired: u64,
}

impl Books {
    pub fn new(plan: Arc<Plan>, is_calm: bool) -> Books {
        let facts = Facts {
            orders: Orders::new(plan.clone(), is_calm),
            holds: Holds::new(plan.clone()),
            plan,
            is_calm,
            expected: BTreeMap::new(),
            come_to: BTreeMap::new(),
            touched: BTreeSet::new(),
            came: BTreeSet::new(),
            moments: 0,
            under_way: BTreeMap::new(),
            expired: 0,
        };
        Books { accounts: Accounts::default(), facts, written: Vec::new(), end: Position::default() }
    }

    /// A message may be sent to an address from now on.
    pub fn expect(&mut self, address: &str, doc: &Doc) {
        let mut units = BTreeMap::new();
        for unit in self.facts.plan.comes_to(address, doc) {
            *units.entry(unit).or_default() += 1;
        }
        self.facts.expected.insert(doc.n, units);
    }

    /// Reads what the journal has more than before, after a crash; panics where an account does not hold.
    pub fn read(&mut self, disk: &SimDisk) {
        let options = Options { preparation: Preparation::None, ..Options::default() };
        let dir = Path::new(DATA).join("journal");
        let opened = FileJournal::open(Arc::new(disk.clone()), &dir, options, Verify::All);
        let (journal, _) = opened.expect("it opens after any crash");
        assert!(journal.end() >= self.end, "what was there after a crash is there after the next one");
        let (from, mut entries) = (self.end, Vec::new());
        let scanned = journal.scan(from, &mut |entry| {
            entries.push((entry.position, entry.kind, entry.payload.to_vec()));
            ControlFlow::Continue(())
        });
        self.end = scanned.expect("the journal can be read");
        entries.iter().for_each(|entry| self.enter(entry));
        self.end_step();
        self.written.extend(entries);
    }

    /// Takes an entry.
    pub fn enter(&mut self, (position, kind, payload): &Written) {
        let facts = &mut self.facts;
        self.accounts.enter(*position, *kind, payload, &mut |change| facts.note(change));
    }

    /// Checks what has no moment behind it.
    pub fn end_step(&mut self) {
        let facts = &mut self.facts;
        self.accounts.end(self.end, &mut |change| facts.note(change));
    }

    /// Messages that the journal has.
    pub fn has(&self, n: u64) -> bool {
        self.facts.came.contains(&n)
    }

    /// Asserts that no message lies where some route is not done with it.
    pub fn check_end(&self) {
        let under_way: Vec<_> = self.facts.under_way.iter().filter(|(_, count)| **count != 0).collect();
        assert!(under_way.is_empty(), "messages that no route is done with: {under_way:?}");
    }

    /// Books of the same story in which nothing stands yet.
    pub fn anew(&self) -> Books {
        let mut books = Books::new(self.facts.plan.clone(), self.facts.is_calm);
        books.facts.expected = self.facts.expected.clone();
        books
    }

    /// What was seen.
    pub fn figures(&self) -> Figures {
        let Facts { moments, expired, holds, .. } = &self.facts;
        Figures {
            moments: *moments,
            expired: *expired,
            whole: holds.whole,
            timed_out: holds.timed_out,
            late: holds.late,
        }
    }
}

/// What lies in a place counts as this, each with the number of what it came from; and whether it is on its way there.
fn counted(plan: &Plan, place: Place, lying: &Lying) -> Option<(Vec<(u64, Unit)>, bool)> {
    let message = &lying.stored.message;
    let comes_to = |address: &str| {
        let doc = Doc::of(message);
        plan.comes_to(address, &doc).into_iter().map(|unit| (doc.n, unit)).collect()
    };
    let held =
        |number| Doc::all_of(message).into_iter().map(|doc| (doc.n, plan::held(number, doc))).collect();
    match place {
        Place::Other => None,
        Place::Held(_) if is_note(message) => None,
        Place::Source(number) => Some((comes_to(&plan::source(number)), true)),
        Place::Held(number) => Some((held(number), true)),
        // What could not be stored, or be worked on, is not at the end of its way: somebody brings it back.
        Place::Dead(number) if may_come_back(message) => Some((comes_to(&plan::source(number)), true)),
        Place::Dead(number) if plan.routes[number].hold().is_some() => Some((held(number), false)),
        Place::Whole(number) => Some((held(number), false)),
        Place::Dead(_) | Place::Sink => Some((comes_to(lying.name.as_str()), false)),
    }
}

/// Whether a message on a step's queue says something of others.
pub fn is_note(message: &Message) -> bool {
    let role = message.headers.text("ws-hold-role");
    role.is_some_and(|role| ["marker", "tried", "given_up"].contains(&role))
}

/// Whether a dead letter failed for what may do better later.
pub fn may_come_back(message: &Message) -> bool {
    message.headers.get(header::DEATH_CLASS).is_some()
}

impl Facts {
    fn note(&mut self, change: Change) {
        match change {
            Change::Comes(lying) => {
                let place = Plan::place(lying.kind, lying.name.as_str());
                self.orders.come(&lying);
                if let Some((units, is_under_way)) = counted(&self.plan, place, &lying) {
                    if matches!(place, Place::Source(_)) {
                        self.came.insert(Doc::of(&lying.stored.message).n);
                    }
                    self.holds.come(place, &lying.stored.message);
                    self.add(units, 1);
                    self.count(&lying, i64::from(is_under_way));
                }
            }
            Change::Goes(lying, reason) => {
                let place = Plan::place(lying.kind, lying.name.as_str());
                let Some((units, is_under_way)) = counted(&self.plan, place, &lying) else { return };
                self.count(&lying, -i64::from(is_under_way));
                let is_end = matches!(place, Place::Sink | Place::Whole(_));
                match reason {
                    Reason::Accepted if is_end => {}
                    Reason::Expired if is_end => self.expired += 1,
                    _ => self.add(units, -1),
                }
            }
            Change::Moment => {
                self.holds.end_step();
                self.check_moment();
            }
        }
    }

    fn count(&mut self, lying: &Lying, by: i64) {
        *self.under_way.entry(lying.name.to_string()).or_default() += by;
    }

    fn add(&mut self, units: Vec<(u64, Unit)>, by: i64) {
        for (n, unit) in units {
            *self.come_to.entry(n).or_default().entry(unit).or_default() += by;
            self.touched.insert(n);
        }
    }

    /// Each message that was moved comes to what its routes promise: each result once, none lost, and no other.
    fn check_moment(&mut self) {
        self.moments += 1;
        for n in std::mem::take(&mut self.touched) {
            let come_to = self.come_to.entry(n).or_default();
            come_to.retain(|_, count| *count != 0);
            let expected = self.expected.get(&n).unwrap_or_else(|| panic!("{n} was never sent"));
            assert_eq!(come_to, expected, "what message {n} comes to (left), and should (right)");
        }
    }
}
