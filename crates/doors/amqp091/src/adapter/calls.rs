//! How is a request carried out that its channel waits for, without holding up the other channels?

use std::sync::Arc;

use waystation_base::limits::CREDIT_MAX;
use waystation_broker::{
    Source,
    command::{Payload, Publish, Transaction as Transact},
    effect::Published,
};
use waystation_host::{Consumer, Delivery};

use super::{
    connection::{Connection, Context},
    consume,
    deliver::{Consuming, State},
    doubt,
    outcome::failure,
    publish::{Addressed, Ready, Returned},
    queues, routes, settle,
};
use crate::{
    directory::{Account, Refused},
    limits::WINDOW_WITHOUT_ACK,
    mapping::QueueType,
    registry::ConsumerEntry,
    session::{Answer, Call, ChannelKey, ConsumerKey, Failure, Transaction},
    wire::{Method, methods::basic},
};

/// What a task that the connection waits for has come to.
pub(super) enum Done {
    /// A login.
    LoggedIn(Result<Arc<dyn Account>, Refused>),
    /// The opening of a virtual host.
    Entered(Result<(), Failure>),
    /// A request.
    Answered(ChannelKey, Result<Answer, Failure>),
    /// A consumer.
    Consuming(ChannelKey, Result<Box<Begun>, Failure>),
    /// One message, or that there is none.
    Got(ChannelKey, Result<Option<Box<Got>>, Failure>),
    /// A publish of which it had to be found out whether it is allowed.
    LookedInto(Box<Ready>, Result<(), Failure>),
    /// A transaction; what goes back comes before the answer.
    Committed(ChannelKey, Result<Vec<Returned>, Failure>),
}

/// A consumer that has begun.
pub(super) struct Begun {
    pub consume: basic::Consume,
    pub source: Arc<Source>,
    pub kind: QueueType,
    pub priority: i32,
    pub prefetch: u16,
    pub consumer: Consumer,
    pub timeout_ms: Option<u64>,
}

/// A message that was asked for by itself.
pub(super) struct Got {
    pub delivery: Delivery,
    pub source: Arc<Source>,
    pub kind: QueueType,
    pub no_ack: bool,
    pub message_count: u32,
    pub timeout_ms: Option<u64>,
}

impl Connection {
    /// Begins what a channel waits for.
    pub fn call(&mut self, channel: ChannelKey, call: Call) {
        let Some(context) = self.context.clone() else { return };
        match call {
            Call::Topology(method) => self
                .calls
                .push(Box::pin(async move { Done::Answered(channel, topology(&context, method).await) })),
            Call::Consume { consume, prefetch, prefetch_global } => {
                self.calls.push(Box::pin(async move {
                    let begun = consume::consume(&context, channel, consume, prefetch, prefetch_global).await;
                    Done::Consuming(channel, begun.map(Box::new))
                }));
            }
            Call::ConsumeReplies { tag } => {
                let answer = consume::consume_replies(&context, channel, tag);
                if let Ok(Answer::ConsumingReplies { address, .. }) = &answer {
                    self.publishes.reply_addresses.insert(channel, address.clone());
                }
                self.answer(channel, answer);
            }
            Call::Cancel { tag, key } => {
                if key.is_none() {
                    self.close_replies_of(channel);
                }
                if !key.is_some_and(|key| self.cancel_consumer(key)) {
                    self.answer(channel, Ok(Answer::Cancelled { tag }));
                }
            }
            Call::Get(get) => self.calls.push(Box::pin(async move {
                Done::Got(channel, consume::get(&context, &get).await.map(|got| got.map(Box::new)))
            })),
            Call::Commit(transaction) => self.commit(channel, context, transaction),
        }
    }

    fn answer(&mut self, channel: ChannelKey, answer: Result<Answer, Failure>) {
        let answer = answer.unwrap_or_else(Answer::Failed);
        self.session.answered(channel, answer, &mut self.actions);
    }

    /// Takes what a task has come to.
    pub fn done(&mut self, done: Done) {
        match done {
            Done::LoggedIn(login) => self.logged_in(login),
            Done::Entered(entered) => {
                let vhost = self.session.vhost().clone();
                if entered.is_ok() {
                    self.entered.entry.describe(|about| (about.vhost, about.state) = (vhost, "running"));
                }
                self.session.entered(entered, &mut self.actions);
            }
            Done::Answered(channel, answer) => self.answer(channel, answer),
            Done::Consuming(channel, Ok(begun)) => self.begin_consumer(channel, *begun),
            Done::Consuming(channel, Err(failure)) => self.answer(channel, Err(failure)),
            Done::Got(channel, Ok(Some(got))) => {
                let Got { delivery, source, kind, no_ack, message_count, timeout_ms } = *got;
                self.put_got(channel, &source, kind, no_ack, &delivery, message_count, timeout_ms);
                self.answer(channel, Ok(Answer::Sent));
            }
            Done::Got(channel, Ok(None)) => {
                if let Some(entry) = self.counters(channel) {
                    entry.got_empty.add(1);
                }
                let empty = basic::GetEmpty::default();
                self.answer(channel, Ok(Answer::Done(Method::BasicGetEmpty(empty))));
            }
            Done::Got(channel, Err(failure)) => self.answer(channel, Err(failure)),
            Done::LookedInto(ready, checked) => self.looked_into(*ready, checked),
            Done::Committed(channel, Ok(returns)) => {
                if self.session.is_open(channel) {
                    returns.iter().for_each(|returned| self.put_return(channel, returned));
                }
                let ok = crate::wire::methods::tx::CommitOk {};
                self.answer(channel, Ok(Answer::Done(Method::TxCommitOk(ok))));
            }
            Done::Committed(channel, Err(failure)) => self.answer(channel, Err(failure)),
        }
    }

    fn logged_in(&mut self, login: Result<Arc<dyn Account>, Refused>) {
        let name = match login {
            Ok(account) => {
                self.entered.entry.describe(|about| about.user = account.name().into());
                let name = account.name().to_owned();
                self.account = Some(account);
                Some(name)
            }
            Err(why) => {
                self.door.registry.logins_refused.add(1);
                tracing::warn!(peer = %self.peer, %why, "an AMQP login was refused");
                None
            }
        };
        self.session.logged_in(name.as_deref(), &mut self.actions);
    }

    fn begin_consumer(&mut self, channel: ChannelKey, begun: Begun) {
        if !self.session.is_open(channel) {
            // Dropping it detaches it.
            return;
        }
        let Begun { consume, source, kind, priority, prefetch, consumer, timeout_ms } = begun;
        self.consumer_keys += 1;
        let key = ConsumerKey(self.consumer_keys);
        let tag = consume.consumer_tag;
        if let Some(entry) = self.counters(channel) {
            entry.add_consumer(ConsumerEntry {
                tag: tag.clone(),
                queue: consume.queue,
                ack_required: !consume.no_ack,
                exclusive: consume.exclusive,
                prefetch,
                priority,
                arguments: crate::mapping::to_json(&consume.arguments),
                id: consumer.id,
            });
        }
        let consuming = Consuming {
            channel,
            tag: tag.clone(),
            source,
            kind,
            no_ack: consume.no_ack,
            consumer,
            waker: self.woken.waker(key),
            stash: Default::default(),
            used: 0,
            state: State::Running,
            timeout_ms,
        };
        self.consumers.insert(key, consuming);
        // The answer goes out before the first message.
        self.answer(channel, Ok(Answer::Consuming { tag, key }));
        self.act();
        self.ready.push_back(key);
    }

    fn commit(&mut self, channel: ChannelKey, context: Arc<Context>, transaction: Transaction) {
        let Transaction { publishes, settlements, .. } = transaction;
        let (mut parts, mut out) = (Vec::new(), Vec::new());
        for publishing in publishes {
            let returned = publishing.publish.mandatory.then(|| Returned {
                publish: publishing.publish.clone(),
                content: publishing.content.clone(),
            });
            let before = out.len();
            match self.address(channel, &publishing.publish, publishing.content, &mut out) {
                Ok(addressed) => parts.push(Part { addressed, returned, publishes: out.len() - before }),
                Err(failure) => return self.answer(channel, Err(failure)),
            }
        }
        self.has_published |= !parts.is_empty();
        self.has_committed |= !parts.is_empty();
        if let Some(entry) = self.counters(channel) {
            entry.published.add(parts.len() as u64);
            entry.acknowledged.add(settlements.len() as u64);
        }
        let settlements =
            settle::by_source(settlements.into_iter().map(|(_, held, verdict)| (held, verdict)));
        self.calls.push(Box::pin(async move {
            Done::Committed(channel, commit(&context, parts, out, settlements).await)
        }));
        self.resume(channel);
    }
}

async fn topology(context: &Context, method: Method) -> Result<Answer, Failure> {
    match method {
        Method::ExchangeDeclare(declare) => routes::declare(context, &declare).await,
        Method::ExchangeDelete(delete) => routes::delete(context, &delete).await,
        Method::ExchangeBind(bind) => routes::bind_exchange(context, bind).await,
        Method::ExchangeUnbind(unbind) => routes::unbind_exchange(context, unbind).await,
        Method::QueueDeclare(declare) => queues::declare(context, declare).await,
        Method::QueueBind(bind) => routes::bind_queue(context, bind).await,
        Method::QueueUnbind(unbind) => routes::unbind_queue(context, unbind).await,
        Method::QueuePurge(purge) => queues::purge(context, &purge).await,
        Method::QueueDelete(delete) => queues::delete(context, &delete).await,
        other => unreachable!("{} is no request about topology", other.name()),
    }
}

/// One message of a transaction.
struct Part {
    addressed: Addressed,
    /// It goes back if nobody takes it.
    returned: Option<Returned>,
    /// So many of the transaction's publishes are its own.
    publishes: usize,
}

/// Carries a transaction out; what nobody takes goes back.
async fn commit(
    context: &Context,
    mut parts: Vec<Part>,
    publishes: Vec<Publish>,
    settlements: Vec<waystation_broker::command::Settle>,
) -> Result<Vec<Returned>, Failure> {
    for part in &mut parts {
        if let Some(doubt) = part.addressed.doubt.take() {
            doubt::check(context, *doubt).await?;
        }
    }
    debug_assert!(publishes.iter().all(|publish| matches!(publish.payload, Payload::One(_))));
    let mut published: Vec<Published> = Vec::new();
    if !publishes.is_empty() || !settlements.is_empty() {
        let transacted = context.broker.transact(Transact { publishes, settlements }).await;
        published = transacted.map_err(|refusal| failure(&refusal, &context.vhost))?;
    }
    let mut published = published.into_iter();
    let unrouted = parts.into_iter().filter_map(|part| {
        let taken = published.by_ref().take(part.publishes).filter(|it| it.unrouted == 0).count() > 0;
        part.returned.filter(|_| !part.addressed.is_taken && !taken)
    });
    Ok(unrouted.collect())
}

/// Credit of a new consumer; a prefetch of 0 means: no limit. What its channel may hold is the pool's matter.
pub(super) fn first_credit(no_ack: bool, prefetch: u16) -> u32 {
    match prefetch {
        _ if no_ack => WINDOW_WITHOUT_ACK,
        0 => CREDIT_MAX,
        limit => limit.into(),
    }
}
