//! How do published messages reach the broker: those of one turn as one command, and their answers as few confirms?

use std::{
    collections::{HashMap, VecDeque},
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use foldhash::fast::RandomState;
use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;
use waystation_base::{MessageId, Millis, Name, message::header, value::Value};
use waystation_broker::{
    Command, Refusal, Reply,
    command::{Payload, Publish, Target},
    effect::Published,
};
use waystation_host::{Alarms, Pending};

use super::{
    connection::{Connection, Context as Asked, ID_STEP},
    doubt::Doubt,
    outcome::failure,
    replies,
};
use crate::{
    directory::{Account, Action},
    mapping::{Incoming, names, read_message},
    session::{ChannelKey, Failure, Publishing, Session, Ticket},
    wire::{Content, Flags, ReplyCode, methods::basic},
};

/// The name that stands for the replies to this channel.
const REPLY_TO: &str = crate::session::REPLY_TO;
/// Exchanges, and keys of the default exchange, that are remembered: after so many it begins anew.
const REMEMBERED_MAX: usize = 1_024;
/// Users with this tag may write another user's name into a message.
const IMPERSONATOR: &str = "impersonator";

/// Publishes gathered, and those on their way.
#[derive(Debug, Default)]
pub(super) struct Publishes {
    gathered: Vec<Publish>,
    notes: Vec<Note>,
    bytes: usize,
    sent: VecDeque<Sent>,
    /// Publishes on their way.
    pub open: usize,
    /// Bytes of them.
    pub open_bytes: usize,
    allowed: Allowed,
    /// When the turn began.
    now: Millis,
    /// What `amq.rabbitmq.reply-to` stands for, by channel.
    pub reply_addresses: HashMap<ChannelKey, SmolStr>,
}

/// Where this connection's user may publish to, as far as that was asked.
#[derive(Debug, Default)]
struct Allowed {
    /// Exchanges, with Waystation's names for them; none for the default exchange.
    exchanges: Known,
    /// Keys of the default exchange, with Waystation's names of the queues; none for what cannot be a name.
    queues: Known,
    /// What they hold good for.
    generation: u64,
}

impl Allowed {
    /// Forgets everything if an answer may have changed.
    fn renew(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Allowed { generation, ..Allowed::default() };
        }
    }

    /// Waystation's name of an exchange that may be published to; none for the default exchange.
    fn exchange(&mut self, asked: &Asked, exchange: &SmolStr) -> Result<Option<Name>, Failure> {
        self.exchanges.get(exchange, || {
            asked.require(Action::Write, &asked.exchange(exchange))?;
            if exchange.is_empty() { Ok(None) } else { Ok(Some(asked.name(exchange)?)) }
        })
    }

    /// Waystation's name of the queue that a key of the default exchange names, which may be published to; none for what
    /// cannot be a name.
    fn queue(&mut self, asked: &Asked, key: &SmolStr) -> Result<Option<Name>, Failure> {
        self.queues.get(key, || {
            if !asked.account.may_publish_to(&asked.vhost, key) {
                let (queue, user) = (asked.queue(key), asked.account.name());
                return Err(Failure::access(format!("write access to {queue} refused for user '{user}'")));
            }
            Ok(names::queue_by_key(&asked.vhost, key).ok())
        })
    }
}

/// What was found for names before.
#[derive(Debug, Default)]
struct Known {
    /// The name that was asked for last: mostly the next one too.
    last: Option<(SmolStr, Option<Name>)>,
    all: HashMap<SmolStr, Option<Name>, RandomState>,
}

impl Known {
    /// What was found for a name before, or else is found now.
    fn get(
        &mut self,
        name: &SmolStr,
        find: impl FnOnce() -> Result<Option<Name>, Failure>,
    ) -> Result<Option<Name>, Failure> {
        if let Some((last, found)) = &self.last
            && last == name
        {
            return Ok(found.clone());
        }
        let found = match self.all.get(name) {
            Some(found) => found.clone(),
            None => {
                let found = find()?;
                if self.all.len() >= REMEMBERED_MAX {
                    self.all.clear();
                }
                self.all.insert(name.clone(), found.clone());
                found
            }
        };
        self.last = Some((name.clone(), found.clone()));
        Ok(found)
    }
}

/// What is to be told when a publish is answered.
#[derive(Debug)]
struct Note {
    ticket: Ticket,
    /// So many of the answers are its own.
    parts: u32,
    /// The door itself found somebody who takes it.
    is_taken: bool,
    /// It goes back if nobody takes it.
    mandatory: Option<Box<Returned>>,
}

/// A message that goes back to its publisher.
#[derive(Clone, Debug)]
pub(super) struct Returned {
    pub publish: basic::Publish,
    pub content: Content,
}

#[derive(Debug)]
struct Sent {
    /// None: there was nothing for the broker to do, or it takes nothing any more.
    pending: Option<Result<Pending, Refusal>>,
    notes: Vec<Note>,
    bytes: usize,
}

/// A message that waits until it is known whether it may go where it is to go.
#[derive(Debug)]
pub(super) struct Ready {
    note: Note,
    publishes: Vec<Publish>,
    bytes: usize,
}

impl Ready {
    /// Where it came in.
    pub fn channel(&self) -> ChannelKey {
        self.note.ticket.channel
    }
}

/// What there is to say of a message beside where it goes.
#[derive(Debug, Default)]
pub(super) struct Addressed {
    /// It went to somebody who waits for a direct reply.
    pub is_taken: bool,
    /// What speaks against it if its exchange is of type topic.
    pub doubt: Option<Box<Doubt>>,
}

impl Publishes {
    /// Whether some were gathered and have not gone out: so it is behind a turn only while publishing is refused.
    pub fn wait(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Nothing is told to a channel that has ended.
    pub fn forget_channel(&mut self, channel: ChannelKey) {
        let notes = self.sent.iter_mut().flat_map(|sent| &mut sent.notes).chain(&mut self.notes);
        for note in notes.filter(|note| note.ticket.channel == channel) {
            note.mandatory = None;
        }
    }
}

impl Connection {
    /// Takes one message for the broker.
    pub fn publish(&mut self, publishing: Publishing) {
        let Publishing { ticket, publish, content } = publishing;
        if !self.session.is_open(ticket.channel) {
            return;
        }
        self.has_published = true;
        if let Some(reason) = self.door.blocked_by() {
            self.tell_blocked(Some(reason));
        }
        if let Some(entry) = self.counters(ticket.channel) {
            entry.published.add(1);
        }
        let mandatory = publish
            .mandatory
            .then(|| Box::new(Returned { publish: publish.clone(), content: content.clone() }));
        let bytes = content.body.len() + content.properties.len();
        let mut gathered = std::mem::take(&mut self.publishes.gathered);
        let before = gathered.len();
        let addressed = self.address(ticket.channel, &publish, content, &mut gathered);
        let parts = (gathered.len() - before) as u32;
        match addressed {
            Ok(Addressed { is_taken, doubt }) => {
                let note = Note { ticket, parts, is_taken, mandatory };
                match doubt {
                    None => self.gather(note, bytes),
                    Some(doubt) => {
                        let publishes = gathered.split_off(before);
                        self.look_into(*doubt, Ready { note, publishes, bytes });
                    }
                }
            }
            Err(failure) => {
                gathered.truncate(before);
                self.fail(ticket.channel, failure.caused_by((60, 40)));
            }
        }
        self.publishes.gathered = gathered;
    }

    /// Takes one message that may go where it is to go, of which that is gathered already.
    fn gather(&mut self, note: Note, bytes: usize) {
        if note.ticket.seq.is_some() {
            self.touch(note.ticket.channel.id);
        }
        self.publishes.notes.push(note);
        self.publishes.bytes += bytes;
        self.publishes.open += 1;
        self.publishes.open_bytes += bytes;
    }

    /// The same, of one that had to wait.
    pub fn gather_ready(&mut self, ready: Ready) {
        let Ready { note, publishes, bytes } = ready;
        self.publishes.gathered.extend(publishes);
        self.gather(note, bytes);
    }

    /// Reads a message, and adds to `out` where it goes. After a failure what was added is to be thrown away.
    pub fn address(
        &mut self,
        channel: ChannelKey,
        publish: &basic::Publish,
        content: Content,
        out: &mut Vec<Publish>,
    ) -> Result<Addressed, Failure> {
        let Some(asked) = self.context.as_deref() else {
            return Err(Failure::new(ReplyCode::ChannelError, "not open"));
        };
        let Publishes { allowed, now, .. } = &mut self.publishes;
        self.ids = self.ids.wrapping_add(ID_STEP);
        let id = MessageId::new(*now, self.ids);
        let reading = Reading { asked, session: &self.session, channel, publish, id, now: *now };
        match allowed.exchange(asked, &publish.exchange)? {
            Some(route) => reading.for_route(route, content, out),
            None => reading.for_queues(allowed, content, out),
        }
    }

    /// What holds good for all that is published in one turn: the time, and what was found out about permissions.
    pub fn begin_publishes(&mut self) {
        self.publishes.now = self.door.clock.now();
        self.publishes.allowed.renew(self.door.directory.generation());
    }

    /// Hands over what was gathered as one command.
    pub async fn send_publishes(&mut self) {
        // While publishing is refused, what was read already waits here; nothing more is read.
        if self.publishes.notes.is_empty() || self.door.is_blocked() {
            return;
        }
        let gathered = std::mem::take(&mut self.publishes.gathered);
        let notes = std::mem::take(&mut self.publishes.notes);
        let bytes = std::mem::take(&mut self.publishes.bytes);
        let pending = if gathered.is_empty() {
            None
        } else {
            Some(self.broker().begin(Command::PublishEach(gathered)).await)
        };
        self.publishes.sent.push_back(Sent { pending, notes, bytes });
    }

    /// Hears what became of publishes, in the order in which they were made.
    pub fn poll_published(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Some(sent) = self.publishes.sent.front_mut() {
            let result = match &mut sent.pending {
                None => Ok(Reply::PublishedEach(Vec::new())),
                Some(Err(refusal)) => Err(refusal.clone()),
                Some(Ok(pending)) => match Pin::new(pending).poll(context) {
                    Poll::Ready(result) => result,
                    Poll::Pending => break,
                },
            };
            any = true;
            if let Some(sent) = self.publishes.sent.pop_front() {
                self.answered(sent, result);
            }
        }
        any
    }

    fn answered(&mut self, sent: Sent, result: Result<Reply, Refusal>) {
        let Sent { notes, bytes, .. } = sent;
        self.publishes.open -= notes.len();
        self.publishes.open_bytes -= bytes;
        let (mut each, refusal) = match result {
            Ok(Reply::PublishedEach(each)) => (each.into_iter(), None),
            Ok(other) => unreachable!("publishes were answered with {other:?}"),
            Err(refusal) => (Vec::new().into_iter(), Some(refusal)),
        };
        for note in notes {
            let fate = match &refusal {
                Some(refusal) if note.parts > 0 => Fate::Refused(refusal.clone()),
                _ => Fate::of(note.is_taken, each.by_ref().take(note.parts as usize)),
            };
            self.tell(note, fate);
        }
    }

    fn tell(&mut self, note: Note, fate: Fate) {
        let Note { ticket, mandatory, .. } = note;
        if !self.session.is_open(ticket.channel) {
            return;
        }
        self.touch(ticket.channel.id);
        match &fate {
            Fate::Refused(Refusal::DiskLow) => {
                self.door.set_low(Alarms { disk: true, ..self.door.low.get() });
            }
            Fate::Refused(Refusal::MemoryLow) => {
                self.door.set_low(Alarms { memory: true, ..self.door.low.get() });
            }
            _ => {}
        }
        match fate {
            Fate::Taken => self.session.published(ticket, true, &mut self.actions),
            Fate::Unrouted => {
                if let Some(returned) = mandatory {
                    self.put_return(ticket.channel, &returned);
                }
                self.session.published(ticket, true, &mut self.actions);
            }
            Fate::Refused(refusal) if is_full(&refusal) || ticket.seq.is_some() && passes(&refusal) => {
                self.session.published(ticket, false, &mut self.actions);
            }
            Fate::Refused(refusal) => {
                let vhost = self.session.vhost().clone();
                self.fail(ticket.channel, failure(&refusal, &vhost).caused_by((60, 40)));
            }
        }
    }

    /// Sends a message back as not routable.
    pub fn put_return(&mut self, channel: ChannelKey, returned: &Returned) {
        if let Some(entry) = self.counters(channel) {
            entry.returned.add(1);
        }
        let method = basic::Return {
            reply_code: ReplyCode::NoRoute.number(),
            reply_text: ReplyCode::NoRoute.name().into(),
            exchange: returned.publish.exchange.clone(),
            routing_key: returned.publish.routing_key.clone(),
        };
        self.output.put(channel.id, &method);
        let properties = &returned.content.properties;
        self.output.put_content(channel.id, |out| out.extend_from_slice(properties), &returned.content.body);
    }
}

/// One message that is being read.
struct Reading<'a> {
    asked: &'a Asked,
    session: &'a Session,
    channel: ChannelKey,
    publish: &'a basic::Publish,
    id: MessageId,
    now: Millis,
}

impl Reading<'_> {
    fn for_route(self, route: Name, content: Content, out: &mut Vec<Publish>) -> Result<Addressed, Failure> {
        let key = &self.publish.routing_key;
        let Incoming { message, copies, .. } = self.read(content, route.clone().into(), key.clone())?;
        let doubt = std::iter::once(key)
            .chain(&copies)
            .find_map(|key| check_topic(self.asked, &self.publish.exchange, key).err())
            .map(|failure| Box::new(Doubt { route: route.clone(), failure }));
        let mut keys = smallvec![key.clone()];
        keys.extend(copies);
        let to = Target::Route { route, keys, told: self.publish.mandatory };
        out.push(Publish { to, partition: None, payload: Payload::One(message) });
        Ok(Addressed { doubt, is_taken: false })
    }

    /// Under the default exchange a key is the name of a queue, and kept as Waystation's name for it.
    fn for_queues(
        self,
        allowed: &mut Allowed,
        content: Content,
        out: &mut Vec<Publish>,
    ) -> Result<Addressed, Failure> {
        let basic::Publish { exchange, routing_key, mandatory, .. } = self.publish;
        if routing_key.starts_with(replies::PREFIX) {
            let is_taken = self.asked.door.replies.send(exchange.clone(), routing_key.clone(), content);
            return Ok(Addressed { is_taken, doubt: None });
        }
        let first = allowed.queue(self.asked, routing_key)?;
        let key = first.as_ref().map_or_else(|| routing_key.clone(), |name| name.clone().into());
        let Incoming { message, copies, .. } = self.read(content, SmolStr::default(), key)?;
        // What cannot be a name is nobody's.
        let publish = |key, told, message| Publish {
            to: Target::Key { key, told },
            partition: None,
            payload: Payload::One(message),
        };
        if copies.is_empty() {
            if let Some(first) = first {
                out.push(publish(first, *mandatory, message));
            }
            return Ok(Addressed::default());
        }
        let mut addresses: SmallVec<[Name; 1]> = first.into_iter().collect();
        for key in &copies {
            if let Some(name) = allowed.queue(self.asked, key)?
                && !addresses.contains(&name)
            {
                addresses.push(name);
            }
        }
        // It goes back only if none of them is there.
        let told = *mandatory && addresses.len() == 1;
        if let Some(last) = addresses.pop() {
            out.extend(addresses.into_iter().map(|address| publish(address, told, message.clone())));
            out.push(publish(last, told, message));
        }
        Ok(Addressed::default())
    }

    /// Reads a message; `route` and `key` are what it shows as published to.
    fn read(&self, content: Content, route: SmolStr, key: SmolStr) -> Result<Incoming, Failure> {
        let Content { properties, body } = content;
        let mut incoming = read_message(&properties, route, key, body, self.id, self.now)?;
        if incoming.flags.has(Flags::USER_ID) {
            check_user(&incoming, &*self.asked.account)?;
        }
        if incoming.flags.has(Flags::REPLY_TO) {
            self.name_reply_address(&mut incoming)?;
        }
        Ok(incoming)
    }

    /// Replaces the name that stands for the replies to this channel by their address.
    fn name_reply_address(&self, incoming: &mut Incoming) -> Result<(), Failure> {
        if incoming.message.headers.text(header::REPLY_TO) != Some(REPLY_TO) {
            return Ok(());
        }
        let address = self.session.reply_address(self.channel);
        let address = address.ok_or_else(|| Failure::precondition("fast reply consumer does not exist"))?;
        incoming.message.headers.set(header::REPLY_TO, Value::String(address.clone()));
        Ok(())
    }
}

/// What became of one message.
#[derive(Debug)]
enum Fate {
    Taken,
    Unrouted,
    Refused(Refusal),
}

impl Fate {
    /// Several parts are the queues that a message names one by one.
    fn of(is_taken: bool, parts: impl Iterator<Item = Result<Published, Refusal>>) -> Fate {
        let mut is_taken = is_taken;
        let mut refused = None;
        for part in parts {
            match part {
                Ok(published) => is_taken |= published.unrouted == 0,
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match refused {
            Some(refusal) => Fate::Refused(refusal),
            None if is_taken => Fate::Taken,
            None => Fate::Unrouted,
        }
    }
}

/// A full queue refuses; a publisher without confirms is not told, as with RabbitMQ.
fn is_full(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Full { .. })
}

/// Whether trying again may help: a publisher with confirms is told so by a nack.
fn passes(refusal: &Refusal) -> bool {
    refusal.class() != waystation_base::Class::Reject
}

fn check_user(incoming: &Incoming, account: &dyn Account) -> Result<(), Failure> {
    let Some(claimed) = incoming.message.headers.get("user-id") else { return Ok(()) };
    let claimed = match claimed {
        Value::String(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    if claimed == account.name() || account.tags().iter().any(|tag| tag == IMPERSONATOR) {
        return Ok(());
    }
    Err(Failure::precondition(format!(
        "user_id property set to '{claimed}' but authenticated user was '{}'",
        account.name()
    )))
}

pub(super) fn check_topic(asked: &Asked, exchange: &str, key: &str) -> Result<(), Failure> {
    if asked.account.may_topic(Action::Write, &asked.vhost, exchange, key) {
        return Ok(());
    }
    let (exchange, user) = (asked.exchange(exchange), asked.account.name());
    Err(Failure::access(format!(
        "write access to topic '{key}' in exchange {exchange} refused for user '{user}'"
    )))
}
