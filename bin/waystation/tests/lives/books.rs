//! What the journal says, entry by entry: the account of every address, and where each message is at every moment. Read while nothing runs,
//! by nobody who wrote it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use waystation_base::Position;
use waystation_broker::entry::Reason;
use waystation_journal::{FileJournal, Journal, Options, Preparation, Verify};
use waystation_testkit::{
    disk::SimDisk,
    model::{Accounts, Change, Lying},
};

use crate::{
    census::Census,
    kind::{Kind, Known, check},
    server::DATA,
};

/// Where consumers take messages, so that what is acknowledged there is somebody's.
pub const CONSUMED: [&str; 2] = ["right", "readers"];

/// An entry as the journal keeps it.
pub type Written = (Position, u8, Vec<u8>);

/// See the module.
#[derive(Default)]
pub struct Books {
    accounts: Accounts,
    facts: Facts,
    /// All entries so far.
    pub written: Vec<Written>,
    /// Where the next one will be.
    end: Position,
}

/// Where each message is, as entries tell it.
#[derive(Default)]
struct Facts {
    census: Census,
    sent: BTreeMap<u64, Kind>,
    accepted: BTreeSet<u64>,
    /// Numbers that the present step has moved.
    touched: BTreeSet<u64>,
    moments: u64,
}

impl Books {
    /// Reads what the journal has more than before, after a crash; panics where an account does not hold.
    pub fn read(&mut self, disk: &SimDisk) {
        let options = Options { preparation: Preparation::None, ..Options::default() };
        let dir = Path::new(DATA).join("journal");
        let opened = FileJournal::open(Arc::new(disk.clone()), &dir, options, Verify::All);
        let (journal, _) = opened.expect("it opens after any crash");
        let (start, end) = (journal.start(), journal.end());
        assert!(
            start <= self.end,
            "the journal was cut up to {start} before it was read from {} on",
            self.end
        );
        assert!(end >= self.end, "the journal ended at {} and ends at {end} now", self.end);
        let mut entries: Vec<Written> = Vec::new();
        let scanned = journal.scan(self.end, &mut |entry| {
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

    /// Whether the journal has the message.
    pub fn has(&self, n: u64) -> bool {
        self.facts.sent.contains_key(&n)
    }

    /// Whether the journal says that somebody acknowledged it.
    pub fn accepted(&self, n: u64) -> bool {
        self.facts.accepted.contains(&n)
    }

    /// Entries and moments that were looked at.
    pub fn looks(&self) -> (u64, u64) {
        (self.accounts.entries(), self.facts.moments)
    }
}

impl Facts {
    fn note(&mut self, change: Change) {
        match change {
            Change::Comes(Lying { name, stored, .. }) => {
                let numbers = self.census.come(name.as_str(), &stored.message);
                if name.as_str() == "in" {
                    let kind = Kind::of(&stored.message);
                    self.sent.extend(numbers.iter().map(|n| (*n, kind)));
                }
                self.touched.extend(numbers);
            }
            Change::Goes(Lying { name, stored, .. }, reason) => {
                let numbers = self.census.go(name.as_str(), &stored.message);
                if reason == Reason::Accepted && CONSUMED.contains(&name.as_str()) {
                    self.accepted.extend(numbers.iter());
                }
                self.touched.extend(numbers);
            }
            Change::Moment => self.check_moment(),
        }
    }

    /// Every message that was moved since the last moment is in one place again.
    fn check_moment(&mut self) {
        self.moments += 1;
        for n in std::mem::take(&mut self.touched) {
            let kind = *self.sent.get(&n).unwrap_or_else(|| panic!("{n} was never sent"));
            let accepted = self.accepted.contains(&n).then_some(Known::Surely);
            check(n, kind, Known::Surely, accepted, &self.census);
        }
        self.census.check_order();
    }
}
