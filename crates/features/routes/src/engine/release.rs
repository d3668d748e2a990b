//! How is what a route still holds given back when it stops or waits? As not tried: whoever pauses a route, or a disk that is full,
//! must not use up the attempts that the source allows.

use std::{collections::BTreeSet, time::Duration};

use tokio::time;
use waystation_base::{Attempt, Tag};
use waystation_broker::{
    Refusal, Source,
    command::{Outcome, Settlement},
};
use waystation_host::{Broker, Consumer, Event};

use super::GRACE;
use crate::limits::BATCH_MESSAGES_MAX;

/// How long to wait before trying again at a server that is busy.
const AGAIN: Duration = Duration::from_millis(50);

/// A message that a route holds, at this attempt.
pub(crate) type Held = (Tag, Attempt);

/// All that a route holds.
pub(crate) type Unsettled = BTreeSet<Held>;

/// Gives back what is held and what is still on its way to the consumer, within a time. What cannot be given back so comes back when
/// the session closes, as an attempt.
pub(crate) async fn release(broker: &Broker, source: &Source, consumer: Consumer, mut held: Unsettled) {
    let work = async {
        receive_rest(broker, consumer, &mut held).await;
        while let Some(first) = held.first().copied() {
            let batch: Vec<Held> = held.range(first..).take(BATCH_MESSAGES_MAX).copied().collect();
            release_batch(broker, source, batch.clone()).await?;
            held.retain(|one| !batch.contains(one));
        }
        Ok::<(), Refusal>(())
    };
    match time::timeout(GRACE, work).await {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => {
            tracing::warn!(source = %source.name(), %refusal, "what a route held comes back as an attempt");
        }
        Err(_) => tracing::warn!(source = %source.name(), "what a route held comes back as an attempt"),
    }
}

/// What was on its way to the consumer is held by it, too.
async fn receive_rest(broker: &Broker, mut consumer: Consumer, held: &mut Unsettled) {
    // One that has ended by itself says so below.
    let _ = broker.cancel(consumer.id).await;
    while let Some(Event::Messages(messages)) = consumer.next().await {
        held.extend(messages.iter().map(|delivery| (delivery.tag, delivery.attempt)));
    }
}

async fn release_batch(broker: &Broker, source: &Source, mut batch: Vec<Held>) -> Result<(), Refusal> {
    while !batch.is_empty() {
        let released =
            |(tag, attempt): &Held| Settlement { tag: *tag, attempt: *attempt, outcome: Outcome::Released };
        match broker.settle(source.clone(), batch.iter().map(released).collect()).await {
            Ok(()) => return Ok(()),
            // It was settled after all, before what followed in its batch was refused.
            Err(Refusal::NotHeld { tag, attempt }) => batch.retain(|one| *one != (tag, attempt)),
            Err(Refusal::Busy) => time::sleep(AGAIN).await,
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(())
}
