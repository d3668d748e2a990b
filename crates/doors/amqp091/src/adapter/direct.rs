//! How do replies that were not published at this door reach those who wait at it for a direct reply? They come by a queue of
//! their own ([`DIRECT_REPLIES`]), so that whoever replies can do so in the transaction of what he replies to.
//!
//! A direct reply is for a connection that is there now: whose connection has gone meanwhile gets nothing, as with RabbitMQ.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use smol_str::SmolStr;
use waystation_base::{Message, Name, message::header, name::DIRECT_REPLIES};
use waystation_broker::{
    Refusal, SessionId, Source,
    command::{Hold, Outcome, Settlement},
    spec::{QueueSpec, Spec},
};
use waystation_host::{Delivery, Event};

use super::door::Door;
use crate::{
    mapping::{Extras, Outgoing},
    wire::Content,
};

/// Replies that are on their way to connections.
const HELD_MAX: u32 = 100;
/// Milliseconds after which nobody waits for one any more.
const TTL_MS: u64 = 60_000;
/// Milliseconds until one is tried again whose connection has no room.
const AGAIN_MS: u64 = 50;
/// How long to wait before listening again.
const PAUSE: Duration = Duration::from_secs(1);

/// Hands replies over until the drain begins.
pub(super) async fn run(door: Arc<Door>) {
    loop {
        tokio::select! {
            biased;
            () = door.drain.begun() => return,
            Err(error) = hand_over(&door) => tracing::warn!(%error, queue = DIRECT_REPLIES, "direct replies are not heard; trying again"),
        }
        tokio::select! {
            biased;
            () = door.drain.begun() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn hand_over(door: &Door) -> Result<(), Refusal> {
    let Ok(name) = Name::reserved(DIRECT_REPLIES) else { return Ok(()) };
    let spec = QueueSpec { ttl_ms: Some(TTL_MS), ..QueueSpec::default() };
    door.broker.declare(name.clone(), Spec::Queue(spec), true, SessionId::default()).await?;
    let source = Source::Queue(name);
    let mut consumer =
        door.broker.consume(source.clone(), HELD_MAX, Hold::Attached, SessionId::default()).await?;
    while let Some(event) = consumer.next().await {
        let Event::Messages(deliveries) = event else { return Err(Refusal::NotAttached) };
        let settled = deliveries.iter().map(|delivery| {
            let Delivery { tag, attempt, .. } = *delivery;
            Settlement { tag, attempt, outcome: send(door, &delivery.message) }
        });
        door.broker.settle(source.clone(), settled.collect()).await?;
    }
    Err(Refusal::NotAttached)
}

/// Hands one over, and says what becomes of its message.
fn send(door: &Door, message: &Message) -> Outcome {
    let Some(address) = message.headers.text(header::REPLY_TO).map(SmolStr::from) else {
        return Outcome::Accepted;
    };
    let mut plain = message.clone();
    plain.headers.remove(header::REPLY_TO);
    let mut properties = BytesMut::new();
    Outgoing::new(&plain, "", Extras::default()).write_properties(&mut properties);
    let content = Content { properties: properties.freeze(), body: message.body.clone() };
    if door.replies.send(SmolStr::default(), address.clone(), content) {
        return Outcome::Accepted;
    }
    match door.replies.has(&address) {
        true => Outcome::Requeued { delay_ms: AGAIN_MS },
        false => {
            tracing::debug!(%address, "nobody waits for this direct reply any more");
            Outcome::Accepted
        }
    }
}
