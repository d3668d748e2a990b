//! The state machine: what there is, and which file carries out which command.
//!
//! Each command checks everything first, then writes its entries and applies them; a restart applies the same entries
//! ([`replay`]). Effects that follow from becoming ready come out of [`Shard::flush`].

mod attach;
mod bindings;
mod browse;
mod buckets;
mod chunked;
mod consumers;
mod cursor;
mod damage;
mod deadletter;
mod declare;
mod delete;
mod dispatch;
mod documents;
mod each;
mod entities;
pub mod entry;
mod faults;
mod graves;
mod info;
mod keys;
mod lanes;
mod limits;
mod line;
mod lines;
mod loaded;
mod log;
mod matching;
mod outlet;
mod plan;
mod pools;
mod publish;
mod ranges;
mod replay;
mod retry;
mod routes;
mod seek;
mod settle;
mod shares;
mod snapshot;
mod store;
mod tenants;
mod tick;
mod timers;
mod unrouted;
mod vhosts;
mod vitals;
mod whereabouts;
mod withdraw;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use waystation_base::{ConsumerId, EntityId, Millis, Position};

pub use browse::{BrowseStep, BrowseTarget};
pub use entities::{Address, Queue, Subscription, Topic};
pub use entry::Error as ReplayError;
pub use graves::Extent;
pub use plan::FileUse;
pub use snapshot::Error as SnapshotError;
pub use vitals::Vital;
pub use whereabouts::{Entities, Sources, Stand, Whereabout, Whereabouts};

use timers::Timer;

use crate::{
    Append, Command, Effect, Kind, PoolId, Refusal, Reply, RequestId, SessionId,
    place::{Loaded, LogId, Place, Purpose},
};

/// A map whose order does not depend on chance.
pub(crate) type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;
/// A set whose order does not depend on chance.
pub(crate) type HashSet<K> = hashbrown::HashSet<K, foldhash::fast::FixedState>;

/// One command's surroundings: the time, where entries go, where effects go.
pub(crate) struct Ctx<'a> {
    pub now: Millis,
    pub log: &'a mut dyn Append,
    pub effects: &'a mut Vec<Effect>,
    /// Timers to be set.
    pub timers: Vec<(Millis, Timer)>,
    /// Consumers that have ended.
    pub gone: Vec<ConsumerId>,
    /// Queues and subscriptions to be looked at.
    pub dirty: Vec<(Kind, EntityId)>,
    /// The shard's credit pools, lent while something is handed out; else empty.
    pub pools: pools::Pools,
}

impl<'a> Ctx<'a> {
    fn new(now: Millis, log: &'a mut dyn Append, effects: &'a mut Vec<Effect>) -> Ctx<'a> {
        let pools = pools::Pools::default();
        Ctx { now, log, effects, timers: Vec::new(), gone: Vec::new(), dirty: Vec::new(), pools }
    }
}

/// What belongs to a session.
#[derive(Clone, Debug, Default)]
struct Session {
    consumers: HashSet<ConsumerId>,
    queues: HashSet<EntityId>,
    pools: HashSet<PoolId>,
}

/// The state of all queues, topics and subscriptions of one shard.
#[derive(Debug, Default)]
pub struct Shard {
    entities: u32,
    /// Everything alive before this position of the journal has moved to settled files.
    settled_to: Position,
    addresses: HashMap<waystation_base::Name, Address>,
    subscription_names: HashMap<waystation_base::Name, EntityId>,
    queues: HashMap<EntityId, Box<Queue>>,
    topics: HashMap<EntityId, Box<Topic>>,
    subscriptions: HashMap<EntityId, Box<Subscription>>,
    route_names: HashMap<waystation_base::Name, EntityId>,
    routes: HashMap<EntityId, Box<routes::Route>>,
    /// What leads to what, seen from the other end.
    incoming: bindings::Incoming,
    /// Bindings of all routes together.
    bindings: usize,
    /// Bindings made so far.
    binding_orders: u64,
    /// Changes whenever a message might be routed otherwise than before.
    routing: u64,
    documents: BTreeMap<waystation_base::Name, bytes::Bytes>,
    /// Bytes of all documents and their names.
    document_bytes: usize,
    consumers: HashMap<ConsumerId, (Kind, EntityId, SessionId)>,
    sessions: HashMap<SessionId, Session>,
    pools: pools::Pools,
    timers: BinaryHeap<Reverse<(Millis, Timer)>>,
    dirty: VecDeque<(Kind, EntityId)>,
    encoding: store::Encoding,
    run: each::Run,
    /// The journal is told of messages that nothing took.
    tells_unrouted: bool,
    /// Of those that were published by a key that is no queue's.
    untold: unrouted::Untold,
    /// Virtual hosts that have limits.
    vhosts: vhosts::Vhosts,
}

impl Shard {
    /// A shard with nothing in it.
    pub fn new() -> Shard {
        Shard::default()
    }

    /// Carries out a command. Its reply, if `request` names one, comes out as an effect.
    pub fn handle(
        &mut self,
        now: Millis,
        request: Option<RequestId>,
        command: Command,
        log: &mut dyn Append,
        effects: &mut Vec<Effect>,
    ) {
        let mut ctx = Ctx::new(now, log, effects);
        let result = self.carry_out(command, &mut ctx);
        if let Some(request) = request {
            ctx.effects.push(Effect::Reply { request, result });
        }
        self.close(ctx);
    }

    fn carry_out(&mut self, command: Command, ctx: &mut Ctx<'_>) -> Result<Reply, Refusal> {
        match command {
            Command::Declare(declare) => self.declare(declare, ctx).map(Reply::Declared),
            Command::Delete(delete) => self.delete(&delete, ctx).map(Reply::Removed),
            Command::Purge(queue) => self.purge(&queue, ctx).map(Reply::Removed),
            Command::Transact(transaction) => self.transact(transaction, ctx).map(Reply::Committed),
            Command::PublishEach(publishes) => Ok(Reply::PublishedEach(self.publish_each(publishes, ctx))),
            Command::Bind(bind) => self.bind(bind, ctx).map(Reply::Declared),
            Command::Unbind(bind) => self.unbind(bind, ctx).map(Reply::Removed),
            Command::Document { name, body } => self.document(name, body, ctx).map(|()| Reply::Done),
            Command::Cancel(consumer) => self.cancel(consumer, ctx).map(|()| Reply::Done),
            Command::Attach(attach) => self.attach(attach, ctx).map(|()| Reply::Done),
            Command::Credit(consumer, credit) => self.credit(consumer, credit, ctx).map(|()| Reply::Done),
            Command::Pool(pool, credit) => self.pool(pool, credit, ctx).map(|()| Reply::Done),
            Command::LimitVhost { host, limits } => self.limit_vhost(host, limits, ctx).map(|()| Reply::Done),
            Command::Detach(consumer) => self.detach(consumer, ctx).map(|()| Reply::Done),
            Command::Strand(consumer) => self.strand(consumer, ctx).map(|()| Reply::Done),
            Command::CloseSession(session) => {
                self.close_session(session, ctx);
                Ok(Reply::Done)
            }
            Command::Extend(extend) => self.extend(&extend, ctx).map(Reply::Extended),
            Command::Seek(seek) => self.seek(&seek, ctx).map(|()| Reply::Done),
            Command::Loaded(loaded) => {
                self.loaded(loaded, ctx);
                Ok(Reply::Done)
            }
            Command::Settled(outcome) => {
                self.check_settled(&outcome).map_err(|overlap| Refusal::Damaged(overlap.to_string()))?;
                entry::Entry::Settled(outcome.clone()).append(ctx.log);
                self.apply_settled(&outcome);
                Ok(Reply::Done)
            }
        }
    }

    /// Takes over what a command's surroundings have gathered.
    fn close(&mut self, ctx: Ctx<'_>) {
        let Ctx { timers, gone, dirty, .. } = ctx;
        self.timers.extend(timers.into_iter().map(Reverse));
        for consumer in gone {
            let session = self.consumers.remove(&consumer).map(|(.., session)| session);
            if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
                session.consumers.remove(&consumer);
            }
        }
        for (kind, id) in dirty {
            self.mark(kind, id);
        }
    }

    /// Puts a queue or subscription on the list of what to look at.
    fn mark(&mut self, kind: Kind, id: EntityId) {
        let outlet = match kind {
            Kind::Queue => self.queues.get_mut(&id).map(|queue| &mut queue.outlet),
            Kind::Subscription => {
                self.subscriptions.get_mut(&id).map(|subscription| &mut subscription.outlet)
            }
            Kind::Topic | Kind::Route => None,
        };
        if let Some(outlet) = outlet
            && !std::mem::replace(&mut outlet.dirty, true)
        {
            self.dirty.push_back((kind, id));
        }
    }

    /// Hands out what became ready. To be called after each batch of commands, into the same commit group.
    pub fn flush(&mut self, now: Millis, log: &mut dyn Append, effects: &mut Vec<Effect>) {
        while let Some((kind, id)) = self.dirty.pop_front() {
            let mut ctx = Ctx::new(now, log, effects);
            ctx.pools = std::mem::take(&mut self.pools);
            match kind {
                Kind::Queue => {
                    if let Some(queue) = self.queues.get_mut(&id) {
                        queue.outlet.dirty = false;
                        queue.dispatch(&mut ctx);
                    }
                }
                _ => {
                    if let Some(subscription) = self.subscriptions.get_mut(&id) {
                        subscription.outlet.dirty = false;
                        subscription.dispatch(&self.topics, &mut ctx);
                    }
                }
            }
            self.pools = std::mem::take(&mut ctx.pools);
            self.pools.looked_at((kind, id), now);
            self.follow_pools(&mut ctx);
            self.close(ctx);
        }
    }

    fn log(&self, id: LogId) -> Option<&log::Log> {
        match self.queues.get(&id.entity) {
            Some(queue) => queue.logs.get(id.log),
            None => self.topics.get(&id.entity).and_then(|topic| topic.logs.get(usize::from(id.log))),
        }
    }

    fn loaded(&mut self, mut loaded: Loaded, ctx: &mut Ctx<'_>) {
        for (meta, _) in &mut loaded.messages {
            // It may have moved since it was asked for.
            if let Some(file) = self.log(meta.log).and_then(|log| log.settled_file(meta.offset.0)) {
                meta.place = Place::Settled(file);
            }
        }
        match loaded.purpose {
            Purpose::Window { entity, log, generation } => {
                if let Some(outlet) = self.outlet_mut(entity)
                    && outlet.window_loaded(log, generation, loaded, ctx)
                {
                    ctx.dirty.push((outlet.kind, entity));
                }
            }
            Purpose::Returned { entity, log, generation } => {
                if let Some(outlet) = self.outlet_mut(entity) {
                    outlet.returned_found(log, generation, loaded, ctx);
                    ctx.dirty.push((outlet.kind, entity));
                }
            }
            Purpose::DeadLetter { entity, tag } => self.dead_letter(entity, tag, loaded, ctx),
        }
    }

    fn outlet_mut(&mut self, id: EntityId) -> Option<&mut outlet::Outlet> {
        match self.queues.get_mut(&id) {
            Some(queue) => Some(&mut queue.outlet),
            None => self.subscriptions.get_mut(&id).map(|subscription| &mut subscription.outlet),
        }
    }
}
