//! How does a consumer begin, and how is one message got by itself?

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};
use waystation_base::{ClientId, ConsumerId, Name, os, value::Value};
use waystation_broker::{
    PoolId, Refusal, SessionId, Source,
    command::{Attach, Hold},
    spec::{Mode, Spec, SubscriptionSpec},
    view::TopicInfo,
};

use super::{
    calls::{Begun, Got, first_credit},
    connection::Context,
    outcome::failure,
    queues::{self, Found},
    stream_offset,
};
use crate::{
    directory::Action,
    mapping::QueueType,
    session::{Answer, ChannelKey, Failure},
    wire::{ReplyCode, methods::basic},
};

/// Random text for names that the server gives.
pub(super) fn random_name(prefix: &str) -> Result<SmolStr, Failure> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let random = os::random()
        .map_err(|error| Failure::new(ReplyCode::InternalError, format!("no randomness: {error}")))?;
    Ok(format_smolstr!("{prefix}-{}", URL_SAFE_NO_PAD.encode(random.to_be_bytes())))
}

fn tag_or_new(tag: SmolStr) -> Result<SmolStr, Failure> {
    if tag.is_empty() { random_name("amq.ctag") } else { Ok(tag) }
}

/// The credit that the consumers of a channel share: what RabbitMQ's `basic.qos` with `global` limits.
pub(super) fn pool(session: SessionId, channel: ChannelKey) -> PoolId {
    PoolId { session, number: u64::from(channel.id.0) << 32 | u64::from(channel.epoch) }
}

/// Begins to consume.
pub(super) async fn consume(
    context: &Context,
    channel: ChannelKey,
    mut consume: basic::Consume,
    prefetch: u16,
    prefetch_global: u16,
) -> Result<Begun, Failure> {
    let queue = context.queue(&consume.queue);
    context.require(Action::Read, &queue)?;
    let name = context.name(&consume.queue)?;
    let priority = match consume.arguments.get("x-priority") {
        None => 0,
        Some(value) => priority(value)
            .map_err(|why| Failure::precondition(format!("invalid arg 'x-priority' for {queue}: {why}")))?,
    };
    consume.consumer_tag = tag_or_new(consume.consumer_tag)?;
    let no_ack = consume.no_ack;
    let mut timeout_ms = None;
    let (source, kind) = match queues::find(context, &name).await? {
        Found::Queue(info) => {
            queues::check_owner(context, &info, &queue)?;
            let spec = Spec::Queue(info.spec);
            timeout_ms = context.door.directory.consumer_timeout_ms(&context.vhost, &consume.queue, &spec);
            (Source::Queue(name), crate::mapping::queue_type(&spec))
        }
        Found::Topic(topic) => {
            if no_ack {
                let text = format!("automatic acknowledgement not supported by stream queues {queue}");
                return Err(Failure::not_implemented(text));
            }
            if prefetch_global > 0 {
                return Err(Failure::not_implemented(format!("{queue} does not support global qos")));
            }
            if prefetch == 0 {
                let text = format!("consumer prefetch count is not set for '{queue}'");
                return Err(Failure::precondition(text));
            }
            (stream(context, &topic, &consume).await?, QueueType::Stream)
        }
        Found::Nothing => return Err(Failure::not_found(&queue)),
    };
    let attach = Attach {
        // The broker gives it one.
        consumer: ConsumerId(0),
        source: source.clone(),
        credit: first_credit(no_ack, prefetch),
        pool: Some(pool(context.session, channel)),
        hold: if no_ack { Hold::None } else { Hold::Attached },
        priority,
        exclusive: consume.exclusive,
        session: context.session,
        client: ClientId(0),
    };
    let consumer = context.broker.attach(attach).await.map_err(|refusal| match refusal {
        Refusal::Exclusive { .. } => Failure::access(format!("{queue} in exclusive use")),
        other => failure(&other, &context.vhost),
    })?;
    Ok(Begun { consume, source: Arc::new(source), kind, priority, prefetch, consumer, timeout_ms })
}

/// Past what a priority may be it is the highest or lowest.
fn priority(value: &Value) -> Result<i32, String> {
    crate::mapping::whole(value).map(|number| number.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

/// A position of its own on a stream, which goes with its consumer.
async fn stream(context: &Context, topic: &TopicInfo, consume: &basic::Consume) -> Result<Source, Failure> {
    let now = context.door.clock.now();
    let start = stream_offset::start(consume.arguments.get("x-stream-offset"), topic, now)?;
    let spec = SubscriptionSpec {
        mode: Mode::Ordered,
        start,
        temporary: true,
        ..SubscriptionSpec::new(topic.name.as_str())
    };
    let told = |text: String| Failure::new(ReplyCode::InternalError, text);
    let name = Name::reserved(random_name("$amqp/stream")?).map_err(|error| told(error.to_string()))?;
    let declared =
        context.door.broker.declare(name.clone(), Spec::Subscription(spec), false, context.session);
    declared.await.map_err(|refusal| failure(&refusal, &context.vhost))?;
    Ok(Source::Subscription(name))
}

/// Begins to consume direct replies.
pub(super) fn consume_replies(
    context: &Context,
    channel: ChannelKey,
    tag: SmolStr,
) -> Result<Answer, Failure> {
    let tag = tag_or_new(tag)?;
    let address = context.door.replies.open(channel, tag.clone(), context.replies.clone())?;
    Ok(Answer::ConsumingReplies { tag, address })
}

/// Takes one message.
pub(super) async fn get(context: &Context, get: &basic::Get) -> Result<Option<Got>, Failure> {
    let queue = context.queue(&get.queue);
    context.require(Action::Read, &queue)?;
    let name = context.name(&get.queue)?;
    let (kind, timeout_ms) = match queues::find(context, &name).await? {
        Found::Queue(info) => {
            queues::check_owner(context, &info, &queue)?;
            let has_single_consumer = info.spec.single_active_consumer;
            let spec = Spec::Queue(info.spec);
            let timeout_ms = context.door.directory.consumer_timeout_ms(&context.vhost, &get.queue, &spec);
            let kind = crate::mapping::queue_type(&spec);
            if has_single_consumer && kind == QueueType::Quorum {
                return Err(Failure::no_get(&queue));
            }
            (kind, timeout_ms)
        }
        Found::Topic(_) => {
            return Err(Failure::not_implemented(format!(
                "basic.get not supported by stream queues {queue}"
            )));
        }
        Found::Nothing => return Err(Failure::not_found(&queue)),
    };
    let source = Source::Queue(name.clone());
    let broker = &context.broker;
    let delivery =
        broker.get_once(source.clone(), context.session).await.map_err(|refusal| match refusal {
            Refusal::Exclusive { .. } => Failure::access(format!("{queue} in exclusive use")),
            other => failure(&other, &context.vhost),
        })?;
    let Some(delivery) = delivery else { return Ok(None) };
    let left = broker.query(move |view| view.queue(&name).map_or(0, |info| info.ready)).await;
    Ok(Some(Got {
        delivery,
        source: Arc::new(source),
        kind,
        no_ack: get.no_ack,
        message_count: left.unwrap_or(0).try_into().unwrap_or(u32::MAX),
        timeout_ms,
    }))
}
