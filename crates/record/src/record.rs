//! Questions to the record: which messages are meant, and what became of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use waystation_base::{EntityId, MessageId, Millis, Name, Position};
use waystation_broker::Kind;

pub use crate::publish::Sought;
use crate::{
    block::Block,
    fact::{Fact, Place, Published, What},
    feed::Feed,
    figures::Shown,
    meta::{Client, Gap, Meta, Sweep},
    publish::{Wanted, hash_of_id, hashes},
    rates::Rates,
    recent::Recent,
    shelf::{OpenError, Opened, Shelf, Summary},
    tap::Tap,
};

/// How long a question waits for the recorder to be up to date.
const PATIENCE: Duration = Duration::from_secs(2);
/// Publishes that are looked at for each that is wanted: what a hash leads to may be meant otherwise.
const FOUND_PER_HIT: usize = 8;
/// Things that are told of one message.
const EVENTS_MAX: usize = 1_000;

/// What is not in a file yet, and the files.
pub(crate) struct State {
    pub(crate) recent: Recent,
    pub(crate) files: Vec<Summary>,
    /// This file holds a part of what is in memory too.
    pub(crate) unfinished: Option<u32>,
    pub(crate) damaged: Vec<String>,
    pub(crate) unreadable: u64,
    pub(crate) untold: u64,
}

/// What recorder and record share.
pub(crate) struct Inner {
    pub(crate) feed: Arc<Feed>,
    pub(crate) shelf: Shelf,
    state: RwLock<State>,
    /// What metrics show. Whoever asks for them must wait for nobody: the recorder holds the state while it reads the journal.
    pub(crate) shown: Shown,
    pub(crate) rates: Arc<Mutex<Rates>>,
    /// Who is to hear of facts from now on, until the recorder has taken him in.
    pub(crate) tap: Mutex<Option<Box<dyn Tap>>>,
}

impl Inner {
    pub(crate) fn new(feed: Arc<Feed>, shelf: Shelf, state: State) -> Inner {
        let shown = Shown::default();
        shown.note(&state);
        Inner { feed, shelf, state: RwLock::new(state), shown, rates: Arc::default(), tap: Mutex::default() }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Record")
    }
}

/// The record, for whoever asks. Its answers read files: ask where that may take a while.
#[derive(Clone)]
pub struct Record(pub(crate) Arc<Inner>);

/// A record file that cannot be read.
pub type Damage = String;

/// A message that was stored somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention {
    /// Where.
    pub place: Place,
    /// What is called how there, if that is known.
    pub address: Option<(Kind, Name)>,
    /// When.
    pub at: Millis,
    /// By whom.
    pub client: Option<Client>,
    /// What is told of it.
    pub published: Published,
}

/// Messages that were found.
#[derive(Clone, Debug, Default)]
pub struct Mentions {
    /// In order of time; the newest, if there are too many.
    pub found: Vec<Mention>,
    /// There are more.
    pub more: bool,
    /// Files that could not be read.
    pub damage: Vec<Damage>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// To this message.
    Fact(What),
    /// To many at once.
    Swept(Sweep),
}

/// One thing that happened to a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Millis,
    /// On whose behalf.
    pub client: Option<Client>,
    /// To which subscription's copy, with its name if that is known.
    pub subscription: Option<(EntityId, Option<Name>)>,
    /// What.
    pub what: Happening,
}

/// How the record is.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Facts are kept from this time on; none: there are none.
    pub from: Option<Millis>,
    /// Record files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Facts, in files and in memory.
    pub facts: u64,
    /// Messages whose publishing is recorded.
    pub messages: u64,
    /// Bytes of the journal that are not taken in yet.
    pub behind_bytes: u64,
    /// How far the record goes.
    pub position: Position,
    /// Entries and messages that could not be read.
    pub unreadable: u64,
    /// Messages that nothing took and that were too many to be told of one by one, since the server started.
    pub untold: u64,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// Files that cannot be read.
    pub damage: Vec<Damage>,
}

/// What a question has gathered of one message.
#[derive(Default)]
struct Life {
    events: Vec<Event>,
    /// It has left its queue: later files tell nothing more.
    is_over: bool,
}

impl Life {
    fn add(&mut self, event: Event) {
        let done = matches!(event.what, Happening::Fact(What::Done { .. })) && event.subscription.is_none();
        self.is_over |= done;
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }
}

impl Record {
    /// Lets `tap` hear of facts from now on, in the place of one before.
    pub fn follow(&self, tap: Box<dyn Tap>) {
        *self.0.tap.lock().unwrap_or_else(PoisonError::into_inner) = Some(tap);
    }

    /// Waits until everything that is durable now is known, for a while at most; says whether it is.
    pub fn catch_up(&self) -> bool {
        self.catch_up_to(Position(0))
    }

    /// The same, and what lies before a position of the journal that may not be durable yet.
    pub fn catch_up_to(&self, position: Position) -> bool {
        self.0.feed.catch_up(position, PATIENCE)
    }

    /// Publishes that can be found by any of what is sought and for which `is_meant` holds, at most `max`.
    pub fn mentions(&self, sought: &[Sought], max: usize, is_meant: impl Fn(&Published) -> bool) -> Mentions {
        let mut mentions = Mentions::default();
        let wanted = Wanted::of(sought);
        let files = {
            let state = self.0.read();
            let recent = &state.recent;
            for (place, fact) in recent.find(&wanted, FOUND_PER_HIT * (max + 1)) {
                let client = recent.client_of(fact.client).map(|client| Client::clone(client));
                let address = recent.names.get(&place.log.entity).cloned();
                mentions.add(place, fact, address, client, &is_meant);
            }
            self.files(&state)
        };
        for file in files.iter().rev() {
            if mentions.found.len() > max {
                break;
            }
            if let Err(error) = self.mentions_in(file, &wanted, max, &is_meant, &mut mentions)
                && !error.is_gone()
            {
                mentions.damage.push(error.to_string());
            }
        }
        mentions.found.sort_by_key(|mention| std::cmp::Reverse(mention.at));
        mentions.more = mentions.found.len() > max;
        mentions.found.truncate(max);
        mentions.found.reverse();
        mentions
    }

    /// The files that tell what memory does not.
    fn files(&self, state: &State) -> Vec<Summary> {
        state.files.iter().filter(|file| state.unfinished != Some(file.id)).cloned().collect()
    }

    fn mentions_in(
        &self,
        file: &Summary,
        wanted: &Wanted,
        max: usize,
        is_meant: &impl Fn(&Published) -> bool,
        mentions: &mut Mentions,
    ) -> Result<(), OpenError> {
        let opened = self.0.shelf.open(file.id)?;
        let Opened { table, meta } = &*opened;
        let mut blocks = Vec::new();
        for hash in &wanted.hashes {
            blocks.extend(table.find(*hash, FOUND_PER_HIT * (max + 1))?);
        }
        // A run leads to the blocks of all its ids: which of them hold the one that is meant cannot be told.
        for run in &wanted.runs {
            blocks.extend(table.find(*run, table.blocks())?);
        }
        blocks.sort_unstable();
        blocks.dedup();
        for number in blocks {
            let (first, bytes) = table.block(number as usize)?;
            for (first, alike) in Block::new(Place::of_key(first), &bytes, meta.base).flatten() {
                let by_attribute =
                    alike.published().is_some_and(|it| hashes(it).any(|hash| wanted.has(hash)));
                let is_wanted = |id: MessageId| by_attribute || wanted.has(hash_of_id(id));
                if !alike.ids().any(is_wanted) {
                    continue;
                }
                for (place, fact) in (0..).map(|steps| first.after(steps)).zip(alike) {
                    if matches!(&fact.what, What::Published(it) if is_wanted(it.id)) {
                        let (address, client) =
                            (name_in(meta, place.log.entity), meta.client(fact.client).cloned());
                        mentions.add(place, fact, address, client, is_meant);
                    }
                }
            }
        }
        Ok(())
    }

    /// What became of messages that were stored at `since` or later, in order of time.
    pub fn lives(&self, places: &[(Place, Millis)]) -> (BTreeMap<Place, Vec<Event>>, Vec<Damage>) {
        let mut lives: BTreeMap<Place, Life> =
            places.iter().map(|(place, _)| (*place, Life::default())).collect();
        let since = places.iter().map(|(_, since)| *since).min().unwrap_or_default();
        let (files, events) = {
            let state = self.0.read();
            (self.files(&state), recent_events(&state.recent, places))
        };
        let mut damage = Vec::new();
        for file in files.iter().filter(|file| file.last >= since) {
            if let Err(error) = self.lives_in(file, &mut lives)
                && !error.is_gone()
            {
                damage.push(error.to_string());
            }
        }
        for (place, event) in events {
            if let Some(life) = lives.get_mut(&place) {
                life.add(event);
            }
        }
        let told = lives.into_iter().map(|(place, mut life)| {
            life.events.sort_by_key(|event| event.at);
            requests_first(&mut life.events);
            (place, life.events)
        });
        (told.collect(), damage)
    }

    fn lives_in(&self, file: &Summary, lives: &mut BTreeMap<Place, Life>) -> Result<(), OpenError> {
        let opened = self.0.shelf.open(file.id)?;
        let Opened { table, meta } = &*opened;
        let mut held = None;
        for (place, life) in lives.iter_mut().filter(|(_, life)| !life.is_over) {
            if meta.may_hold(*place) {
                for number in opened.blocks_of(*place) {
                    // Messages of a journey are often neighbours.
                    let block = match held.take() {
                        Some((have, block)) if have == number => block,
                        _ => table.block(number)?,
                    };
                    for fact in Block::new(Place::of_key(block.0), &block.1, meta.base).of(*place) {
                        let client = meta.client(fact.client).cloned();
                        life.add(event(fact, client, |id| name_in(meta, id)));
                    }
                    held = Some((number, block));
                }
            }
            for stretch in meta.stretches.iter().filter(|stretch| stretch.holds(*place)) {
                let (id, client) = (stretch.subscription, meta.client(stretch.client).cloned());
                let subscription = id.map(|id| (id, name_in(meta, id).map(|(_, name)| name)));
                let what = Happening::Swept(stretch.sweep);
                life.add(Event { at: stretch.at, client, subscription, what });
            }
        }
        Ok(())
    }

    /// How many messages of a queue or subscription are handed out in a second, of late.
    pub fn rate(&self, outlet: EntityId, now: Millis) -> Option<f64> {
        self.0.rates.lock().unwrap_or_else(PoisonError::into_inner).per_second(outlet, now)
    }

    /// How the record is. It reads no file.
    pub fn status(&self) -> Status {
        let state = self.0.read();
        let files = self.files(&state);
        let recent = &state.recent;
        let times = files.iter().filter(|file| file.last > Millis(0)).map(|file| file.first);
        let position = self.0.feed.position();
        let gaps = files.iter().flat_map(|file| &file.gaps).chain(&recent.gaps).cloned();
        Status {
            from: times.chain(recent.times().map(|(first, _)| first)).min(),
            files: state.files.len() as u64,
            bytes: state.files.iter().map(|file| file.bytes).sum(),
            facts: files.iter().map(|file| file.facts).sum::<u64>() + recent.facts(),
            messages: files.iter().map(|file| file.messages).sum::<u64>() + recent.messages(),
            behind_bytes: self.0.feed.durable_position().0.saturating_sub(position.0),
            position,
            unreadable: state.unreadable,
            untold: state.untold,
            gaps: gaps.collect(),
            damage: state.damaged.clone(),
        }
    }
}

impl Mentions {
    fn add(
        &mut self,
        place: Place,
        fact: Fact,
        address: Option<(Kind, Name)>,
        client: Option<Client>,
        wanted: &impl Fn(&Published) -> bool,
    ) {
        if let What::Published(published) = fact.what
            && wanted(&published)
            && !self.found.iter().any(|found| found.place == place)
        {
            self.found.push(Mention { place, address, at: fact.at, client, published });
        }
    }
}

/// What came of a request is told behind the settlement that followed from it, and came before.
fn requests_first(events: &mut [Event]) {
    use What::{Called, Condemned, Done, Failed, Returned};
    let follows = |event: &Event| {
        let what = &event.what;
        matches!(what, Happening::Fact(Returned { .. } | Condemned { .. } | Failed { .. } | Done { .. }))
    };
    for called in 1..events.len() {
        if !matches!(events[called].what, Happening::Fact(Called { .. })) {
            continue;
        }
        let mut at = called;
        while at > 0 && events[at - 1].at == events[at].at && follows(&events[at - 1]) {
            events.swap(at - 1, at);
            at -= 1;
        }
    }
}

fn name_in(meta: &Meta, id: EntityId) -> Option<(Kind, Name)> {
    meta.name(id).map(|(kind, name)| (kind, name.clone()))
}

fn event(fact: Fact, client: Option<Client>, name: impl Fn(EntityId) -> Option<(Kind, Name)>) -> Event {
    let Fact { at, subscription, what, .. } = fact;
    let subscription = subscription.map(|id| (id, name(id).map(|(_, name)| name)));
    Event { at, client, subscription, what: Happening::Fact(what) }
}

fn recent_events(recent: &Recent, places: &[(Place, Millis)]) -> Vec<(Place, Event)> {
    let wanted: Vec<Place> = places.iter().map(|(place, _)| *place).collect();
    let client = |number: u32| recent.client_of(number).map(|client| Client::clone(client));
    let mut events = Vec::new();
    recent.life(&wanted, |place, fact| {
        let client = client(fact.client);
        events.push((place, event(fact, client, |id| recent.names.get(&id).cloned())));
    });
    for stretch in &recent.stretches {
        for place in wanted.iter().filter(|place| stretch.holds(**place)) {
            let name = |id| (id, recent.names.get(&id).map(|(_, name)| name.clone()));
            let what = Happening::Swept(stretch.sweep);
            let subscription = stretch.subscription.map(name);
            let event = Event { at: stretch.at, client: client(stretch.client), subscription, what };
            events.push((*place, event));
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use waystation_base::Attempt;
    use waystation_broker::entry::{Reason, Step};

    use super::*;

    #[test]
    fn a_request_comes_before_what_followed_from_it_in_the_same_millisecond() {
        let event = |at, what| Event {
            at: Millis(at),
            client: None,
            subscription: None,
            what: Happening::Fact(what),
        };
        let handed = || What::Handed { attempt: Attempt(1), held_ms: 0 };
        let returned = || What::Returned { attempt: Attempt(1), delay_ms: 0, step: Step::Request };
        let done = || What::Done { reason: Reason::Accepted, step: Step::Request };
        let called = || What::Called { to: String::new(), status: None, took_ms: 0, error: None };
        let mut events = vec![
            event(1, handed()),
            event(1, returned()),
            event(1, called()),
            event(1, handed()),
            event(2, called()),
            event(2, done()),
            event(2, called()),
        ];
        requests_first(&mut events);
        let whats: Vec<What> = events
            .into_iter()
            .map(|event| match event.what {
                Happening::Fact(what) => what,
                Happening::Swept(sweep) => panic!("{sweep:?}"),
            })
            .collect();
        let expected = [handed(), called(), returned(), handed(), called(), called(), done()];
        assert_eq!(whats, expected);
    }
}
