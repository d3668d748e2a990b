//! What a journal entry tells of messages: entries in, facts out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waystation_base::{
    ClientId, EntityId, Millis, Name, Offset, Position,
    batch::{self, Record},
    message::header,
};
use waystation_broker::{
    Kind,
    entry::{self, Entry, Item, Moment, Reason, Step, Unrouted},
    place::LogId,
    spec::BusinessKeys,
};
use waystation_journal::Entry as Written;

use crate::{
    HashMap,
    fact::{Fact, Fate, Place, What},
    meta::{Client, Stretch, Sweep},
    publish::{Before, Stored},
    rates::Rates,
    recent::Recent,
    rules::{Rule, Terms},
    tap::{Tap, Told},
    tried::{self, Said},
};

/// Clients that are known by their numbers at a time; those not heard of longest are forgotten.
pub(crate) const CLIENTS_MAX: usize = 16_384;
/// Messages done at once that get a fact each; more are told by one stretch.
const SINGLE_MAX: u64 = 64;

/// Pairs of address and route whose terms are remembered; when there are more they are put together anew.
const TERMS_BY_ROUTE_MAX: usize = 16_384;

/// What there is at a position of the journal.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Queues, topics, subscriptions and routes.
    pub entities: Vec<(EntityId, Kind, Name)>,
    /// Business keys that are declared.
    pub business: Vec<(EntityId, BusinessKeys)>,
    /// What subscriptions read: which source is which log.
    pub sources: Vec<((EntityId, u16), LogId)>,
}

/// See the module.
pub(crate) struct Observer {
    rules: Vec<Rule>,
    names: HashMap<EntityId, (Kind, Name)>,
    business: HashMap<EntityId, BusinessKeys>,
    /// Routes that declare business keys, by their names.
    keyed_routes: HashMap<Name, EntityId>,
    terms: HashMap<EntityId, Arc<Terms>>,
    last_terms: Option<(EntityId, Arc<Terms>)>,
    /// What holds for an address of what came to it by a route that declares keys.
    terms_by_route: HashMap<(EntityId, EntityId), Arc<Terms>>,
    sources: HashMap<(EntityId, u16), LogId>,
    clients: HashMap<u32, (Arc<Client>, u64)>,
    uses: u64,
    moment: Option<Moment>,
    /// The latest time that was told.
    time: Millis,
    mentioned: Option<EntityId>,
    rates: Arc<Mutex<Rates>>,
    pub(crate) tap: Option<Box<dyn Tap>>,
    /// Entries or messages that could not be read.
    pub(crate) unreadable: u64,
    /// Messages that nothing took and of which the journal tells only how many.
    pub(crate) untold: u64,
    tried: tried::Sources,
}

/// Where an entry's message is, and whose copy of it is meant.
type Copy = (Place, Option<EntityId>);

impl Observer {
    pub(crate) fn new(
        rules: Vec<Rule>,
        known: Known,
        clients: Vec<(u32, Client)>,
        rates: Arc<Mutex<Rates>>,
    ) -> Observer {
        let names = known.entities.into_iter().map(|(id, kind, name)| (id, (kind, name)));
        let names: HashMap<EntityId, (Kind, Name)> = names.collect();
        let business: HashMap<EntityId, BusinessKeys> = known.business.into_iter().collect();
        let keyed = names.iter().filter(|(id, (kind, _))| *kind == Kind::Route && business.contains_key(*id));
        let keyed_routes = keyed.map(|(id, (_, name))| (name.clone(), *id)).collect();
        let clients = clients.into_iter().map(|(number, client)| (number, (Arc::new(client), 0)));
        Observer {
            rules,
            names,
            business,
            keyed_routes,
            terms: HashMap::default(),
            last_terms: None,
            terms_by_route: HashMap::default(),
            sources: known.sources.into_iter().collect(),
            clients: clients.collect(),
            uses: 0,
            moment: None,
            time: Millis(0),
            mentioned: None,
            rates,
            tap: None,
            unreadable: 0,
            untold: 0,
            tried: tried::Sources::default(),
        }
    }

    /// A group begins: what the one before told of time and client does not hold any more.
    pub(crate) fn begin_group(&mut self) {
        self.moment = None;
    }

    /// Facts go to another memory now: names are noted anew.
    pub(crate) fn begin_memory(&mut self) {
        self.mentioned = None;
    }

    /// The latest time that was told.
    pub(crate) fn time(&self) -> Millis {
        self.time
    }

    /// The clients that later entries may name.
    pub(crate) fn known_clients(&self) -> Vec<(u32, Client)> {
        let mut all: Vec<_> =
            self.clients.iter().map(|(number, (client, _))| (*number, Client::clone(client))).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }

    /// Takes in one entry.
    pub(crate) fn observe(&mut self, written: &Written<'_>, recent: &mut Recent) {
        let Ok(entry) = entry::read(written.kind, written.payload) else {
            self.unreadable += 1;
            return;
        };
        match entry {
            Entry::Moment(moment) => {
                self.moment = Some(moment);
                self.time = self.time.max(moment.at);
            }
            Entry::Client(client) => self.introduce(&client),
            Entry::Declare(id, declaration) => {
                self.forget_terms(id);
                if let Some(keys) = declaration.spec.business() {
                    self.business.insert(id, keys.clone());
                    if declaration.spec.kind() == Kind::Route {
                        self.keyed_routes.insert(declaration.name.clone(), id);
                    }
                }
                self.names.insert(id, (declaration.spec.kind(), declaration.name));
            }
            Entry::Source(id, number, log, _) => drop(self.sources.insert((id, number), log)),
            Entry::Publish(publish) => self.publish(&publish, recent),
            Entry::Unrouted(unrouted) => self.unrouted(&unrouted, written.position, recent),
            Entry::Take(id, until, items) => self.take(id, until, &items, recent),
            Entry::Done(id, reason, _, stretches) => self.done(id, reason, &stretches, recent),
            Entry::Return(id, items) => self.give_back(id, &items, recent),
            Entry::Dying(id, reason, error, item) => {
                let what = What::Condemned { reason, attempt: item.attempt, error };
                self.tell(id, (item.log, item.offset), true, what, recent);
            }
            Entry::Failed(id, fault, places) => {
                let (class, error) =
                    (fault.class.map(|it| it.to_string()), fault.text.map(|it| it.to_string()));
                let what = What::Failed { class, error };
                places.iter().for_each(|at| self.tell(id, *at, true, what.clone(), recent));
            }
            Entry::Extend(id, until, held) => {
                let held_ms = until.since(self.now());
                held.iter().for_each(|at| self.tell(id, *at, false, What::Extended { held_ms }, recent));
            }
            Entry::Seek(id, number, offset) => {
                let first = self.sources.get(&(id, number)).copied();
                if let (Some(log), Some(last)) = (first, offset.0.checked_sub(1)) {
                    self.sweep(log.entity, Some(log.log), (0, last), Some(id), Sweep::Moved, recent);
                }
            }
            Entry::Trim(log, base) => {
                if let Some(last) = base.0.checked_sub(1) {
                    self.sweep(log.entity, Some(log.log), (0, last), None, Sweep::Retention, recent);
                }
            }
            Entry::Delete(id) => self.delete(id, recent),
            Entry::Settled(_)
            | Entry::Count(..)
            | Entry::Bind(_)
            | Entry::Unbind(_)
            | Entry::Tenant(..)
            | Entry::Document(..) => {}
        }
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        self.moment.map_or(self.time, |moment| moment.at)
    }

    fn step(&self) -> Step {
        self.moment.map_or(Step::Request, |moment| moment.step)
    }

    fn introduce(&mut self, client: &entry::Client<'_>) {
        self.uses += 1;
        let told = Client {
            door: client.door.to_owned(),
            address: client.address.to_owned(),
            user: client.user.to_owned(),
            name: client.name.to_owned(),
        };
        self.clients.insert(client.id.0, (Arc::new(told), self.uses));
        if self.clients.len() > CLIENTS_MAX {
            let mut uses: Vec<u64> = self.clients.values().map(|(_, used)| *used).collect();
            let middle = uses.len() / 2;
            let (_, median, _) = uses.select_nth_unstable(middle);
            let median = *median;
            self.clients.retain(|_, (_, used)| *used >= median);
        }
    }

    /// The number in `recent` of a client.
    fn client(&mut self, id: ClientId, recent: &mut Recent) -> u32 {
        if id.0 == 0 {
            return 0;
        }
        self.uses += 1;
        let uses = self.uses;
        let known = self.clients.get_mut(&id.0).map(|(client, used)| {
            *used = uses;
            client.clone()
        });
        known.map_or(0, |client| recent.client(&client))
    }

    fn acting(&mut self, recent: &mut Recent) -> u32 {
        let id = self.moment.map_or(ClientId(0), |moment| moment.client);
        self.client(id, recent)
    }

    /// Notes what something is called.
    fn mention(&mut self, id: EntityId, recent: &mut Recent) {
        if self.mentioned == Some(id) {
            return;
        }
        self.mentioned = Some(id);
        if let Some((kind, name)) = self.names.get(&id) {
            recent.names.entry(id).or_insert_with(|| (*kind, name.clone()));
        }
    }

    fn terms(&mut self, address: EntityId) -> Arc<Terms> {
        if let Some((_, terms)) = self.last_terms.as_ref().filter(|(id, _)| *id == address) {
            return terms.clone();
        }
        let named = self.names.get(&address);
        let (rules, declared) = (&self.rules, self.business.get(&address));
        let terms = self.terms.entry(address).or_insert_with(|| {
            let is_topic = named.is_some_and(|(kind, _)| *kind == Kind::Topic);
            Arc::new(Terms::of(rules, named.map(|(_, name)| name), is_topic, declared))
        });
        let terms = terms.clone();
        self.last_terms = Some((address, terms.clone()));
        terms
    }

    /// What was declared of something does not hold any more.
    fn forget_terms(&mut self, id: EntityId) {
        self.terms.remove(&id);
        self.last_terms = None;
        self.terms_by_route.clear();
        if self.business.remove(&id).is_some() {
            self.keyed_routes.retain(|_, route| *route != id);
        }
    }

    /// What holds for a message that came by a route which declares business keys; none if it did not.
    fn terms_by_route(&mut self, address: EntityId, record: &Record<'_>) -> Option<Arc<Terms>> {
        let mut route = None;
        let keyed = &self.keyed_routes;
        let look = |name: &[u8], value: &[u8], tag: Option<u8>| {
            if name == header::ROUTE.as_bytes() && tag.is_none() {
                route = std::str::from_utf8(value).ok().and_then(|name| keyed.get(name)).copied();
            }
        };
        // What cannot be read is counted where it is taken in.
        record.headers().and_then(|headers| headers.visit(look)).ok()?;
        let route = route?;
        if let Some(terms) = self.terms_by_route.get(&(address, route)) {
            return Some(terms.clone());
        }
        let named = self.names.get(&address);
        let mut keys = self.business.get(&route)?.clone();
        // What the address declares itself comes first.
        keys.extend(
            self.business.get(&address).into_iter().flatten().map(|(key, from)| (key.clone(), from.clone())),
        );
        let is_topic = named.is_some_and(|(kind, _)| *kind == Kind::Topic);
        let terms = Arc::new(Terms::of(&self.rules, named.map(|(_, name)| name), is_topic, Some(&keys)));
        if self.terms_by_route.len() >= TERMS_BY_ROUTE_MAX {
            self.terms_by_route.clear();
        }
        self.terms_by_route.insert((address, route), terms.clone());
        Some(terms)
    }

    /// Where a queue's or subscription's message is.
    fn copy_of(&self, outlet: EntityId, (log, offset): (u16, u64)) -> Copy {
        let own = LogId { entity: outlet, log };
        let is_subscription = self.names.get(&outlet).is_some_and(|(kind, _)| *kind == Kind::Subscription);
        let (log, subscription) = match self.sources.get(&(outlet, log)) {
            Some(source) => (*source, Some(outlet)),
            None => (own, is_subscription.then_some(outlet)),
        };
        (Place { log, offset: Offset(offset) }, subscription)
    }

    /// Adds a fact about a queue's or subscription's message. A failure is told of messages too that the sample leaves out.
    fn tell(&mut self, outlet: EntityId, at: (u16, u64), fails: bool, what: What, recent: &mut Recent) {
        let client = self.acting(recent);
        self.tell_of(outlet, at, fails, client, what, recent);
    }

    fn tell_of(
        &mut self,
        outlet: EntityId,
        at: (u16, u64),
        fails: bool,
        client: u32,
        what: What,
        recent: &mut Recent,
    ) {
        self.tell_at(self.now(), outlet, at, fails, client, what, recent);
    }

    fn tell_at(
        &mut self,
        time: Millis,
        outlet: EntityId,
        at: (u16, u64),
        fails: bool,
        client: u32,
        what: What,
        recent: &mut Recent,
    ) {
        let (place, subscription) = self.copy_of(outlet, at);
        let terms = self.terms(place.log.entity);
        if terms.is_off() || !(fails || terms.takes(place)) {
            return;
        }
        self.mention(place.log.entity, recent);
        if let Some(subscription) = subscription {
            self.mention(subscription, recent);
        }
        let fact = Fact { at: time, client, subscription, what };
        recent.push(place, &fact);
        self.tap(place, &fact, recent);
    }

    /// Tells whoever listens.
    fn tap(&mut self, place: Place, fact: &Fact, recent: &Recent) {
        let Some(tap) = &mut self.tap else { return };
        let named = |id: EntityId| self.names.get(&id).map(|(_, name)| name);
        let (address, subscription) = (named(place.log.entity), fact.subscription.and_then(named));
        let client = recent.client_of(fact.client).map(|client| &**client);
        tap.tell(&Told { place, address, subscription, client, fact });
    }

    fn publish(&mut self, publish: &entry::Publish<'_>, recent: &mut Recent) {
        let terms = self.terms(publish.log.entity);
        if terms.tells_attempts {
            self.attempts(publish, recent);
        }
        if terms.is_off() {
            return;
        }
        let Ok(records) = batch::records(publish.batch) else {
            self.unreadable += 1;
            return;
        };
        if self.moment.is_none() {
            // An entry of a version that did not tell the time.
            self.time = batch::Header::read(publish.batch).map_or(self.time, |header| header.max_timestamp);
        }
        let (at, step, client) = (self.now(), self.step(), self.acting(recent));
        self.mention(publish.log.entity, recent);
        let mut before = Before::default();
        for record in records {
            let Ok(record) = record else {
                self.unreadable += 1;
                continue;
            };
            let place = Place { log: publish.log, offset: record.offset };
            if !terms.takes(place) {
                continue;
            }
            let by_route = if self.keyed_routes.is_empty() {
                None
            } else {
                self.terms_by_route(place.log.entity, &record)
            };
            let stored = Stored { record: &record, at, client, step, fate: Fate::Stored };
            // Which route's terms hold is one of the things that a sender says.
            self.add(place, &stored, by_route.as_deref().unwrap_or(&terms), &mut before, recent);
        }
    }

    /// What requests came to.
    fn attempts(&mut self, publish: &entry::Publish<'_>, recent: &mut Recent) {
        for record in batch::records(publish.batch).into_iter().flatten().flatten() {
            let said = record.value.and_then(|value| serde_json::from_slice::<Said>(value).ok());
            let Some(Said { at, endpoint, status, cause, took_ms, tried: Some(tried) }) = said else {
                continue;
            };
            let source = tried.source().and_then(|source| self.tried.find(source, &self.names));
            let Some(source) = source else { continue };
            let what = What::Called { to: endpoint, status, took_ms, error: cause };
            for place in tried.places() {
                let client = self.acting(recent);
                self.tell_at(Millis(at), source, place, false, client, what.clone(), recent);
            }
        }
    }

    /// Messages that nothing took. They are at no place: each gets one of its own in the route's name.
    fn unrouted(&mut self, unrouted: &Unrouted<'_>, position: Position, recent: &mut Recent) {
        self.untold += unrouted.omitted;
        if unrouted.batch.is_empty() {
            return;
        }
        let log = LogId { entity: unrouted.route, log: 0 };
        let terms = self.terms(log.entity);
        let Ok(records) = batch::records(unrouted.batch) else {
            self.unreadable += 1;
            return;
        };
        let fate = if unrouted.told { Fate::Told } else { Fate::Dropped };
        let (at, step, client) = (self.now(), self.step(), self.acting(recent));
        self.mention(log.entity, recent);
        let mut before = Before::default();
        for (offset, record) in (position.0..).zip(records) {
            let place = Place { log, offset: Offset(offset) };
            if terms.is_off() || !terms.takes(place) {
                continue;
            }
            match record {
                Ok(record) => {
                    let stored = Stored { record: &record, at, client, step, fate };
                    self.add(place, &stored, &terms, &mut before, recent);
                }
                Err(_) => self.unreadable += 1,
            }
        }
    }

    /// Adds what is known of a publish.
    fn add<'a>(
        &mut self,
        place: Place,
        stored: &Stored<'_, 'a>,
        terms: &Terms,
        before: &mut Before<'a>,
        recent: &mut Recent,
    ) {
        if recent.publish(place, stored, terms, before).is_err() {
            self.unreadable += 1;
        } else if self.tap.is_some()
            && let Some(fact) = recent.last()
        {
            self.tap(place, &fact, recent);
        }
    }

    fn take(&mut self, id: EntityId, until: Millis, items: &[Item], recent: &mut Recent) {
        let held_ms = if until == Millis::NEVER { 0 } else { until.since(self.now()).max(1) };
        for item in items {
            let client = self.client(item.client, recent);
            let what = What::Handed { attempt: item.attempt, held_ms };
            self.tell_of(id, (item.log, item.offset), false, client, what, recent);
        }
        let first = items.iter().filter(|item| item.attempt.0 == 1).count();
        self.rates().add(id, self.now(), first as u64);
    }

    fn done(&mut self, id: EntityId, reason: Reason, stretches: &[(u16, u64, u64)], recent: &mut Recent) {
        use Reason::*;
        let fails = matches!(reason, Rejected | Expired | Attempts | Age | Overflow | DeadLettered);
        let step = self.step();
        for &(log, start, count) in stretches {
            if count <= SINGLE_MAX {
                for offset in start..start.saturating_add(count) {
                    self.tell(id, (log, offset), fails, What::Done { reason, step }, recent);
                }
            } else {
                let (place, subscription) = self.copy_of(id, (log, start));
                let span = (start, start.saturating_add(count - 1));
                let LogId { entity, log } = place.log;
                self.sweep(entity, Some(log), span, subscription, Sweep::Done(reason as u8), recent);
                self.tap_done(place, count, subscription, reason, recent);
            }
        }
    }

    /// Whoever listens hears of each message, where the record has one stretch.
    fn tap_done(
        &mut self,
        first: Place,
        count: u64,
        subscription: Option<EntityId>,
        reason: Reason,
        recent: &mut Recent,
    ) {
        if self.tap.is_none() {
            return;
        }
        let (client, step) = (self.acting(recent), self.step());
        let fact = Fact { at: self.now(), client, subscription, what: What::Done { reason, step } };
        for offset in first.offset.0..first.offset.0.saturating_add(count) {
            self.tap(Place { offset: Offset(offset), ..first }, &fact, recent);
        }
    }

    fn give_back(&mut self, id: EntityId, items: &[Item], recent: &mut Recent) {
        let (now, step) = (self.now(), self.step());
        for item in items {
            let delay_ms = if item.due == Millis(0) { 0 } else { item.due.since(now).max(1) };
            let what = What::Returned { attempt: item.attempt, delay_ms, step };
            self.tell(id, (item.log, item.offset), false, what, recent);
        }
    }

    fn delete(&mut self, id: EntityId, recent: &mut Recent) {
        match self.names.get(&id).map(|(kind, _)| *kind) {
            Some(Kind::Subscription) => {
                let sources = self.sources.iter().filter(|((subscription, _), _)| *subscription == id);
                let logs: Vec<LogId> = sources.map(|(_, log)| *log).collect();
                for log in logs {
                    self.sweep(log.entity, Some(log.log), (0, u64::MAX), Some(id), Sweep::Deleted, recent);
                }
            }
            Some(Kind::Queue | Kind::Topic) => {
                self.sweep(id, None, (0, u64::MAX), None, Sweep::Deleted, recent)
            }
            Some(Kind::Route) | None => {}
        }
        self.names.remove(&id);
        self.forget_terms(id);
        self.rates().remove(id);
        self.sources.retain(|(subscription, _), _| *subscription != id);
    }

    fn sweep(
        &mut self,
        entity: EntityId,
        log: Option<u16>,
        (first, last): (u64, u64),
        subscription: Option<EntityId>,
        sweep: Sweep,
        recent: &mut Recent,
    ) {
        if self.terms(entity).is_off() {
            return;
        }
        let client = self.acting(recent);
        self.mention(entity, recent);
        if let Some(subscription) = subscription {
            self.mention(subscription, recent);
        }
        let (first, last) = (Offset(first), Offset(last));
        recent.sweep(Stretch { entity, log, first, last, subscription, at: self.now(), client, sweep });
    }
}
