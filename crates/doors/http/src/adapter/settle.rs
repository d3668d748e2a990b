//! How does a client settle what it received, prolong its leases, and move a subscription?

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use waystation_base::{Attempt, Millis, Name, Offset, Tag};
use waystation_broker::{Source, command, spec::retry::CLASS_BYTES_MAX, view::SourceInfo};
use waystation_host::{Broker, Browse, Target};

use super::{
    extract::{self, Named},
    ok,
};
use crate::{
    api::{
        ExtendRequest, Extended, Outcome, Problem, SeekPosition, SeekRequest, SeekStart, SettleRequest,
        Settled, Settlement,
    },
    auth::{Caller, Permission},
    door::{Counts, Door},
    failure::Failure,
    limits::SETTLEMENTS_MAX,
};

/// Turns settlements into the broker's, checking what belongs to which outcome.
pub(super) fn settlements(asked: Vec<Settlement>) -> Result<Vec<command::Settlement>, Failure> {
    if asked.len() > SETTLEMENTS_MAX {
        return Err(Failure::field(
            "settlements",
            format_args!("there may be {SETTLEMENTS_MAX}, these are {}", asked.len()),
        )
        .with(|problem| problem.limit = Some(SETTLEMENTS_MAX as u64)));
    }
    let turn = |(index, settlement): (usize, Settlement)| {
        settle_one(settlement).map_err(|failure| failure.with(|problem| problem.index = Some(index as u64)))
    };
    asked.into_iter().enumerate().map(turn).collect()
}

fn settle_one(settlement: Settlement) -> Result<command::Settlement, Failure> {
    let Settlement { tag, attempt, outcome, error, class, delay_ms } = settlement;
    let says = [("error", error.is_some()), ("class", class.is_some())];
    let failed = matches!(outcome, Outcome::Reject | Outcome::Requeue);
    if let Some((field, _)) = says.into_iter().find(|(_, said)| *said && !failed) {
        return Err(Failure::field(field, "goes with the outcomes reject and requeue only"));
    }
    if let Some(class) = &class {
        extract::at_most("class", class.len(), 1, CLASS_BYTES_MAX)?;
    }
    if delay_ms.is_some() && outcome != Outcome::Requeue {
        return Err(Failure::field("delay_ms", "goes with outcome requeue only"));
    }
    let max = waystation_base::limits::DELAY_MS_MAX;
    let delay_ms = delay_ms.map(|ms| extract::at_most("delay_ms", ms, 0, max)).transpose()?;
    let outcome = match outcome {
        Outcome::Accept => command::Outcome::Accepted,
        Outcome::Reject => command::Outcome::Rejected { error, class },
        Outcome::Requeue => command::Outcome::Failed(command::Failure { error, class, delay_ms }),
        Outcome::Release => command::Outcome::Released,
    };
    Ok(command::Settlement { tag: tag.0, attempt: Attempt(attempt), outcome })
}

async fn settle(
    door: Arc<Door>,
    caller: Caller,
    source: Source,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Read, source.name())?;
    let _permit = door.begin_request()?;
    let request: SettleRequest = extract::json(&door, &headers, body).await?;
    let settlements = settlements(request.settlements)?;
    let settled = settlements.len() as u64;
    caller.broker(&door.broker).settle(source, settlements).await?;
    Counts::add(&door.counts.settled, settled);
    ok(&Settled { settled })
}

async fn extend(
    door: Arc<Door>,
    caller: Caller,
    source: Source,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Read, source.name())?;
    let _permit = door.begin_request()?;
    let request: ExtendRequest = extract::json(&door, &headers, body).await?;
    extract::at_most("held", request.held.len(), 0, SETTLEMENTS_MAX)?;
    let lease_ms = extract::at_most("lease_ms", request.lease_ms, 1, waystation_base::limits::LEASE_MS_MAX)?;
    let held = request.held.iter().map(|held| (held.tag.0, Attempt(held.attempt))).collect();
    let until = caller.broker(&door.broker).extend(source, held, lease_ms).await?;
    ok(&Extended { lease_until: until.0 })
}

/// Settle messages of a queue: all of them, or none.
#[utoipa::path(post, path = "/v1/queues/{name}/settle", tag = "queues", params(("name" = String, Path)),
    request_body = SettleRequest, responses(
    (status = 200, description = "Durable", body = Settled),
    (status = 409, description = "One of them is not held; nothing is settled", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn settle_queue(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    settle(door, caller, Source::Queue(name), headers, body).await
}

/// Settle messages of a subscription: all of them, or none.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/settle", tag = "subscriptions", params(("name" = String, Path)),
    request_body = SettleRequest, responses(
    (status = 200, description = "Durable", body = Settled),
    (status = 409, description = "One of them is not held; nothing is settled", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn settle_subscription(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    settle(door, caller, Source::Subscription(name), headers, body).await
}

/// Prolong leases of messages of a queue.
#[utoipa::path(post, path = "/v1/queues/{name}/extend", tag = "queues", params(("name" = String, Path)),
    request_body = ExtendRequest, responses(
    (status = 200, description = "Prolonged", body = Extended),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn extend_queue(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    extend(door, caller, Source::Queue(name), headers, body).await
}

/// Prolong leases of messages of a subscription.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/extend", tag = "subscriptions", params(("name" = String, Path)),
    request_body = ExtendRequest, responses(
    (status = 200, description = "Prolonged", body = Extended),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn extend_subscription(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    extend(door, caller, Source::Subscription(name), headers, body).await
}

/// Move a subscription to another place.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/seek", tag = "subscriptions", params(("name" = String, Path)),
    request_body = SeekRequest, responses(
    (status = 200, description = "Moved; where it goes on now", body = [SeekPosition]),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn seek(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    let to = match extract::json(&door, &headers, body).await? {
        SeekRequest { start: Some(start), positions: None } => {
            let info = door.broker.subscription(name.clone()).await?;
            let mut to = Vec::with_capacity(info.sources.len());
            // What came back by a redrive is no place in a topic.
            for source in info.sources.into_iter().filter(|source| source.topic.redriven_to().is_none()) {
                let offset = start_of(&door.broker, &source, start).await?;
                to.push((source.topic, source.partition, offset));
            }
            to
        }
        SeekRequest { start: None, positions: Some(positions) } => {
            let turn =
                |at: SeekPosition| Ok((extract::name("topic", &at.topic)?, at.partition, Offset(at.offset)));
            positions.into_iter().map(turn).collect::<Result<Vec<_>, Failure>>()?
        }
        _ => return Err(Failure::field("start", "exactly one of start and positions must be given")),
    };
    caller.broker(&door.broker).seek(name, to.clone()).await?;
    let shown = |(topic, partition, offset): (Name, u32, Offset)| SeekPosition {
        topic: topic.to_string(),
        partition,
        offset: offset.0,
    };
    ok(&to.into_iter().map(shown).collect::<Vec<_>>())
}

/// The offset that a start means in one partition.
async fn start_of(broker: &Broker, source: &SourceInfo, start: SeekStart) -> Result<Offset, Failure> {
    Ok(match start {
        SeekStart::Latest => Offset(source.end_offset),
        SeekStart::Offset(offset) => Offset(offset.min(source.end_offset)),
        SeekStart::Earliest => {
            let topic = broker.topic(source.topic.clone()).await?;
            let partition = topic.partitions.get(source.partition as usize);
            Offset(partition.map_or(0, |partition| partition.start_offset))
        }
        SeekStart::Time(ms) => offset_at(broker, &source.topic, source.partition, Millis(ms))
            .await?
            .unwrap_or(Offset(source.end_offset)),
    })
}

/// The offset of the first message at or after a time.
pub(super) async fn offset_at(
    broker: &Broker,
    topic: &Name,
    partition: u32,
    at: Millis,
) -> Result<Option<Offset>, Failure> {
    let browse = Browse {
        from: Some(Tag::new(partition as u16, Offset(0))),
        from_time: Some(at),
        partition: Some(partition),
        filter: None,
        max: 1,
        bytes_max: 1,
    };
    let page = broker.browse(Target::Topic(topic.clone()), browse).await?;
    Ok(page.messages.first().map(|delivery| delivery.offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settlements_max_may_be_settled_at_once_and_no_more() {
        let check = |count| settlements(vec![Settlement::default(); count]).map(|all| all.len());
        assert_eq!(check(SETTLEMENTS_MAX).expect("at the bound"), SETTLEMENTS_MAX);
        assert_eq!(check(SETTLEMENTS_MAX + 1).expect_err("past it").0.limit, Some(SETTLEMENTS_MAX as u64));
    }

    #[test]
    fn what_does_not_belong_to_an_outcome_is_refused_with_its_place() {
        let wrong = Settlement { error: Some("x".into()), ..Settlement::default() };
        let Failure(problem) =
            settlements(vec![Settlement::default(), wrong]).expect_err("accept with error");
        assert_eq!((problem.index, problem.field.as_deref()), (Some(1), Some("error")));
        for wrong in [
            Settlement { delay_ms: Some(1), ..Settlement::default() },
            Settlement { class: Some("x".into()), outcome: Outcome::Release, ..Settlement::default() },
            Settlement { delay_ms: Some(1), outcome: Outcome::Reject, ..Settlement::default() },
        ] {
            assert!(settlements(vec![wrong]).is_err());
        }
    }

    #[test]
    fn a_class_has_at_most_class_bytes_max_and_at_least_one() {
        let check = |bytes: usize| {
            let class = Some("x".repeat(bytes));
            settlements(vec![Settlement { class, outcome: Outcome::Requeue, ..Settlement::default() }])
        };
        assert!(check(1).is_ok() && check(CLASS_BYTES_MAX).is_ok());
        assert!(check(0).is_err() && check(CLASS_BYTES_MAX + 1).is_err());
    }
}
