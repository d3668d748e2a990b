//! What the journal says, entry by entry: the account of every address, and what each message comes to as it lies.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use waystation_base::{Message, Position, message::header};
use waystation_broker::{Kind, entry::Reason};
use waystation_journal::{FileJournal, Journal, Options, Preparation, Verify};
use waystation_testkit::{
    disk::SimDisk,
    model::{Accounts, Change, Lying},
};

use crate::{
    doc::Doc,
    order::Orders,
    plan::{self, Plan, SINKS, Unit},
    world::DATA,
};

/// An entry: where, of what kind, and what it says.
pub type Written = (Position, u8, Vec<u8>);

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
    orders: Orders,
    /// Of each message that was sent, what it is to come to.
    expected: BTreeMap<u64, BTreeMap<Unit, i64>>,
    /// What it comes to as it lies, with what was taken at the end of its way.
    come_to: BTreeMap<u64, BTreeMap<Unit, i64>>,
    touched: BTreeSet<u64>,
    moments: u64,
    /// How much lies where on its way still.
    under_way: BTreeMap<String, i64>,
    expired: u64,
}

impl Books {
    pub fn new(plan: Arc<Plan>, is_calm: bool) -> Books {
        let facts = Facts {
            orders: Orders::new(plan.clone(), is_calm),
            plan,
            expected: BTreeMap::new(),
            come_to: BTreeMap::new(),
            touched: BTreeSet::new(),
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
        self.facts.come_to.contains_key(&n)
    }

    /// How many messages lie where that no route is done with.
    pub fn under_way(&self) -> BTreeMap<&str, i64> {
        let places = self.facts.under_way.iter().filter(|(_, count)| **count != 0);
        places.map(|(place, count)| (place.as_str(), *count)).collect()
    }

    /// Moments that were looked at, and messages whose time was over at the end of their way.
    pub fn figures(&self) -> (u64, u64) {
        (self.facts.moments, self.facts.expired)
    }
}

/// What lies in a place counts as this, if the place is one of routes or of their clients; and whether it is on its way there.
fn counted(plan: &Plan, lying: &Lying) -> Option<(Doc, Vec<Unit>, bool)> {
    let (name, message) = (lying.name.as_str(), &lying.stored.message);
    let units = |address: &str| {
        let doc = Doc::of(message);
        let units = plan.comes_to(address, &doc);
        (doc, units)
    };
    if lying.kind == Kind::Topic {
        return None;
    }
    if let Some(of) = name.strip_prefix("$routes.r") {
        let (doc, units) = units(&format!("m{of}"));
        return Some((doc, units, true));
    }
    if let Some(number) = name.strip_prefix('r').and_then(|it| it.strip_suffix(".dead")) {
        // What could not be stored, or be worked on, is not at the end of its way: somebody brings it back.
        let is_over = !may_come_back(message);
        let address = if is_over { name.to_owned() } else { format!("m{number}") };
        let (doc, units) = units(&address);
        return Some((doc, units, !is_over));
    }
    let is_end = SINKS.contains(&name);
    (is_end || plan::route_of(name).is_some()).then(|| {
        let (doc, units) = units(name);
        (doc, units, !is_end)
    })
}

/// Whether a dead letter failed for what may do better later.
pub fn may_come_back(message: &Message) -> bool {
    message.headers.get(header::DEATH_CLASS).is_some()
}

impl Facts {
    fn note(&mut self, change: Change) {
        match change {
            Change::Comes(lying) => {
                self.orders.come(&lying);
                if let Some((doc, units, is_under_way)) = counted(&self.plan, &lying) {
                    self.add(doc.n, units, 1);
                    self.count(&lying, i64::from(is_under_way));
                }
            }
            Change::Goes(lying, reason) => {
                let Some((doc, units, is_under_way)) = counted(&self.plan, &lying) else { return };
                self.count(&lying, -i64::from(is_under_way));
                let is_end = SINKS.contains(&lying.name.as_str());
                match reason {
                    Reason::Accepted if is_end => {}
                    Reason::Expired if is_end => self.expired += 1,
                    _ => self.add(doc.n, units, -1),
                }
            }
            Change::Moment => self.check_moment(),
        }
    }

    fn count(&mut self, lying: &Lying, by: i64) {
        *self.under_way.entry(lying.name.to_string()).or_default() += by;
    }

    fn add(&mut self, n: u64, units: Vec<Unit>, by: i64) {
        let come_to = self.come_to.entry(n).or_default();
        for unit in units {
            *come_to.entry(unit).or_default() += by;
        }
        self.touched.insert(n);
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
