//! How are callbacks sent again that were given up: looked at, chosen, and put back on their queue, each in one step?

use std::{collections::HashSet, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Clock, Message, MessageId, Millis, Name, Value, message::header, os};
use waystation_broker::{
    Kind, Refusal, Source,
    command::{Outcome, Payload, Publish, Settle, Transaction},
};
use waystation_host::{Broker, Browse, Delivery, Target};

use super::{
    addressed,
    callbacks::{DEAD, QUEUE},
    ledger::Ledger,
};

/// Callbacks that are looked at in one request.
pub const LOOK_MAX: usize = 10_000;
/// Callbacks that are taken together.
const BATCH: u32 = 100;
/// Milliseconds for which what is looked at is nobody else's.
const LEASE_MS: u64 = 60_000;
/// Bytes that are looked at together.
const PAGE_BYTES: usize = 8 << 20;

/// A callback that was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dead {
    /// Its `webhook-id`: its call's id.
    pub id: String,
    /// The operation that was called.
    pub operation: String,
    /// Where it was to go.
    pub url: String,
    /// Why it was given up.
    pub error: String,
    /// When (milliseconds since 1970).
    pub time: u64,
    /// Attempts that were made.
    pub attempts: u64,
}

/// Which of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// These only.
    pub ids: Option<HashSet<String>>,
    /// Of this operation only.
    pub operation: Option<String>,
}

/// What was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redriven {
    /// Callbacks that were put back, or that would be.
    pub callbacks: Vec<Dead>,
    /// More were given up than are looked at in one request: ask again.
    pub more: bool,
}

impl Dead {
    fn of(message: &Message) -> Dead {
        let text = |name: &str| message.headers.text(name).unwrap_or_default().to_owned();
        let time = match message.headers.get(header::DEATH_TIME) {
            Some(Value::Timestamp(at)) => at.0,
            _ => message.timestamp.0,
        };
        let attempts =
            message.headers.get(header::DEATH_ATTEMPTS).and_then(Value::as_i64).unwrap_or_default();
        Dead {
            id: text(addressed::ID),
            operation: text(addressed::OPERATION),
            url: text(addressed::URL),
            error: text(header::DEATH_ERROR),
            time,
            attempts: attempts.unsigned_abs(),
        }
    }
}

impl Which {
    fn has(&self, dead: &Dead) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&dead.id))
            && self.operation.as_ref().is_none_or(|operation| *operation == dead.operation)
    }
}

fn queue() -> Source {
    Source::Queue(Name::reserved(DEAD).unwrap_or_else(|error| unreachable!("a good name: {error}")))
}

/// Those that were given up, oldest first. `may` says of which operations the asker may hear.
pub async fn look(broker: &Broker, which: &Which, may: impl Fn(&str) -> bool) -> Result<Redriven, Refusal> {
    let (mut found, mut looked, mut from) = (Redriven::default(), 0, None);
    loop {
        let browse = Browse { from, max: BATCH as usize * 10, bytes_max: PAGE_BYTES, ..Browse::default() };
        let page = match broker.browse(Target::Queue(queue().name().clone()), browse).await {
            Ok(page) => page,
            // Nothing was ever given up.
            Err(Refusal::NotFound { kind: Kind::Queue, .. }) => return Ok(found),
            Err(refusal) => return Err(refusal),
        };
        looked += page.messages.len();
        let all = page.messages.iter().map(|delivery| Dead::of(&delivery.message));
        found.callbacks.extend(all.filter(|dead| which.has(dead) && may(&dead.operation)));
        from = page.next;
        if from.is_none() || looked >= LOOK_MAX {
            found.more = from.is_some();
            return Ok(found);
        }
    }
}

/// Puts them back on the queue of callbacks, under the id that they had. What is not chosen stays.
pub async fn redrive(
    broker: &Broker,
    clock: &dyn Clock,
    ledger: &Ledger,
    which: &Which,
    may: impl Fn(&str) -> bool,
) -> Result<Redriven, Refusal> {
    let (mut done, mut kept) = (Redriven::default(), Vec::new());
    // What is given up again meanwhile stands behind those that are there now, and is not looked at.
    let ready = match broker.queue(queue().name().clone()).await {
        Ok(info) => info.ready,
        Err(Refusal::NotFound { kind: Kind::Queue, .. }) => 0,
        Err(refusal) => return Err(refusal),
    };
    done.more = ready > LOOK_MAX as u64;
    let mut left = ready.min(LOOK_MAX as u64) as u32;
    let result = loop {
        if left == 0 {
            break Ok(());
        }
        let batch = left.min(BATCH);
        let taken = match broker.receive(queue(), batch, Duration::ZERO, Some(LEASE_MS), clock.now()).await {
            Ok(taken) if taken.is_empty() => break Ok(()),
            Ok(taken) => taken,
            Err(refusal) => break Err(refusal),
        };
        left = left.saturating_sub(taken.len() as u32);
        let is_chosen = |delivery: &Delivery| {
            let dead = Dead::of(&delivery.message);
            which.has(&dead) && may(&dead.operation)
        };
        let (chosen, rest): (Vec<_>, Vec<_>) = taken.into_iter().partition(is_chosen);
        kept.extend(rest);
        if let Err(refusal) = put_back(broker, clock.now(), &chosen).await {
            kept.extend(chosen);
            break Err(refusal);
        }
        for delivery in &chosen {
            let dead = Dead::of(&delivery.message);
            ledger.redriven(&dead.id);
            done.callbacks.push(dead);
        }
    };
    if !kept.is_empty() {
        let settlements = kept.iter().map(|delivery| delivery.settlement(Outcome::Released)).collect();
        broker.settle(queue(), settlements).await?;
    }
    result.map(|()| done)
}

async fn put_back(broker: &Broker, now: Millis, chosen: &[Delivery]) -> Result<(), Refusal> {
    if chosen.is_empty() {
        return Ok(());
    }
    let messages =
        chosen.iter().map(|delivery| afresh(&delivery.message, now)).collect::<Result<Vec<_>, _>>()?;
    let to = Name::reserved(QUEUE).map_err(|error| Refusal::Stopped(error.to_string()))?;
    let publish = Publish { to: to.into(), partition: None, payload: Payload::Messages(messages) };
    let settlements = chosen.iter().map(|delivery| delivery.settlement(Outcome::Accepted)).collect();
    let settle = Settle { source: queue(), settlements };
    broker.transact(Transaction { publishes: vec![publish], settlements: vec![settle] }).await.map(|_| ())
}

/// The message without its death. It has an id of its own: by that its age is told, at which it is given up.
fn afresh(message: &Message, now: Millis) -> Result<Message, Refusal> {
    let random = os::random().map_err(|error| Refusal::Stopped(format!("no randomness: {error}")))?;
    let mut fresh = Message { id: MessageId::new(now, random), timestamp: now, ..message.clone() };
    fresh.headers.0.retain(|(name, _)| !name.starts_with("ws-death"));
    Ok(fresh)
}
