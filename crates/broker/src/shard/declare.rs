//! Making and changing queues, topics, subscriptions and routes.

use waystation_base::{
    EntityId, Name, Offset,
    limits::{ENTITIES_MAX, SUBSCRIPTION_LOGS_MAX},
    name,
};

use super::{
    Address, Ctx, Queue, Shard, Subscription, Topic,
    cursor::Cursor,
    entry::{Declaration, Entry},
    routes::Route,
    timers::Timer,
};
use crate::{
    Kind, ROUTE_CLAIM, Refusal, SessionId,
    command::Declare,
    effect::Declared,
    place::LogId,
    spec::{Overflow, Spec, Start, SubscriptionSpec},
};

/// Whether a subscription is to a topic. No pattern stands for Waystation's own: they are named, or not meant; but for the one by which
/// its own dead letters come back.
fn reads(subscription: &Name, spec: &SubscriptionSpec, topic: &Name) -> bool {
    match topic.is_reserved() {
        true => spec.topic == topic.as_str() || topic.redriven_to() == Some(subscription.as_str()),
        false => name::matches(&spec.topic, topic.as_str()) || spec.topic == topic.as_str(),
    }
}

impl Shard {
    pub(super) fn declare(&mut self, declare: Declare, ctx: &mut Ctx<'_>) -> Result<Declared, Refusal> {
        let Declare { name, spec, change, session } = declare;
        spec.check()?;
        check_overflow(&name, &spec)?;
        match self.find(spec.kind(), &name) {
            Some(id) => self.redeclare(id, &name, &spec, change, session, ctx),
            None => {
                self.check_new(&name, &spec)?;
                self.check_unclaimed(&spec, &name)?;
                self.check_vhost(&name, &spec)?;
                let id = self.create(name, spec, ctx);
                self.own(id, session);
                Ok(Declared::Created)
            }
        }
    }

    /// A document may claim a route's name.
    fn check_unclaimed(&self, spec: &Spec, name: &Name) -> Result<(), Refusal> {
        let is_claimed = || self.documents.contains_key(format!("{ROUTE_CLAIM}{name}").as_str());
        if spec.kind() == Kind::Route && is_claimed() {
            let field = "kind: it has steps".to_owned();
            return Err(Refusal::Exists { kind: Kind::Route, name: name.clone(), field });
        }
        Ok(())
    }

    /// What has a name: queues and topics share theirs, subscriptions have their own.
    pub(super) fn find(&self, kind: Kind, name: &Name) -> Option<EntityId> {
        match kind {
            Kind::Subscription => self.subscription_names.get(name).copied(),
            Kind::Route => self.route_names.get(name).copied(),
            _ => self.addresses.get(name).map(|(Address::Queue(id) | Address::Topic(id))| *id),
        }
    }

    /// How something is declared.
    pub(super) fn spec(&self, id: EntityId) -> Option<Spec> {
        if let Some(queue) = self.queues.get(&id) {
            return Some(Spec::Queue(queue.spec.clone()));
        }
        if let Some(topic) = self.topics.get(&id) {
            return Some(Spec::Topic(topic.spec.clone()));
        }
        if let Some(route) = self.routes.get(&id) {
            return Some(Spec::Route(route.spec.clone()));
        }
        self.subscriptions.get(&id).map(|subscription| Spec::Subscription(subscription.spec.clone()))
    }

    fn redeclare(
        &mut self,
        id: EntityId,
        name: &Name,
        spec: &Spec,
        change: bool,
        session: SessionId,
        ctx: &mut Ctx<'_>,
    ) -> Result<Declared, Refusal> {
        let have = self.spec(id).expect("found");
        let kind = have.kind();
        let differs =
            |field: &str| Err(Refusal::Exists { kind, name: name.clone(), field: field.to_owned() });
        if kind != spec.kind() {
            return differs("kind");
        }
        if let Some(queue) = self.queues.get_mut(&id) {
            if queue.owner.is_some_and(|owner| owner != session) {
                return Err(Refusal::Exclusive { kind: Kind::Queue, name: name.clone() });
            }
            queue.outlet.last_used = ctx.now;
        }
        if !change {
            // What policies laid over it is not part of what somebody declares.
            return match first_difference(&have.declared(), &spec.clone().declared()) {
                // They are only kept.
                Some(field) if field != "arguments" => differs(&field),
                _ => Ok(Declared::Unchanged),
            };
        }
        if have == *spec {
            return Ok(Declared::Unchanged);
        }
        match (&have, spec) {
            (Spec::Topic(have), Spec::Topic(want)) if want.partitions < have.partitions => {
                return differs("partitions (it may grow, not shrink)");
            }
            (Spec::Subscription(have), Spec::Subscription(want)) if want.topic != have.topic => {
                return differs("topic");
            }
            (Spec::Queue(have), Spec::Queue(want)) if want.exclusive != have.exclusive => {
                return differs("exclusive");
            }
            (Spec::Route(have), Spec::Route(want)) if want.kind != have.kind => {
                return differs("kind");
            }
            _ => {}
        }
        let declaration = Declaration { name: name.clone(), spec: spec.clone() };
        self.apply_declare(id, declaration.clone());
        Entry::Declare(id, declaration).append(ctx.log);
        self.follow_up(id, ctx);
        Ok(Declared::Changed)
    }

    fn check_new(&self, name: &Name, spec: &Spec) -> Result<(), Refusal> {
        if self.entities() >= ENTITIES_MAX {
            return Err(Refusal::Limit {
                what: "queues, topics, subscriptions and routes",
                limit: ENTITIES_MAX as u64,
            });
        }
        let Spec::Subscription(spec) = spec else { return Ok(()) };
        if name::is_pattern(&spec.topic) {
            let logs: usize = self.matching_topics(name, spec).map(|topic| topic.logs.len()).sum();
            if logs > SUBSCRIPTION_LOGS_MAX {
                let limit = SUBSCRIPTION_LOGS_MAX as u64;
                return Err(Refusal::Limit { what: "topic partitions in one subscription", limit });
            }
            return Ok(());
        }
        match self.addresses.get(spec.topic.as_str()) {
            Some(Address::Topic(_)) => Ok(()),
            _ => Err(Refusal::NotFound { kind: Kind::Topic, name: spec.topic.clone() }),
        }
    }

    fn matching_topics<'a>(
        &'a self,
        name: &'a Name,
        spec: &'a SubscriptionSpec,
    ) -> impl Iterator<Item = &'a Topic> {
        let topics = self.topics.values().map(|topic| &**topic);
        topics.filter(|topic| reads(name, spec, &topic.name))
    }

    fn create(&mut self, name: Name, spec: Spec, ctx: &mut Ctx<'_>) -> EntityId {
        let id = EntityId(self.entities + 1);
        let kind = spec.kind();
        let declaration = Declaration { name, spec };
        self.apply_declare(id, declaration.clone());
        self.join_vhost(id, &declaration.name, kind);
        Entry::Declare(id, declaration).append(ctx.log);
        if let Some(outlet) = self.outlet_mut(id) {
            outlet.last_used = ctx.now;
        }
        self.follow_up(id, ctx);
        id
    }

    /// An exclusive queue belongs to the session that declared it.
    fn own(&mut self, id: EntityId, session: SessionId) {
        if let Some(queue) = self.queues.get_mut(&id).filter(|queue| queue.spec.exclusive) {
            queue.owner = Some(session);
            self.sessions.entry(session).or_default().queues.insert(id);
        }
    }

    /// Makes or changes something, now or after a restart.
    pub(super) fn apply_declare(&mut self, id: EntityId, declaration: Declaration) {
        let Declaration { name, spec } = declaration;
        self.entities = self.entities.max(id.0);
        match spec {
            Spec::Queue(spec) => match self.queues.get_mut(&id) {
                Some(queue) => queue.change(spec),
                None => {
                    self.addresses.insert(name.clone(), Address::Queue(id));
                    self.queues.insert(id, Box::new(Queue::new(id, name, spec)));
                }
            },
            Spec::Topic(spec) => match self.topics.get_mut(&id) {
                Some(topic) => {
                    topic.spec = spec;
                    topic.grow();
                }
                None => {
                    self.addresses.insert(name.clone(), Address::Topic(id));
                    self.topics.insert(id, Box::new(Topic::new(id, name, spec)));
                }
            },
            Spec::Route(spec) => {
                self.routing += 1;
                match self.routes.get_mut(&id) {
                    Some(route) => route.spec = spec,
                    None => {
                        self.route_names.insert(name.clone(), id);
                        self.routes.insert(id, Box::new(Route::new(id, name, spec)));
                    }
                }
            }
            Spec::Subscription(spec) => match self.subscriptions.get_mut(&id) {
                Some(subscription) => subscription.change(spec),
                None => {
                    self.subscription_names.insert(name.clone(), id);
                    self.subscriptions.insert(id, Box::new(Subscription::new(id, name, spec)));
                }
            },
        }
    }

    /// What a declaration brings with it: sources of subscriptions, timers, a look at what is ready.
    fn follow_up(&mut self, id: EntityId, ctx: &mut Ctx<'_>) {
        self.arm(id, ctx);
        if let Some(subscription) = self.subscriptions.get(&id) {
            let topics = self.matching_topics(&subscription.outlet.name, &subscription.spec);
            let start = subscription.spec.start;
            let mut logs: Vec<(LogId, Offset)> = topics.flat_map(|topic| starts(topic, start)).collect();
            logs.sort_unstable();
            self.add_sources(id, logs, ctx);
        }
        if let Some(topic) = self.topics.get(&id) {
            let (name, logs) = (topic.name.clone(), starts(topic, Start::Earliest));
            let matching = self.subscriptions.values().filter(|s| reads(&s.outlet.name, &s.spec, &name));
            let mut readers: Vec<EntityId> = matching.map(|subscription| subscription.outlet.id).collect();
            readers.sort_unstable();
            for reader in readers {
                self.add_sources(reader, logs.clone(), ctx);
            }
        }
        if let Some(outlet) = self.outlet_mut(id) {
            ctx.dirty.push((outlet.kind, id));
        }
    }

    /// Sets the timers of something that is new, changed, or there after a restart.
    pub(super) fn arm(&mut self, id: EntityId, ctx: &mut Ctx<'_>) {
        if let Some(interval) = self.topics.get(&id).and_then(|topic| topic.retention_interval_ms()) {
            ctx.timers.push((ctx.now.plus(interval), Timer::Retention(id)));
        }
        if let Some(idle) = self.idle_expiry_ms(id) {
            ctx.timers.push((ctx.now.plus(idle / 10 * 9), Timer::Idle(id)));
        }
    }

    /// Milliseconds without use after which it goes.
    pub(super) fn idle_expiry_ms(&self, id: EntityId) -> Option<u64> {
        match self.queues.get(&id) {
            Some(queue) => queue.spec.idle_expiry_ms,
            None => self.subscriptions.get(&id)?.spec.idle_expiry_ms,
        }
    }

    /// Lets a subscription read logs that it does not read yet.
    fn add_sources(&mut self, id: EntityId, logs: Vec<(LogId, Offset)>, ctx: &mut Ctx<'_>) {
        for (log, start) in logs {
            let subscription = self.subscriptions.get(&id).expect("found");
            let number = subscription.sources.len();
            if subscription.sources.contains(&Some(log)) || number >= SUBSCRIPTION_LOGS_MAX {
                continue;
            }
            self.apply_source(id, number as u16, log, start);
            Entry::Source(id, number as u16, log, start).append(ctx.log);
        }
    }

    /// A subscription reads a log, now or after a restart.
    pub(super) fn apply_source(&mut self, id: EntityId, number: u16, log: LogId, start: Offset) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let sources = &mut subscription.sources;
        sources.resize(sources.len().max(usize::from(number) + 1), None);
        sources[usize::from(number)] = Some(log);
        subscription.outlet.cursors.insert(number, Box::new(Cursor::starting_at(start.0)));
        if let Some(topic) = self.topics.get_mut(&log.entity)
            && let Some(readers) = topic.readers.get_mut(usize::from(log.log))
        {
            readers.push((id, number));
        }
    }
}

/// What does not fit into a queue cannot go there: it would go round for ever.
fn check_overflow(name: &Name, spec: &Spec) -> Result<(), Refusal> {
    match spec {
        Spec::Queue(spec)
            if spec.overflow == Overflow::DeadLetterHead
                && spec.dead_letter.as_deref() == Some(name.as_str()) =>
        {
            let reason = "a queue that is too long cannot be its own dead-letter address".to_owned();
            Err(crate::spec::Error { field: "dead_letter", reason }.into())
        }
        _ => Ok(()),
    }
}

/// Where a subscription begins in each of a topic's partitions.
fn starts(topic: &Topic, start: Start) -> Vec<(LogId, Offset)> {
    let logs = topic.logs.iter().enumerate();
    logs.map(|(partition, log)| {
        let offset = match start {
            Start::Latest => log.next,
            Start::Offset(offset) => offset.clamp(log.base, log.next),
            // Messages before the time are passed over when they are loaded.
            Start::Earliest | Start::Time(_) => log.base,
        };
        (LogId { entity: topic.id, log: partition as u16 }, Offset(offset))
    })
    .collect()
}

/// The first field in which two declarations differ.
fn first_difference(have: &Spec, want: &Spec) -> Option<String> {
    if have == want {
        return None;
    }
    let fields = |spec: &Spec| {
        let value = serde_json::to_value(spec).expect("a declaration has a JSON form");
        value.as_object().and_then(|kind| kind.values().next()).and_then(|fields| fields.as_object()).cloned()
    };
    let (have, want) = (fields(have).unwrap_or_default(), fields(want).unwrap_or_default());
    let mut differing = want.into_iter().filter(|(field, value)| have.get(field) != Some(value)).map(|f| f.0);
    // Arguments are named only if nothing else is to be said.
    let first = differing.find(|field| field != "arguments");
    Some(first.unwrap_or_else(|| "arguments".to_owned()))
}
