//! How do messages get from consumers' mailboxes into frames: those that have something new, as far as the client reads?

use std::{
    collections::VecDeque,
    future::Future as _,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use smol_str::SmolStr;
use waystation_broker::{Command, Source, effect::Closed};
use waystation_host::{Consumer, Delivery, Event};

use super::{connection::Connection, replies::Reply};
use crate::{
    limits::{WINDOW_WITHOUT_ACK, WRITE_BYTES_HIGH},
    mapping::{Extras, Outgoing, QueueType},
    session::{Answer, ChannelKey, ConsumerKey, Held, Timeout},
    wire::{ChannelId, methods::basic},
};

/// A consumer of this connection.
pub(super) struct Consuming {
    pub channel: ChannelKey,
    pub tag: SmolStr,
    pub source: Arc<Source>,
    pub kind: QueueType,
    pub no_ack: bool,
    pub consumer: Consumer,
    pub waker: Waker,
    /// Taken from the mailbox, and held back by the channel's prefetch or the socket.
    pub stash: VecDeque<Delivery>,
    /// Delivered without acknowledgement since credit was given.
    pub used: u32,
    pub state: State,
    /// Milliseconds within which a delivery is to be settled.
    pub timeout_ms: Option<u64>,
}

/// Where a consumer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It gets messages.
    Running,
    /// The client has cancelled it and waits for the answer.
    Cancelling,
    /// Its channel has gone while it was being cancelled.
    Orphaned,
    /// Its channel has gone: what it holds comes back, behind what was acknowledged before.
    Detaching,
}

/// What becomes of one delivery.
enum Fate {
    Put,
    HeldBack,
    Released,
    Forgotten,
}

impl Consuming {
    /// Whether its messages are to be acknowledged.
    pub fn needs_ack(&self) -> bool {
        !self.no_ack
    }

    fn held(&self, key: ConsumerKey, delivery: &Delivery) -> Held {
        Held {
            source: self.source.clone(),
            tag: delivery.tag,
            attempt: delivery.attempt,
            consumer: Some(key),
            timeout: None,
        }
    }
}

/// What a delivery shows besides its message.
pub(super) fn extras(kind: QueueType, delivery: &Delivery) -> Extras {
    Extras {
        delivery_count: (kind == QueueType::Quorum).then(|| delivery.attempt.0.saturating_sub(1)),
        stream_offset: (kind == QueueType::Stream).then_some(delivery.offset.0),
    }
}

impl Connection {
    /// Looks at the consumers that have something new.
    pub fn poll_consumers(&mut self, context: &mut Context<'_>) -> bool {
        self.woken.take(context.waker(), &mut self.ready);
        let mut any = false;
        while self.output.len() < WRITE_BYTES_HIGH {
            let Some(key) = self.ready.pop_front() else { break };
            // Out of the map while it is worked on, so that the rest of the connection can be.
            let Some(mut consuming) = self.consumers.remove(&key) else { continue };
            let (goes_on, delivered) = self.drain(key, &mut consuming);
            any |= delivered;
            if goes_on {
                self.consumers.insert(key, consuming);
            } else {
                self.paused.remove(&key);
                any = true;
            }
        }
        any
    }

    /// Delivers what a consumer has; whether it goes on, and whether there was anything.
    fn drain(&mut self, key: ConsumerKey, consuming: &mut Consuming) -> (bool, bool) {
        let mut any = false;
        loop {
            while let Some(delivery) = consuming.stash.pop_front() {
                match self.fate(consuming) {
                    Fate::HeldBack => {
                        consuming.stash.push_front(delivery);
                        if self.output.len() >= WRITE_BYTES_HIGH {
                            self.ready.push_front(key);
                        } else {
                            self.paused.insert(key);
                        }
                        return (true, any);
                    }
                    Fate::Put => self.put_delivery(key, consuming, &delivery),
                    Fate::Released => self.settles.release(&consuming.held(key, &delivery)),
                    Fate::Forgotten => {}
                }
                any = true;
            }
            let waker = consuming.waker.clone();
            let event = pin!(consuming.consumer.next()).poll(&mut Context::from_waker(&waker));
            match event {
                Poll::Pending => return (true, any),
                Poll::Ready(Some(Event::Messages(messages))) => consuming.stash.extend(messages),
                Poll::Ready(Some(Event::Unreadable(why))) => {
                    tracing::error!(source = %consuming.source.name(), why, "a message cannot be read");
                    self.consumer_closed(consuming, None);
                    return (false, true);
                }
                Poll::Ready(Some(Event::Closed(reason))) => {
                    self.consumer_closed(consuming, Some(reason));
                    return (false, true);
                }
                Poll::Ready(None) => {
                    self.consumer_closed(consuming, None);
                    return (false, true);
                }
            }
        }
    }

    fn fate(&self, consuming: &Consuming) -> Fate {
        match consuming.state {
            // What the client has not seen goes back; without acknowledgements it would be lost.
            State::Cancelling if consuming.needs_ack() => Fate::Released,
            State::Orphaned if consuming.needs_ack() => Fate::Released,
            State::Orphaned => Fate::Put,
            State::Detaching => Fate::Forgotten,
            _ if self.output.len() >= WRITE_BYTES_HIGH => Fate::HeldBack,
            // What is held back now would be lost.
            State::Cancelling => Fate::Put,
            // What needs no acknowledgement waits all the same while the channel holds all that it may, as with RabbitMQ.
            _ if self.session.may_deliver(consuming.channel) => Fate::Put,
            _ => Fate::HeldBack,
        }
    }

    fn put_delivery(&mut self, key: ConsumerKey, consuming: &mut Consuming, delivery: &Delivery) {
        let channel = consuming.channel;
        let timeout = self.timeout(consuming.timeout_ms.filter(|_| consuming.needs_ack()));
        let held = consuming.needs_ack().then(|| Held { timeout, ..consuming.held(key, delivery) });
        let Some(tag) = self.session.deliver(channel, held) else { return };
        let redelivered = delivery.attempt.0 > 1;
        let outgoing =
            Outgoing::new(&delivery.message, delivery.address.as_str(), extras(consuming.kind, delivery));
        self.output.put_deliver(
            channel.id,
            &consuming.tag,
            tag.0,
            redelivered,
            (&outgoing.exchange(), &outgoing.routing_key()),
            |out| outgoing.write_properties(out),
            &delivery.message.body,
        );
        if consuming.no_ack {
            self.refill(consuming);
        } else {
            self.touch(channel.id);
        }
        if let Some(entry) = self.channels.get(&channel.id.0) {
            let counter = if consuming.no_ack { &entry.delivered_no_ack } else { &entry.delivered };
            counter.add(1);
            entry.redelivered.add(redelivered.into());
        }
    }

    /// Gives a consumer without acknowledgements credit for more when half of it is used.
    fn refill(&mut self, consuming: &mut Consuming) {
        consuming.used += 1;
        if consuming.used >= WINDOW_WITHOUT_ACK / 2 {
            consuming.used = 0;
            self.commands.push(Command::Credit(consuming.consumer.id, WINDOW_WITHOUT_ACK));
        }
    }

    /// A consumer has ended: because the client wished it, or its queue is gone.
    fn consumer_closed(&mut self, consuming: &Consuming, reason: Option<Closed>) {
        if consuming.state == State::Detaching {
            return;
        }
        if let Some(entry) = self.counters(consuming.channel) {
            entry.remove_consumer(&consuming.tag);
        }
        match consuming.state {
            State::Cancelling => {
                let answer = Answer::Cancelled { tag: consuming.tag.clone() };
                self.session.answered(consuming.channel, answer, &mut self.actions);
            }
            State::Running => {
                tracing::debug!(?reason, tag = %consuming.tag, "a consumer has ended");
                self.session.consumer_ended(consuming.channel, &consuming.tag, &mut self.actions);
            }
            State::Orphaned | State::Detaching => {}
        }
    }

    /// Begins the end of a consumer that the client has cancelled.
    pub fn cancel_consumer(&mut self, key: ConsumerKey) -> bool {
        let Some(consuming) = self.consumers.get_mut(&key) else { return false };
        consuming.state = State::Cancelling;
        self.commands.push(Command::Cancel(consuming.consumer.id));
        self.ready.push_back(key);
        self.paused.remove(&key);
        true
    }

    /// Ends a consumer with its channel: what it holds comes back. It is kept until it has ended: dropped now, it would give
    /// back what was acknowledged in this very turn before the broker has heard of that.
    pub fn end_consumer(&mut self, key: ConsumerKey) {
        self.paused.remove(&key);
        if let Some(consuming) = self.consumers.get_mut(&key) {
            consuming.state = State::Detaching;
            self.commands.push(Command::Detach(consuming.consumer.id));
            self.ready.push_back(key);
        }
    }

    /// Consumers that were being cancelled when their channel ended.
    pub fn end_ending_consumers_of(&mut self, channel: ChannelKey) {
        let ending = self.consumers.values_mut().filter(|consuming| consuming.channel == channel);
        let ending = ending.filter(|consuming| consuming.state == State::Cancelling);
        ending.for_each(|consuming| consuming.state = State::Orphaned);
    }

    /// Lets the consumers of a channel that were held back go on.
    pub fn resume(&mut self, channel: ChannelKey) {
        if self.paused.is_empty() || !self.session.may_deliver(channel) {
            return;
        }
        let of_channel =
            |key: &ConsumerKey| self.consumers.get(key).is_none_or(|consuming| consuming.channel == channel);
        let resumed: Vec<ConsumerKey> = self.paused.iter().copied().filter(of_channel).collect();
        for key in resumed {
            self.paused.remove(&key);
            self.ready.push_back(key);
        }
    }

    /// Sends a message that was asked for by itself.
    pub fn put_got(
        &mut self,
        channel: ChannelKey,
        source: &Arc<Source>,
        kind: QueueType,
        no_ack: bool,
        delivery: &Delivery,
        message_count: u32,
        timeout_ms: Option<u64>,
    ) {
        let timeout = self.timeout(timeout_ms.filter(|_| !no_ack));
        let (tag, attempt) = (delivery.tag, delivery.attempt);
        let held = Held { source: source.clone(), tag, attempt, consumer: None, timeout };
        if no_ack {
            self.settles.gather(vec![held.clone()], crate::session::Verdict::Accepted);
        }
        let Some(tag) = self.session.deliver(channel, (!no_ack).then(|| held.clone())) else {
            // The channel has gone meanwhile.
            if !no_ack {
                self.settles.release(&held);
            }
            return;
        };
        let redelivered = delivery.attempt.0 > 1;
        let outgoing = Outgoing::new(&delivery.message, delivery.address.as_str(), extras(kind, delivery));
        let method = basic::GetOk {
            delivery_tag: tag.0,
            redelivered,
            exchange: outgoing.exchange().into(),
            routing_key: outgoing.routing_key().into(),
            message_count,
        };
        self.output.put(channel.id, &method);
        self.output.put_content(channel.id, |out| outgoing.write_properties(out), &delivery.message.body);
        self.touch(channel.id);
        if let Some(entry) = self.counters(channel) {
            let counter = if no_ack { &entry.got_no_ack } else { &entry.got };
            counter.add(1);
            entry.redelivered.add(redelivered.into());
        }
    }

    /// When something that is delivered now is to be settled: looked at from now on.
    fn timeout(&mut self, after_ms: Option<u64>) -> Option<Timeout> {
        let after_ms = after_ms?;
        self.watch_timeouts();
        Some(Timeout { at: self.door.clock.now().plus(after_ms), after_ms })
    }

    /// Sends a direct reply.
    pub fn put_reply(&mut self, reply: Reply) {
        let Reply { channel, tag, exchange, key, content } = reply;
        let Some(delivery) = self.session.deliver(channel, None) else { return };
        let ChannelId(id) = channel.id;
        self.output.put_deliver(
            ChannelId(id),
            &tag,
            delivery.0,
            false,
            (&exchange, &key),
            |out| out.extend_from_slice(&content.properties),
            &content.body,
        );
        if let Some(entry) = self.counters(channel) {
            entry.delivered_no_ack.add(1);
        }
    }
}
