//! How are queues declared, purged and deleted, with RabbitMQ's checks in RabbitMQ's order?

use smol_str::SmolStr;
use waystation_base::Name;
use waystation_broker::{
    Command, Kind, Refusal, Reply,
    command::{Counted, Delete},
    spec::Spec,
    view::{QueueInfo, TopicInfo},
};

use super::{connection::Context, consume::random_name, outcome::failure};
use crate::{
    directory::Action,
    mapping::{QueueAsk, check_same_queue, queue_spec},
    session::{Answer, Failure, REPLY_TO, Resource},
    wire::{Method, methods::queue},
};

/// Names that begin so are the server's to give.
pub(super) const RESERVED: &str = "amq.";

/// What goes by a queue's name.
#[allow(clippy::large_enum_variant, reason = "it lives for one request, and most are queues")]
pub(super) enum Found {
    Queue(QueueInfo),
    Topic(TopicInfo),
    Nothing,
}

impl Found {
    /// Ready messages and consumers.
    fn counts(&self) -> (u32, u32) {
        let (messages, consumers) = match self {
            Found::Queue(info) => (info.ready, info.consumers),
            Found::Topic(info) => {
                let stored = info.partitions.iter().map(|it| it.end_offset - it.start_offset).sum();
                (stored, info.subscriptions.len() as u64)
            }
            Found::Nothing => (0, 0),
        };
        (messages.try_into().unwrap_or(u32::MAX), consumers.try_into().unwrap_or(u32::MAX))
    }
}

/// What is there by that name now.
pub(super) async fn find(context: &Context, name: &Name) -> Result<Found, Failure> {
    let name = name.clone();
    let found = context.door.broker.query(move |view| match view.queue(&name) {
        Some(info) => Found::Queue(info),
        None => view.topic(&name).map_or(Found::Nothing, Found::Topic),
    });
    found.await.map_err(|refusal| failure(&refusal, &context.vhost))
}

/// Refuses what belongs to another connection.
pub(super) fn check_owner(context: &Context, info: &QueueInfo, queue: &Resource) -> Result<(), Failure> {
    match info.owner {
        Some(owner) if owner != context.session => Err(Failure::locked(queue)),
        _ => Ok(()),
    }
}

/// A name as it may be declared: RabbitMQ takes line ends out.
pub(super) fn cleaned(name: &SmolStr) -> SmolStr {
    if name.contains(['\r', '\n']) { name.replace(['\r', '\n'], "").into() } else { name.clone() }
}

fn present(name: SmolStr, found: &Found) -> Answer {
    let (messages, consumers) = found.counts();
    Answer::Queue { name, messages, consumers }
}

/// `queue.declare`.
pub(super) async fn declare(context: &Context, declare: queue::Declare) -> Result<Answer, Failure> {
    let name = cleaned(&declare.queue);
    if name.starts_with(REPLY_TO) {
        // Whoever has one waits at it.
        return match context.door.replies.has(&name) {
            true => Ok(Answer::Queue { name, messages: 0, consumers: 1 }),
            false => Err(Failure::not_found(&context.queue(&name))),
        };
    }
    if declare.passive {
        return declare_passively(context, name).await;
    }
    if name.starts_with(RESERVED) {
        return Err(Failure::access(format!("queue name '{name}' contains reserved prefix 'amq.*'")));
    }
    let name = if name.is_empty() { random_name("amq.gen")? } else { name };
    let queue = context.queue(&name);
    context.require(Action::Configure, &queue)?;
    let ask = QueueAsk {
        vhost: &context.vhost,
        name: &name,
        durable: declare.durable,
        exclusive: declare.exclusive,
        auto_delete: declare.auto_delete,
        arguments: &declare.arguments,
    };
    let own = context.name(&name)?;
    match find(context, &own).await? {
        Found::Nothing => {}
        found => {
            keep_alive(context, &own, &found).await;
            return redeclared(context, &ask, &queue, found);
        }
    }
    check_dead_letters(context, &ask, &queue)?;
    let spec = queue_spec(&ask)?;
    match context.broker.declare(own.clone(), spec, false, context.session).await {
        Ok(_) => Ok(Answer::Queue { name, messages: 0, consumers: 0 }),
        // Somebody was faster.
        Err(Refusal::Exists { .. } | Refusal::Exclusive { .. }) => {
            let found = find(context, &own).await?;
            redeclared(context, &ask, &queue, found)
        }
        Err(Refusal::VhostFull { vhost, limit }) => Err(Failure::precondition(format!(
            "cannot declare queue '{name}': queue limit in vhost '{vhost}' ({limit}) is reached"
        ))),
        Err(refusal) => Err(failure(&refusal, &context.vhost)),
    }
}

/// What is there must be what is asked for.
fn redeclared(
    context: &Context,
    ask: &QueueAsk<'_>,
    queue: &Resource,
    found: Found,
) -> Result<Answer, Failure> {
    let current = match &found {
        Found::Queue(info) => {
            check_owner(context, info, queue)?;
            if info.owner.is_some() != ask.exclusive {
                return Err(Failure::locked(queue));
            }
            Spec::Queue(info.spec.clone())
        }
        Found::Topic(info) => Spec::Topic(info.spec.clone()),
        Found::Nothing => return Err(Failure::not_found(queue)),
    };
    // What cannot be at all is told first, as for a new one.
    queue_spec(ask)?;
    check_same_queue(ask, &current)?;
    Ok(present(ask.name.into(), &found))
}

/// To declare a queue that is there counts as using it, passively or not: one that goes when it is not used stays on.
async fn keep_alive(context: &Context, name: &Name, found: &Found) {
    if let Found::Queue(QueueInfo { spec, .. }) = found
        && spec.idle_expiry_ms.is_some()
    {
        // It may have gone or changed meanwhile: then there is nothing to keep.
        let same = Spec::Queue(spec.clone());
        let _ = context.door.broker.declare(name.clone(), same, false, context.session).await;
    }
}

/// Whether it is there RabbitMQ tells whoever is in the virtual host, with or without a permission for the name.
async fn declare_passively(context: &Context, name: SmolStr) -> Result<Answer, Failure> {
    let queue = context.queue(&name);
    // What cannot be a name is nobody's.
    let Ok(own) = context.name(&name) else { return Err(Failure::not_found(&queue)) };
    let found = find(context, &own).await?;
    match &found {
        Found::Nothing => return Err(Failure::not_found(&queue)),
        Found::Queue(info) => check_owner(context, info, &queue)?,
        Found::Topic(_) => {}
    }
    keep_alive(context, &own, &found).await;
    Ok(present(name, &found))
}

/// Who sends dead letters to an exchange must be allowed to read the one and write the other.
fn check_dead_letters(context: &Context, ask: &QueueAsk<'_>, queue: &Resource) -> Result<(), Failure> {
    let exchange = ask.arguments.get("x-dead-letter-exchange").and_then(|value| value.as_str());
    if let Some(exchange) = exchange {
        context.require(Action::Read, queue)?;
        context.require(Action::Write, &context.exchange(exchange))?;
    }
    Ok(())
}

/// `queue.purge`.
pub(super) async fn purge(context: &Context, purge: &queue::Purge) -> Result<Answer, Failure> {
    let queue = context.queue(&purge.queue);
    context.require(Action::Read, &queue)?;
    let name = context.name(&purge.queue)?;
    match find(context, &name).await? {
        Found::Nothing => return Err(Failure::not_found(&queue)),
        Found::Topic(_) => {
            return Err(Failure::not_implemented(format!(
                "queue.purge not supported by stream queues {queue}"
            )));
        }
        Found::Queue(info) => check_owner(context, &info, &queue)?,
    }
    let removed = context.broker.purge(name).await;
    let removed = removed.map_err(|refusal| failure(&refusal, &context.vhost))?;
    let message_count = removed.try_into().unwrap_or(u32::MAX);
    Ok(Answer::Done(Method::QueuePurgeOk(queue::PurgeOk { message_count })))
}

/// `queue.delete`. Deleting what is not there is no error.
pub(super) async fn delete(context: &Context, delete: &queue::Delete) -> Result<Answer, Failure> {
    let name = cleaned(&delete.queue);
    let queue = context.queue(&name);
    context.require(Action::Configure, &queue)?;
    let own = context.name(&name)?;
    let found = find(context, &own).await?;
    let kind = match &found {
        Found::Nothing => return Ok(deleted(0)),
        Found::Topic(_) => Kind::Topic,
        Found::Queue(info) => {
            check_owner(context, info, &queue)?;
            Kind::Queue
        }
    };
    let asked = Delete {
        kind,
        name: own,
        if_unused: delete.if_unused,
        if_empty: delete.if_empty,
        // What consumers hold does not count, neither as a message that goes nor as one that is there.
        counted: Counted::Ready,
        session: context.session,
    };
    match context.broker.delete(asked).await {
        Ok(messages) => Ok(deleted(messages)),
        Err(Refusal::NotFound { .. }) => Ok(deleted(0)),
        Err(refusal) => Err(failure(&refusal, &context.vhost)),
    }
}

fn deleted(messages: u64) -> Answer {
    let message_count = messages.try_into().unwrap_or(u32::MAX);
    Answer::Done(Method::QueueDeleteOk(queue::DeleteOk { message_count }))
}

/// Hands a command over and waits for its answer.
pub(super) async fn command(context: &Context, command: Command) -> Result<Reply, Failure> {
    let told = |refusal: Refusal| failure(&refusal, &context.vhost);
    context.broker.begin(command).await.map_err(told)?.await.map_err(told)
}
