//! A shard with everything around it in memory: entries in a list, loads answered from them, time by hand.
#![allow(dead_code)]

use std::collections::BTreeMap;

use bytes::Bytes;
use waystation_base::{
    Attempt, ClientId, ConsumerId, Message, MessageId, Millis, Name, Offset, Position, Tag,
    batch::{self, Header},
};
use waystation_broker::{
    Append, Command, Effect, Kind, Refusal, Reply, RequestId, SessionId, Shard, Source,
    command::{
        Attach, Bind, Counted, Declare, Delete, Destination, Hold, Outcome, Payload, Publish, Settle,
        Settlement, Target, Transaction,
    },
    effect::{Closed, Handed, Notice, Published},
    place::{Load, Loaded, LogId, Meta, Place, Purpose},
    settle::{Leaving, Outcome as Settled, SettledRun},
    spec::{Fair, QueueSpec, RouteKind, RouteSpec, Spec, SubscriptionSpec, TopicSpec},
    view::{QueueInfo, SubscriptionInfo},
};

/// The journal: entries by the position of their payloads.
#[derive(Default)]
pub struct Entries {
    pub list: Vec<(Position, u8, Vec<u8>)>,
    end: u64,
}

impl Append for Entries {
    fn append(&mut self, kind: u8, write: &mut dyn FnMut(&mut Vec<u8>)) -> Position {
        // Entries share a buffer in the real journal: the payload does not begin at its start.
        let mut buffer = vec![0xee; 7];
        write(&mut buffer);
        let payload = buffer.split_off(7);
        let position = Position(self.end + 5);
        self.end = position.0 + payload.len() as u64;
        self.list.push((position, kind, payload));
        position
    }
}

impl Entries {
    fn batch(&self, position: Position) -> Bytes {
        let index = self.list.partition_point(|(at, ..)| *at <= position) - 1;
        let (at, _, payload) = &self.list[index];
        let bytes = &payload[(position.0 - at.0) as usize..];
        let header = Header::read(bytes).expect("a batch");
        Bytes::copy_from_slice(&bytes[..header.bytes])
    }
}

/// See the module.
pub struct World {
    pub shard: Shard,
    pub journal: Entries,
    pub settled: BTreeMap<(u32, LogId), Vec<Bytes>>,
    pub now: Millis,
    pub delivered: BTreeMap<ConsumerId, Vec<Handed>>,
    pub closed: Vec<(ConsumerId, Closed)>,
    pub notices: Vec<Notice>,
    /// How many messages were looked up at once, each time.
    pub finds: Vec<usize>,
    ids: u64,
}

pub fn name(text: &str) -> Name {
    let name = if text.starts_with('$') { Name::reserved(text) } else { Name::new(text) };
    name.expect("a good name")
}

/// Fair to the tenants whom the header `tenant` names.
pub fn fair() -> Fair {
    Fair { header: "tenant".into(), ..Fair::default() }
}

/// A subscription `s` to the topic `t` that is fair to tenants, and a queue for its dead letters.
pub fn subscribed(change: impl FnOnce(&mut SubscriptionSpec)) -> World {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.queue("dead", |_| ());
    w.subscribe("s", "t", |spec| {
        spec.fair = Some(Box::new(fair()));
        change(spec);
    });
    w
}

/// Messages `a1`, `a2`… of the tenant `a`, whom the header `tenant` names, to any address.
pub fn send_to(w: &mut World, address: &str, tenant: &str, count: usize) {
    let messages = (1..=count).map(|n| {
        let mut message = w.message(&format!("{tenant}{n}"));
        message.headers.set("tenant", tenant);
        message
    });
    let messages = messages.collect();
    w.publish_messages(address, messages).expect("published");
}

pub fn queue(text: &str) -> Source {
    Source::Queue(name(text))
}

pub fn subscription(text: &str) -> Source {
    Source::Subscription(name(text))
}

pub fn bind_of(route: &str, to: &str, key: &str, arguments: &str) -> Bind {
    let to = match to.strip_prefix('>') {
        Some(route) => Destination::Route(name(route)),
        None => Destination::Address(name(to)),
    };
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    let arguments = serde_json::from_str(arguments).expect("JSON");
    Bind { route: name(route), to, key: key.into(), arguments }
}

impl World {
    pub fn new() -> World {
        World {
            shard: Shard::new(),
            journal: Entries::default(),
            settled: BTreeMap::new(),
            now: Millis(1_000_000),
            delivered: BTreeMap::new(),
            closed: Vec::new(),
            notices: Vec::new(),
            finds: Vec::new(),
            ids: 0,
        }
    }

    /// Carries out a command and all that follows from it.
    pub fn run(&mut self, command: Command) -> Result<Reply, Refusal> {
        let mut effects = Vec::new();
        let request = Some(RequestId(1));
        self.shard.handle(self.now, request, command, &mut self.journal, &mut effects);
        self.shard.flush(self.now, &mut self.journal, &mut effects);
        self.carry_out(effects).expect("an answer")
    }

    /// Flushes and carries out what came of commands that were given to the shard directly.
    pub fn carry_on(&mut self, mut effects: Vec<Effect>) {
        self.shard.flush(self.now, &mut self.journal, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, mut effects: Vec<Effect>) -> Option<Result<Reply, Refusal>> {
        let mut answer = None;
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Reply { result, .. } => answer = Some(result),
                    Effect::Deliver { consumer, messages } => {
                        assert!(!messages.is_empty());
                        self.delivered.entry(consumer).or_default().extend(messages);
                    }
                    Effect::Closed { consumer, reason } => self.closed.push((consumer, reason)),
                    Effect::Notice(notice) => self.notices.push(notice),
                    Effect::Load(load) => {
                        if let Purpose::Returned { .. } = load.purpose {
                            self.finds.push(load.only.as_ref().map_or(0, Vec::len));
                        }
                        let loaded = Command::Loaded(self.load(&load));
                        self.shard.handle(self.now, None, loaded, &mut self.journal, &mut effects);
                    }
                }
            }
            self.shard.flush(self.now, &mut self.journal, &mut effects);
        }
        answer
    }

    fn load(&self, load: &Load) -> Loaded {
        let body = matches!(load.purpose, Purpose::DeadLetter { .. });
        let mut messages = Vec::new();
        let mut next = load.to;
        'spans: for span in &load.spans {
            let batches = match span.place {
                Place::Journal(position) => vec![self.journal.batch(position)],
                Place::Settled(file) => self.settled[&(file, load.log)].clone(),
            };
            for batch in batches {
                for record in batch::records(&batch).expect("records") {
                    let record = record.expect("a record");
                    if record.offset < load.from || record.offset >= load.to {
                        continue;
                    }
                    if load.only.as_ref().is_some_and(|only| !only.contains(&record.offset)) {
                        continue;
                    }
                    if messages.len() == load.messages_max {
                        next = record.offset;
                        break 'spans;
                    }
                    let message = record.message(&batch).expect("a message");
                    let address = self.shard.address_of(load.log).expect("a name");
                    if load.filter.as_ref().is_none_or(|filter| filter.matches(address.as_str(), &message)) {
                        let mut meta = Meta::of(load.log, span.place, &record).expect("a meta");
                        meta.tenant =
                            load.tenant_by.as_ref().map_or(0, |by| by.of(address.as_str(), &message));
                        messages.push((meta, body.then_some(message)));
                    }
                }
            }
        }
        Loaded { purpose: load.purpose, messages, next, damaged: None }
    }

    /// Moves time on, through everything that is due on the way.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let mut effects = Vec::new();
            self.shard.tick(self.now, &mut self.journal, &mut effects);
            self.shard.flush(self.now, &mut self.journal, &mut effects);
            self.carry_out(effects);
        }
        self.now = end;
    }

    /// Stops and starts again, from the journal alone or from a snapshot taken after the first `snapshot` entries.
    pub fn restart(&mut self) {
        self.shard = Shard::new();
        for (position, kind, payload) in &self.journal.list {
            self.shard.replay(*position, *kind, payload).expect("an entry");
        }
        self.recover();
    }

    /// Stops and starts again from a snapshot of this moment.
    pub fn restart_from_snapshot(&mut self) {
        self.shard = Shard::restore(&self.shard.snapshot()).expect("a snapshot");
        for (position, kind, payload) in &self.journal.list {
            self.shard.reindex(*position, *kind, payload).expect("an entry");
        }
        self.recover();
    }

    fn recover(&mut self) {
        let mut effects = Vec::new();
        self.delivered.clear();
        self.shard.recovered(self.now, &mut self.journal, &mut effects);
        self.shard.flush(self.now, &mut self.journal, &mut effects);
        self.carry_out(effects);
    }

    /// Moves everything alive to a settled file.
    pub fn settle_all(&mut self, file: u32, leaving: Leaving) {
        let plan = self.shard.plan(&leaving, self.now);
        let mut runs = Vec::new();
        for log in plan.logs {
            let mut batches = Vec::new();
            for span in &log.spans {
                match span.place {
                    Place::Journal(position) => batches.push(self.journal.batch(position)),
                    Place::Settled(file) => batches.extend(self.settled[&(file, log.log)].clone()),
                }
            }
            let (mut out, mut scratch) = (Vec::new(), batch::Scratch::default());
            let first = log.live[0].0;
            let last = log.live[log.live.len() - 1].1;
            let mut encoder = batch::Encoder::new(&mut out, &mut scratch, first, self.now);
            let mut messages = 0;
            for batch in &batches {
                for record in batch::records(batch).expect("records").flatten() {
                    if log.live.iter().any(|(a, b)| (*a..=*b).contains(&record.offset)) {
                        encoder.push_record(&record);
                        messages += 1;
                    }
                }
            }
            encoder.finish();
            let bytes = out.len() as u64;
            self.settled.insert((file, log.log), vec![out.into()]);
            let (min_timestamp, max_timestamp) = (self.now, self.now);
            runs.push(SettledRun {
                file,
                log: log.log,
                first,
                last,
                messages,
                bytes,
                min_timestamp,
                max_timestamp,
            });
        }
        self.run(Command::Settled(Settled { leaving, runs })).expect("settled");
    }

    pub fn end(&self) -> Position {
        Position(self.journal.end)
    }

    pub fn declare(&mut self, text: &str, spec: Spec) -> Result<Reply, Refusal> {
        let declare = Declare { name: name(text), spec, change: false, session: SessionId(0) };
        self.run(Command::Declare(declare))
    }

    pub fn queue(&mut self, text: &str, change: impl FnOnce(&mut QueueSpec)) {
        let mut spec = QueueSpec::default();
        change(&mut spec);
        self.declare(text, Spec::Queue(spec)).expect("declared");
    }

    pub fn topic(&mut self, text: &str, change: impl FnOnce(&mut TopicSpec)) {
        let mut spec = TopicSpec::default();
        change(&mut spec);
        self.declare(text, Spec::Topic(spec)).expect("declared");
    }

    pub fn subscribe(&mut self, text: &str, topic: &str, change: impl FnOnce(&mut SubscriptionSpec)) {
        let mut spec = SubscriptionSpec::new(topic);
        change(&mut spec);
        self.declare(text, Spec::Subscription(spec)).expect("declared");
    }

    pub fn route(&mut self, text: &str, kind: RouteKind, change: impl FnOnce(&mut RouteSpec)) {
        let mut spec = RouteSpec::new(kind);
        change(&mut spec);
        self.declare(text, Spec::Route(spec)).expect("declared");
    }

    /// Binds a queue, a topic, or with a leading `>` a route.
    pub fn bind(&mut self, route: &str, to: &str, key: &str, arguments: &str) -> Result<Reply, Refusal> {
        self.run(Command::Bind(bind_of(route, to, key, arguments)))
    }

    pub fn unbind(&mut self, route: &str, to: &str, key: &str, arguments: &str) -> Result<Reply, Refusal> {
        self.run(Command::Unbind(bind_of(route, to, key, arguments)))
    }

    /// Publishes one message by a route under keys that are parted by blanks.
    pub fn send(
        &mut self,
        route: &str,
        keys: &str,
        body: &str,
        change: impl FnOnce(&mut Message),
    ) -> Result<Published, Refusal> {
        let mut message = self.message(body);
        change(&mut message);
        let keys = keys.split(' ').map(Into::into).collect();
        let to = Target::Route { route: name(route), keys, told: false };
        self.each(vec![Publish { to, partition: None, payload: Payload::One(message) }]).remove(0)
    }

    pub fn each(&mut self, publishes: Vec<Publish>) -> Vec<Result<Published, Refusal>> {
        match self.run(Command::PublishEach(publishes)).expect("each is answered for itself") {
            Reply::PublishedEach(results) => results,
            other => panic!("{other:?}"),
        }
    }

    /// What waits in a queue, in order; it is gone afterwards.
    pub fn drain(&mut self, queue_name: &str) -> Vec<String> {
        self.drain_messages(queue_name).iter().map(|m| String::from_utf8_lossy(&m.body).into()).collect()
    }

    pub fn drain_messages(&mut self, queue_name: &str) -> Vec<Message> {
        let hold = Hold::None;
        let consumer =
            self.attach_with(queue(queue_name), 60_000, |attach| attach.hold = hold).expect("attached");
        let handed = self.take(consumer);
        self.run(Command::Detach(consumer)).expect("detached");
        handed.iter().map(|handed| self.read(handed)).collect()
    }

    pub fn delete(&mut self, kind: Kind, text: &str) -> Result<Reply, Refusal> {
        let session = SessionId(0);
        self.run(Command::Delete(Delete {
            kind,
            name: name(text),
            if_unused: false,
            if_empty: false,
            counted: Counted::All,
            session,
        }))
    }

    pub fn message(&mut self, body: &str) -> Message {
        self.ids += 1;
        Message::new(MessageId::new(self.now, u128::from(self.ids)), self.now, body.as_bytes().to_vec())
    }

    pub fn publish_messages(&mut self, address: &str, messages: Vec<Message>) -> Result<Published, Refusal> {
        let publish =
            Publish { to: name(address).into(), partition: None, payload: Payload::Messages(messages) };
        match self.run(Command::Transact(Transaction { publishes: vec![publish], settlements: vec![] }))? {
            Reply::Committed(mut published) => Ok(published.remove(0)),
            other => panic!("{other:?}"),
        }
    }

    /// Publishes one message after `change`.
    pub fn publish_with(
        &mut self,
        address: &str,
        body: &str,
        change: impl FnOnce(&mut Message),
    ) -> Result<Published, Refusal> {
        let mut message = self.message(body);
        change(&mut message);
        self.publish_messages(address, vec![message])
    }

    /// Publishes each body on its own.
    pub fn publish(&mut self, address: &str, bodies: &[&str]) {
        for body in bodies {
            self.publish_with(address, body, |_| ()).expect("published");
        }
    }

    pub fn attach(&mut self, source: Source, credit: u32) -> ConsumerId {
        self.attach_with(source, credit, |_| ()).expect("attached")
    }

    pub fn attach_with(
        &mut self,
        source: Source,
        credit: u32,
        change: impl FnOnce(&mut Attach),
    ) -> Result<ConsumerId, Refusal> {
        self.ids += 1;
        let consumer = ConsumerId(self.ids);
        let session = SessionId(0);
        let mut attach = Attach {
            consumer,
            source,
            credit,
            pool: None,
            hold: Hold::Attached,
            priority: 0,
            exclusive: false,
            session,
            client: ClientId(0),
        };
        change(&mut attach);
        self.run(Command::Attach(attach)).map(|_| consumer)
    }

    /// Pulls up to `max` messages, without waiting, under a lease.
    pub fn pull(&mut self, source: Source, max: u32, lease_ms: u64) -> Vec<Handed> {
        let until = self.now;
        let hold = Hold::Pull { lease_ms: Some(lease_ms), until };
        let consumer = self.attach_with(source, max, |attach| attach.hold = hold).expect("attached");
        self.pass(0);
        assert!(self.closed.contains(&(consumer, Closed::PullEnded)));
        self.delivered.remove(&consumer).unwrap_or_default()
    }

    /// What a consumer was given since the last time.
    pub fn take(&mut self, consumer: ConsumerId) -> Vec<Handed> {
        self.delivered.remove(&consumer).unwrap_or_default()
    }

    pub fn body(&self, handed: &Handed) -> String {
        self.read(handed).body.iter().map(|byte| char::from(*byte)).collect()
    }

    pub fn read(&self, handed: &Handed) -> Message {
        match handed.meta.place {
            Place::Journal(position) => {
                let batch = self.journal.batch(position);
                let record = batch::Record::read(&batch, handed.meta.at).expect("a record");
                assert_eq!(record.offset, handed.meta.offset);
                record.message(&batch).expect("a message")
            }
            Place::Settled(file) => {
                let batches = &self.settled[&(file, handed.meta.log)];
                let find = |batch: &Bytes| {
                    let mut records = batch::records(batch).expect("records").flatten();
                    records
                        .find(|r| r.offset == handed.meta.offset)
                        .map(|r| r.message(batch).expect("a message"))
                };
                batches.iter().find_map(find).expect("there")
            }
        }
    }

    /// The bodies that a consumer was given since the last time.
    pub fn bodies(&mut self, consumer: ConsumerId) -> Vec<String> {
        let handed = self.take(consumer);
        handed.iter().map(|handed| self.body(handed)).collect()
    }

    pub fn settle(&mut self, source: Source, handed: &Handed, outcome: Outcome) -> Result<Reply, Refusal> {
        self.settle_tag(source, handed.tag, handed.attempt, outcome)
    }

    pub fn settle_tag(
        &mut self,
        source: Source,
        tag: Tag,
        attempt: Attempt,
        outcome: Outcome,
    ) -> Result<Reply, Refusal> {
        let settlements = vec![Settle { source, settlements: vec![Settlement { tag, attempt, outcome }] }];
        self.run(Command::Transact(Transaction { publishes: vec![], settlements }))
    }

    pub fn accept(&mut self, source: Source, handed: &Handed) {
        self.settle(source, handed, Outcome::Accepted).expect("accepted");
    }

    pub fn queue_info(&self, text: &str) -> QueueInfo {
        self.shard.queue(&name(text)).expect("a queue")
    }

    pub fn subscription_info(&self, text: &str) -> SubscriptionInfo {
        self.shard.subscription(&name(text), self.now).expect("a subscription")
    }

    /// Reads a topic's partition from its beginning.
    pub fn offsets(&self, topic: &str) -> (Offset, Offset) {
        let info = self.shard.topic(&name(topic)).expect("a topic");
        (Offset(info.partitions[0].start_offset), Offset(info.partitions[0].end_offset))
    }
}
