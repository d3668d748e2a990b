//! How do several publishes and settlements become one?

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use waystation_broker::{
    Source,
    command::{Payload, Publish, Settle, Target, Transaction},
};

use super::{extract, ok, publish, settle};
use crate::{
    api::{Problem, Transacted, TransactionRequest, TransactionSettle},
    auth::{Caller, Permission},
    door::{Counts, Door},
    failure::Failure,
    incoming,
    limits::TRANSACTION_BYTES_MAX,
    wire,
};

/// Publish to several addresses and settle, as one: all of it takes effect, or nothing.
#[utoipa::path(post, path = "/v1/transactions", tag = "transactions", request_body = TransactionRequest, responses(
    (status = 200, description = "Durable", body = Transacted),
    (status = 409, description = "A message is not held; nothing has happened", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn transact(
    State(door): State<Arc<Door>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    extract::require_json(&headers)?;
    let whole = incoming::whole(&door, &headers, body, "a transaction", TRANSACTION_BYTES_MAX).await?;
    let asked: wire::json::Transaction<'_> = wire::json::parse(&whole.bytes)?;
    let mut stamp = door.stamp()?;
    let mut transaction = Transaction::default();
    let (mut stored, mut settled) = (0, 0);
    for asked in asked.publishes {
        let address = extract::name("address", &asked.address)?;
        caller.require(Permission::Write, &address)?;
        let partition = asked.partition;
        let messages = asked.messages(&whole.bytes, &mut stamp).map_err(publish::at_index)?;
        stored += messages.len() as u64;
        let to = Target::Address(address);
        transaction.publishes.push(Publish { to, partition, payload: Payload::Messages(messages) });
    }
    for asked in asked.settlements {
        let settle = settle_of(&caller, asked)?;
        settled += settle.settlements.len() as u64;
        transaction.settlements.push(settle);
    }
    let published = caller.broker(&door.broker).transact(transaction).await?;
    Counts::add(&door.counts.published, stored);
    Counts::add(&door.counts.settled, settled);
    ok(&Transacted { published: published.iter().map(publish::accepted).collect(), settled })
}

fn settle_of(caller: &Caller, asked: TransactionSettle) -> Result<Settle, Failure> {
    let source = match (asked.queue, asked.subscription) {
        (Some(queue), None) => Source::Queue(extract::name("queue", &queue)?),
        (None, Some(name)) => Source::Subscription(extract::name("subscription", &name)?),
        _ => return Err(Failure::field("queue", "exactly one of queue and subscription must be named")),
    };
    caller.require(Permission::Read, source.name())?;
    Ok(Settle { source, settlements: settle::settlements(asked.settlements)? })
}
