//! What the journal says, entry by entry: the account of every address, and where each message is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use waystation_base::{Message, Position};
use waystation_broker::{Kind, entry::Reason};
use waystation_journal::{FileJournal, Journal, Options, Preparation, Verify};
use waystation_testkit::{
    disk::SimDisk,
    model::{Accounts, Change, Lying},
};

use crate::world::{DATA, PLACES, SOURCES};

/// Where an entry is, of what kind, and how long. What it holds has ids of redrives in it, which are drawn anew each time.
pub type Place = (Position, u8, usize);

/// See the module.
#[derive(Default)]
pub struct Books {
    accounts: Accounts,
    facts: Facts,
    /// All entries so far.
    pub places: Vec<Place>,
    end: Position,
}

#[derive(Default)]
struct Facts {
    /// How often each message lies where, of those that are somewhere.
    lying: BTreeMap<u64, BTreeMap<&'static str, u64>>,
    accepted: BTreeSet<u64>,
    touched: BTreeSet<u64>,
    moments: u64,
}

/// The number that is all that a message says.
pub fn number(message: &Message) -> u64 {
    std::str::from_utf8(&message.body).expect("a number").parse().expect("a number")
}

impl Books {
    /// Reads what the journal has more than before, after a crash; panics where an account does not hold.
    pub fn read(&mut self, disk: &SimDisk) {
        let options = Options { preparation: Preparation::None, ..Options::default() };
        let dir = Path::new(DATA).join("journal");
        let opened = FileJournal::open(Arc::new(disk.clone()), &dir, options, Verify::All);
        let (journal, _) = opened.expect("it opens after any crash");
        assert!(journal.end() >= self.end, "what was there after a crash is there after the next one");
        let Books { accounts, facts, places, .. } = self;
        let scanned = journal.scan(self.end, &mut |entry| {
            places.push((entry.position, entry.kind, entry.payload.len()));
            accounts.enter(entry.position, entry.kind, entry.payload, &mut |change| facts.note(change));
            ControlFlow::Continue(())
        });
        self.end = scanned.expect("the journal can be read");
        accounts.end(self.end, &mut |change| facts.note(change));
    }

    /// Messages that the journal has.
    pub fn has(&self, n: u64) -> bool {
        self.facts.lying.contains_key(&n)
    }

    /// Whether somebody acknowledged a message.
    pub fn accepted(&self, n: u64) -> bool {
        self.facts.accepted.contains(&n)
    }

    /// Messages that are not acknowledged.
    pub fn left(&self) -> usize {
        self.facts.lying.len() - self.facts.accepted.len()
    }

    /// Moments that were looked at.
    pub fn moments(&self) -> u64 {
        self.facts.moments
    }
}

impl Facts {
    fn note(&mut self, change: Change) {
        match change {
            Change::Comes(lying) => {
                if let Some((place, n)) = counted(&lying) {
                    *self.lying.entry(n).or_default().entry(place).or_default() += 1;
                    self.touched.insert(n);
                }
            }
            Change::Goes(lying, reason) => {
                if let Some((place, n)) = counted(&lying) {
                    let count = self.lying.get_mut(&n).and_then(|places| places.get_mut(place));
                    *count.unwrap_or_else(|| panic!("{n} leaves '{place}' and was not there")) -= 1;
                    self.touched.insert(n);
                    if reason == Reason::Accepted && SOURCES.contains(&place) {
                        self.accepted.insert(n);
                    }
                }
            }
            Change::Moment => {
                self.moments += 1;
                for n in std::mem::take(&mut self.touched) {
                    let places = &self.lying[&n];
                    let lies: u64 = places.values().sum();
                    let expected = u64::from(!self.accepted.contains(&n));
                    assert_eq!(lies, expected, "message {n} lies in {places:?}");
                }
            }
        }
    }
}

/// The place that counts and the message's number; what lies in topics lies with their readers.
fn counted(lying: &Lying) -> Option<(&'static str, u64)> {
    let place = PLACES.into_iter().find(|place| *place == lying.name.as_str())?;
    (lying.kind != Kind::Topic).then(|| (place, number(&lying.stored.message)))
}
