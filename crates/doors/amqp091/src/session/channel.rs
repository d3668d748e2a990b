//! What does one channel do with a whole command: what it holds, confirms, buffers and waits for?

use std::collections::{HashMap, VecDeque};

use smol_str::SmolStr;

use super::{
    Action, Answer, Call, ChannelKey, Confirms, ConsumerKey, DeliveryTag, Failure, Held, Publishing, Remains,
    Ticket, Timed, Timeout, Transaction, Unacked, Verdict,
};
use crate::{
    limits::{CONSUMERS_PER_CHANNEL_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_PARTS_MAX},
    wire::{Arguments, Assembler, Command, Content, Method, ReplyCode, methods::*},
};

/// The queue whose messages are replies to this channel.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// How publishes are answered.
#[derive(Debug, Default)]
enum Mode {
    #[default]
    Plain,
    Confirm(Confirms),
    Transactional(Transaction),
}

/// What the channel waits for.
#[derive(Debug)]
struct Waiting {
    /// The client wants no answer.
    no_wait: bool,
    method: (u16, u16),
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub key: ChannelKey,
    pub assembler: Assembler,
    closing: bool,
    waiting: Option<Waiting>,
    backlog: VecDeque<Command>,
    backlog_bytes: usize,
    /// Publishes of which it is not known yet what becomes of them.
    publishing: usize,
    mode: Mode,
    unacked: Unacked<Held>,
    /// How many of them consumers were given: those that were got do not count against the prefetch.
    consumed: usize,
    timed: Timed,
    last_tag: u64,
    prefetch: u16,
    prefetch_global: u16,
    consumers: HashMap<SmolStr, ConsumerKey>,
    /// Consumers that have ended while an answer was awaited: told behind it.
    ended: Vec<SmolStr>,
    /// Consumer tag and address for direct replies.
    replies: Option<(SmolStr, SmolStr)>,
    last_queue: SmolStr,
}

/// Whether the client hears something of it when all goes well.
fn has_answer(method: &Method) -> bool {
    !matches!(
        method,
        Method::BasicPublish(_)
            | Method::BasicAck(_)
            | Method::BasicNack(_)
            | Method::BasicReject(_)
            | Method::BasicRecoverAsync(_)
            | Method::BasicCancelOk(_)
            | Method::ChannelFlowOk(_)
            | Method::ChannelCloseOk(_)
    )
}

fn bytes_of(content: &Content) -> usize {
    content.body.len() + content.properties.len()
}

impl Channel {
    pub fn new(key: ChannelKey, body_max: u64) -> Channel {
        Channel {
            key,
            assembler: Assembler::new(body_max),
            closing: false,
            waiting: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            publishing: 0,
            mode: Mode::Plain,
            unacked: Unacked::default(),
            consumed: 0,
            timed: Timed::default(),
            last_tag: 0,
            prefetch: 0,
            prefetch_global: 0,
            consumers: HashMap::new(),
            ended: Vec::new(),
            replies: None,
            last_queue: SmolStr::default(),
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing
    }

    pub fn is_busy(&self) -> bool {
        self.waiting.is_some()
    }

    pub fn backlog(&self) -> (usize, usize) {
        (self.backlog.len(), self.backlog_bytes)
    }

    fn put_off(&mut self, command: Command) {
        self.backlog_bytes += command.content.as_ref().map_or(0, bytes_of);
        self.backlog.push_back(command);
    }

    /// Whether a command may be carried out now. Not while another one is, and what has an answer not before it is known what
    /// became of the publishes in front of it: an error or a return that they bring comes first, as with RabbitMQ.
    fn may_run(&self, command: &Command) -> bool {
        !self.is_busy() && (self.publishing == 0 || !has_answer(&command.method))
    }

    /// Whether [`Channel::publish`] may be called right away for a message that came as a whole: nothing is under way, begun or
    /// waiting that would have to be looked at before.
    pub fn takes_whole(&self, content: &Content) -> bool {
        !self.closing
            && self.assembler.takes_whole(content.body.len())
            && self.backlog.is_empty()
            && !self.is_busy()
    }

    /// Gives a command back that may be carried out now; another one waits behind those that wait already.
    pub fn admit(&mut self, command: Command) -> Option<Command> {
        if self.backlog.is_empty() && self.may_run(&command) {
            return Some(command);
        }
        self.put_off(command);
        None
    }

    /// A publish has been answered.
    pub fn published(&mut self) {
        self.publishing = self.publishing.saturating_sub(1);
    }

    /// The command that has waited longest, if its time has come.
    pub fn take_backlog(&mut self) -> Option<Command> {
        self.backlog.front().filter(|command| self.may_run(command))?;
        let command = self.backlog.pop_front()?;
        self.backlog_bytes -= command.content.as_ref().map_or(0, bytes_of);
        Some(command)
    }

    pub fn may_deliver(&self) -> bool {
        self.prefetch_global == 0 || self.consumed < self.prefetch_global.into()
    }

    pub fn deliver(&mut self, held: Option<Held>) -> DeliveryTag {
        self.last_tag += 1;
        let tag = DeliveryTag(self.last_tag);
        if let Some(held) = held {
            self.consumed += usize::from(held.consumer.is_some());
            self.timed.note(tag, &held);
            self.unacked.push(tag, held);
        }
        tag
    }

    /// What was settled makes room under the channel's prefetch.
    fn made_room<'a>(&mut self, settled: impl Iterator<Item = &'a Held>) {
        let consumed = settled.filter(|held| held.consumer.is_some()).count();
        self.consumed = self.consumed.saturating_sub(consumed);
    }

    pub fn reply_address(&self) -> Option<&SmolStr> {
        self.replies.as_ref().map(|(_, address)| address)
    }

    /// The open confirms; none are open on a channel that does not confirm.
    pub fn confirms(&mut self) -> &mut Confirms {
        if !matches!(self.mode, Mode::Confirm(_)) {
            debug_assert!(false, "a ticket with a number on a channel without confirms");
            self.mode = Mode::Confirm(Confirms::default());
        }
        match &mut self.mode {
            Mode::Confirm(confirms) => confirms,
            _ => unreachable!("just made so"),
        }
    }

    /// Of each length the time-out of the oldest delivery that is not settled: those behind it end later.
    pub fn timeouts(&mut self) -> Vec<Timeout> {
        self.timed.oldest(&self.unacked)
    }

    pub fn outstanding(&self) -> (usize, usize) {
        let unconfirmed = if let Mode::Confirm(confirms) = &self.mode { confirms.len() } else { 0 };
        (self.unacked.len(), unconfirmed)
    }

    pub fn prefetch(&self) -> (u16, u16) {
        (self.prefetch, self.prefetch_global)
    }

    pub fn mode(&self) -> (bool, bool) {
        (matches!(self.mode, Mode::Confirm(_)), matches!(self.mode, Mode::Transactional(_)))
    }

    fn forget_consumer(&mut self, tag: &str) -> bool {
        self.consumers.remove(tag).is_some()
    }

    /// A consumer has ended by the broker; the client is told that if it `tells`, though not before an answer that it awaits:
    /// who deletes a queue that he consumes from hears that it is gone first.
    pub fn consumer_ended(&mut self, tag: &str, tells: bool, out: &mut Vec<Action>) {
        if !self.forget_consumer(tag) || !tells {
            return;
        }
        if self.is_busy() {
            self.ended.push(tag.into());
        } else {
            self.send(basic::Cancel { consumer_tag: tag.into(), no_wait: true }, out);
        }
    }

    /// Tells which consumers have ended while an answer was awaited.
    pub fn tell_ended(&mut self, out: &mut Vec<Action>) {
        for consumer_tag in std::mem::take(&mut self.ended) {
            self.send(basic::Cancel { consumer_tag, no_wait: true }, out);
        }
    }

    /// Ends it: what it leaves behind. It waits for close-ok, or is taken away.
    pub fn end(&mut self) -> Remains {
        self.closing = true;
        self.waiting = None;
        self.backlog.clear();
        self.backlog_bytes = 0;
        let mut held = self.unacked.take_all();
        if let Mode::Transactional(transaction) = std::mem::take(&mut self.mode) {
            // What was acknowledged and never committed was never acknowledged.
            held.extend(transaction.settlements.into_iter().map(|(tag, held, _)| (tag, held)));
            held.sort_by_key(|(tag, _)| *tag);
        }
        Remains {
            channel: self.key,
            consumers: self.consumers.drain().map(|(_, key)| key).collect(),
            held: held.into_iter().map(|(_, held)| held).collect(),
        }
    }

    fn send(&self, method: impl Into<Method>, out: &mut Vec<Action>) {
        out.push(Action::Send(self.key.id, method.into()));
    }

    /// Waits for what is to be known about its last publish.
    pub fn hold(&mut self) {
        self.waiting =
            Some(Waiting { no_wait: true, method: (basic::Publish::CLASS, basic::Publish::METHOD) });
    }

    fn wait_for(&mut self, method: (u16, u16), no_wait: bool, asked: Call, out: &mut Vec<Action>) {
        self.waiting = Some(Waiting { no_wait, method });
        out.push(Action::Call(self.key, asked));
    }

    /// Carries out a command.
    pub fn command(&mut self, command: Command, out: &mut Vec<Action>) -> Result<(), Failure> {
        let numbers = command.method.numbers();
        match (command.method, command.content) {
            (Method::BasicPublish(publish), Some(content)) => self.publish(publish, content, out)?,
            (Method::BasicAck(ack), _) => {
                self.settle(ack.delivery_tag, ack.multiple, Verdict::Accepted, out)?;
            }
            (Method::BasicNack(nack), _) => {
                let verdict = if nack.requeue { Verdict::Requeued } else { Verdict::Rejected };
                self.settle(nack.delivery_tag, nack.multiple, verdict, out)?;
            }
            (Method::BasicReject(reject), _) => {
                let verdict = if reject.requeue { Verdict::Requeued } else { Verdict::Rejected };
                self.settle(reject.delivery_tag, false, verdict, out)?;
            }
            (Method::BasicGet(mut get), _) => {
                get.queue = self.queue_or_last(get.queue)?;
                self.wait_for(numbers, false, Call::Get(get), out);
            }
            (Method::BasicConsume(consume), _) => self.consume(consume, numbers, out)?,
            (Method::BasicCancel(cancel), _) => self.cancel(cancel, numbers, out),
            // The answer to a cancel of ours that asked for none.
            (Method::BasicCancelOk(_), _) => {}
            (Method::BasicQos(qos), _) => self.qos(&qos, out)?,
            (Method::BasicRecover(recover), _) => {
                self.recover(recover.requeue, out)?;
                self.send(basic::RecoverOk {}, out);
            }
            (Method::BasicRecoverAsync(recover), _) => self.recover(recover.requeue, out)?,
            (Method::ConfirmSelect(select), _) => self.confirm_select(&select, out)?,
            (Method::TxSelect(_), _) => self.tx_select(out)?,
            (Method::TxCommit(_), _) => self.tx_commit(numbers, out)?,
            (Method::TxRollback(_), _) => self.tx_rollback(out)?,
            (Method::ChannelFlow(flow), _) => {
                if !flow.active {
                    return Err(Failure::not_implemented("active=false"));
                }
                self.send(channel::FlowOk { active: true }, out);
            }
            (Method::ChannelFlowOk(_) | Method::ChannelCloseOk(_), _) => {}
            (Method::ChannelOpen(_), _) => {
                return Err(Failure::new(ReplyCode::ChannelError, "second 'channel.open' seen"));
            }
            (Method::AccessRequest(_), _) => self.send(access::RequestOk { ticket: 1 }, out),
            (method, _) => self.topology(method, numbers, out)?,
        }
        Ok(())
    }

    /// Classes exchange and queue; anything else has no place on a channel.
    fn topology(
        &mut self,
        mut method: Method,
        numbers: (u16, u16),
        out: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let no_wait = match &mut method {
            Method::ExchangeDeclare(declare) => declare.no_wait,
            Method::ExchangeDelete(delete) => delete.no_wait,
            Method::ExchangeBind(bind) => bind.no_wait,
            Method::ExchangeUnbind(unbind) => unbind.no_wait,
            Method::QueueDeclare(declare) => declare.no_wait,
            Method::QueueBind(bind) => {
                let key = self.key_or_last(&bind.queue, &bind.routing_key)?;
                (bind.routing_key, bind.queue) = (key, self.queue_or_last(std::mem::take(&mut bind.queue))?);
                bind.no_wait
            }
            Method::QueueUnbind(unbind) => {
                let key = self.key_or_last(&unbind.queue, &unbind.routing_key)?;
                (unbind.routing_key, unbind.queue) =
                    (key, self.queue_or_last(std::mem::take(&mut unbind.queue))?);
                false
            }
            Method::QueuePurge(purge) => {
                purge.queue = self.queue_or_last(std::mem::take(&mut purge.queue))?;
                purge.no_wait
            }
            Method::QueueDelete(delete) => {
                delete.queue = self.queue_or_last(std::mem::take(&mut delete.queue))?;
                delete.no_wait
            }
            _ => return Err(Failure::new(ReplyCode::CommandInvalid, "unimplemented method")),
        };
        self.wait_for(numbers, no_wait, Call::Topology(method), out);
        Ok(())
    }

    /// The named queue, or the one declared last on this channel.
    fn queue_or_last(&self, queue: SmolStr) -> Result<SmolStr, Failure> {
        match (queue.is_empty(), self.last_queue.is_empty()) {
            (false, _) => Ok(queue),
            (true, false) => Ok(self.last_queue.clone()),
            (true, true) => Err(Failure::new(ReplyCode::NotFound, "no previously declared queue")),
        }
    }

    /// With neither queue nor key given, the key is the queue's name too.
    fn key_or_last(&self, queue: &SmolStr, key: &SmolStr) -> Result<SmolStr, Failure> {
        if queue.is_empty() && key.is_empty() {
            self.queue_or_last(SmolStr::default())
        } else {
            Ok(key.clone())
        }
    }

    pub fn publish(
        &mut self,
        publish: basic::Publish,
        content: Content,
        out: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        if publish.immediate {
            return Err(Failure::not_implemented("immediate=true"));
        }
        let seq = if let Mode::Confirm(confirms) = &mut self.mode { Some(confirms.begin()) } else { None };
        let publishing = Publishing { ticket: Ticket { channel: self.key, seq }, publish, content };
        if let Mode::Transactional(transaction) = &mut self.mode {
            transaction.bytes += bytes_of(&publishing.content);
            transaction.publishes.push(publishing);
            transaction.check()?;
        } else {
            self.publishing += 1;
            out.push(Action::Publish(publishing));
        }
        Ok(())
    }

    fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        verdict: Verdict,
        out: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let mut taken = Vec::new();
        self.unacked
            .take(DeliveryTag(tag), multiple, &mut taken)
            .map_err(|unknown| Failure::precondition(unknown.to_string()))?;
        if let Mode::Transactional(transaction) = &mut self.mode {
            transaction.settlements.extend(taken.into_iter().map(|(tag, held)| (tag, held, verdict)));
            return transaction.check();
        }
        if !taken.is_empty() {
            let held: Vec<Held> = taken.into_iter().map(|(_, held)| held).collect();
            self.made_room(held.iter());
            out.push(Action::Settle(self.key, held, verdict));
        }
        Ok(())
    }

    fn recover(&mut self, requeue: bool, out: &mut Vec<Action>) -> Result<(), Failure> {
        if !requeue {
            return Err(Failure::not_implemented("requeue=false"));
        }
        let held: Vec<Held> = self.unacked.take_all().into_iter().map(|(_, held)| held).collect();
        self.made_room(held.iter());
        if !held.is_empty() {
            out.push(Action::Settle(self.key, held, Verdict::Requeued));
        }
        Ok(())
    }

    fn qos(&mut self, qos: &basic::Qos, out: &mut Vec<Action>) -> Result<(), Failure> {
        if qos.prefetch_size != 0 {
            return Err(Failure::not_implemented(format!("prefetch_size!=0 ({})", qos.prefetch_size)));
        }
        if qos.global {
            self.prefetch_global = qos.prefetch_count;
        } else {
            self.prefetch = qos.prefetch_count;
        }
        out.push(Action::Qos(self.key));
        self.send(basic::QosOk {}, out);
        Ok(())
    }

    fn consume(
        &mut self,
        mut consume: basic::Consume,
        numbers: (u16, u16),
        out: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let is_taken = self.consumers.contains_key(&consume.consumer_tag)
            || self.replies.as_ref().is_some_and(|(tag, _)| *tag == consume.consumer_tag);
        if is_taken {
            return Err(Failure::not_allowed(format!(
                "attempt to reuse consumer tag '{}'",
                consume.consumer_tag
            )));
        }
        if self.consumers.len() >= CONSUMERS_PER_CHANNEL_MAX {
            let text = format!("reached maximum ({CONSUMERS_PER_CHANNEL_MAX}) of consumers per channel");
            return Err(Failure::not_allowed(text));
        }
        let no_wait = consume.no_wait;
        if consume.queue == REPLY_TO {
            if !consume.no_ack {
                return Err(Failure::precondition("reply consumer cannot acknowledge"));
            }
            if self.replies.is_some() {
                return Err(Failure::precondition("reply consumer already set"));
            }
            self.wait_for(numbers, no_wait, Call::ConsumeReplies { tag: consume.consumer_tag }, out);
            return Ok(());
        }
        consume.queue = self.queue_or_last(consume.queue)?;
        let (prefetch, prefetch_global) = (self.prefetch, self.prefetch_global);
        self.wait_for(numbers, no_wait, Call::Consume { consume, prefetch, prefetch_global }, out);
        Ok(())
    }

    fn cancel(&mut self, cancel: basic::Cancel, numbers: (u16, u16), out: &mut Vec<Action>) {
        let tag = cancel.consumer_tag;
        let key = self.consumers.remove(&tag);
        if key.is_none() && self.replies.as_ref().is_none_or(|(reply_tag, _)| *reply_tag != tag) {
            // Ending what is not there is no error.
            if !cancel.no_wait {
                self.send(basic::CancelOk { consumer_tag: tag }, out);
            }
            return;
        }
        if key.is_none() {
            self.replies = None;
        }
        self.wait_for(numbers, cancel.no_wait, Call::Cancel { tag, key }, out);
    }

    fn confirm_select(&mut self, select: &confirm::Select, out: &mut Vec<Action>) -> Result<(), Failure> {
        match self.mode {
            Mode::Transactional(_) => {
                return Err(Failure::precondition("cannot switch from tx to confirm mode"));
            }
            Mode::Plain => self.mode = Mode::Confirm(Confirms::default()),
            Mode::Confirm(_) => {}
        }
        out.push(Action::Mode(self.key));
        if !select.no_wait {
            self.send(confirm::SelectOk {}, out);
        }
        Ok(())
    }

    fn tx_select(&mut self, out: &mut Vec<Action>) -> Result<(), Failure> {
        match self.mode {
            Mode::Confirm(_) => {
                return Err(Failure::precondition("cannot switch from confirm to tx mode"));
            }
            Mode::Plain => self.mode = Mode::Transactional(Transaction::default()),
            Mode::Transactional(_) => {}
        }
        out.push(Action::Mode(self.key));
        self.send(tx::SelectOk {}, out);
        Ok(())
    }

    fn transaction(&mut self) -> Result<Transaction, Failure> {
        match &mut self.mode {
            Mode::Transactional(transaction) => Ok(std::mem::take(transaction)),
            _ => Err(Failure::precondition("channel is not transactional")),
        }
    }

    fn tx_commit(&mut self, numbers: (u16, u16), out: &mut Vec<Action>) -> Result<(), Failure> {
        let transaction = self.transaction()?;
        // Not before: what is acknowledged in it still counts.
        self.made_room(transaction.settlements.iter().map(|(_, held, _)| held));
        self.wait_for(numbers, false, Call::Commit(transaction), out);
        Ok(())
    }

    fn tx_rollback(&mut self, out: &mut Vec<Action>) -> Result<(), Failure> {
        let transaction = self.transaction()?;
        transaction.settlements.iter().for_each(|(tag, held, _)| self.timed.note(*tag, held));
        self.unacked.restore(transaction.settlements.into_iter().map(|(tag, held, _)| (tag, held)));
        self.send(tx::RollbackOk {}, out);
        Ok(())
    }

    /// What became of the call that the channel waits for.
    pub fn answered(&mut self, answer: Answer, out: &mut Vec<Action>) -> Result<(), Failure> {
        let Some(Waiting { no_wait, method }) = self.waiting.take() else { return Ok(()) };
        let reply: Method = match answer {
            Answer::Sent => return Ok(()),
            Answer::Failed(failure) => return Err(failure.caused_by(method)),
            Answer::Done(method) => method,
            Answer::Queue { name, messages, consumers } => {
                self.last_queue = name.clone();
                queue::DeclareOk { queue: name, message_count: messages, consumer_count: consumers }.into()
            }
            Answer::Consuming { tag, key } => {
                self.consumers.insert(tag.clone(), key);
                basic::ConsumeOk { consumer_tag: tag }.into()
            }
            Answer::ConsumingReplies { tag, address } => {
                self.replies = Some((tag.clone(), address));
                basic::ConsumeOk { consumer_tag: tag }.into()
            }
            Answer::Cancelled { tag } => basic::CancelOk { consumer_tag: tag }.into(),
        };
        if !no_wait {
            self.send(reply, out);
        }
        Ok(())
    }
}

impl Transaction {
    fn check(&self) -> Result<(), Failure> {
        let parts = self.publishes.len() + self.settlements.len();
        if parts > TRANSACTION_PARTS_MAX || self.bytes > TRANSACTION_BYTES_MAX {
            let text = format!(
                "transaction is larger than {TRANSACTION_PARTS_MAX} parts or {TRANSACTION_BYTES_MAX} bytes"
            );
            return Err(Failure::precondition(text));
        }
        Ok(())
    }
}
