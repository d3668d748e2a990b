//! What became of a message, and of all that belongs to it?

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use waystation_base::Millis;
use waystation_broker::{Kind as What, Source};
use waystation_calls::UpstreamState;
use waystation_journeys::{Error, Journey, MESSAGES, MESSAGES_MAX, Pause, Pauses, Query, Role, find};
use waystation_routes::RouteState;
use waystation_webhooks::push::{PUSHES_MAX, PushState};

use super::{
    extract::{Params, at_most},
    ok,
};
use crate::{
    api::Problem,
    auth::{Caller, Permission},
    door::Door,
    failure::{Failure, Kind},
};

/// Bytes of what is looked for.
pub(super) const TEXT_BYTES_MAX: usize = 256;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JourneyParams {
    /// An id of any kind: of a message (Waystation's or its sender's), a call, a correlation or a trace, or the value of a business
    /// key.
    id: Option<String>,
    /// The id of a message.
    message_id: Option<String>,
    /// A correlation id.
    correlation_id: Option<String>,
    /// A trace id (W3C Trace Context): 32 hexadecimal digits.
    trace_id: Option<String>,
    /// The id of a call.
    call: Option<String>,
    /// A business key and its value, as `order:4711`.
    business: Option<String>,
    /// Most messages to tell of: 1 to 1000 (default 200).
    limit: Option<usize>,
}

/// What is asked for: exactly one of the parameters says.
fn query(params: JourneyParams) -> Result<Query, Failure> {
    let messages_max = at_most("limit", params.limit.unwrap_or(MESSAGES), 1, MESSAGES_MAX)?;
    let business = params.business.map(|text| match text.split_once(':') {
        Some((key, value)) if !key.is_empty() => Ok((Some(key.to_owned()), value.to_owned())),
        _ => Err(Failure::field("business", "must be a key and its value, like order:4711")),
    });
    let (key, business) = business.transpose()?.unzip();
    let given = [
        (Role::Any, params.id),
        (Role::Message, params.message_id),
        (Role::Correlation, params.correlation_id),
        (Role::Trace, params.trace_id),
        (Role::Call, params.call),
        (Role::Business, business),
    ];
    let mut given = given.into_iter().filter_map(|(role, text)| Some((role, text?)));
    let (Some((role, text)), None) = (given.next(), given.next()) else {
        let reason =
            "exactly one of id, message_id, correlation_id, trace_id, call and business must be given";
        return Err(Failure::field("id", reason));
    };
    at_most("id", text.len(), 1, TEXT_BYTES_MAX)?;
    Ok(Query { role, key: key.flatten(), text, messages_max })
}

/// Waystation's own consumers that take nothing for now.
async fn pauses(door: &Door) -> Pauses {
    let pause = |who: String, state: &str, why: Option<String>, until: Option<Millis>| Pause {
        who,
        state: state.to_owned(),
        why,
        until: until.map(|until| until.0),
    };
    let mut pauses: BTreeMap<(What, String), Pause> = BTreeMap::new();
    for push in door.pushes.list(None, PUSHES_MAX, |_| true).await {
        let state = match push.state {
            PushState::Active => continue,
            PushState::Suspended => "suspended",
            PushState::Waiting => "waiting",
            PushState::Paused => "paused",
            PushState::Disabled => "disabled",
        };
        let source = match push.spec.source() {
            Ok(Source::Queue(queue)) => (What::Queue, queue.to_string()),
            Ok(Source::Subscription(subscription)) => (What::Subscription, subscription.to_string()),
            Err(_) => continue,
        };
        pauses.insert(source, pause(format!("push {}", push.name), state, push.reason, push.until));
    }
    for (name, source, state, why) in door.routes.idle().await {
        let state = if state == RouteState::Paused { "paused" } else { "waiting" };
        let source = match source {
            Source::Queue(queue) => (What::Queue, queue.to_string()),
            Source::Subscription(subscription) => (What::Subscription, subscription.to_string()),
        };
        pauses.insert(source, pause(format!("route {name}"), state, why, None));
    }
    for (name, operation) in door.calls.operations().await.iter() {
        let Some(upstream) = door.calls.upstream(name, operation) else { continue };
        let state = match upstream.state {
            UpstreamState::Suspended => "suspended",
            UpstreamState::Paused => "paused",
            _ => continue,
        };
        if let Ok(queue) = operation.queue_name(name) {
            let who = format!("the upstream of {name}");
            pauses
                .insert((What::Queue, queue.to_string()), pause(who, state, upstream.reason, upstream.until));
        }
    }
    pauses
}

/// What became of a message, and why: the messages that belong together, where each is, and where it stopped.
///
/// Finds by message id, correlation id, trace id, call id or business key. What it tells comes from the record, which is kept for a
/// while; queues and topics that the caller may not consume from are left out and counted.
#[utoipa::path(get, path = "/v1/journeys", tag = "journeys", params(JourneyParams), responses(
    (status = 200, description = "The journey; without messages if the record knows of none", body = Journey),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn journeys(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<JourneyParams>,
) -> Result<Response, Failure> {
    let query = query(params)?;
    let _permit = door.begin_request()?;
    let may_read = |name: &waystation_base::Name| caller.require(Permission::Read, name).is_ok();
    match find(&door.broker, query, may_read, &pauses(&door).await).await {
        Ok(journey) => ok(&journey),
        Err(Error::Refused(refusal)) => Err(refusal.into()),
        Err(error @ Error::Off) => Err(Failure::new(Kind::NotFound, error)),
        Err(error @ Error::Failed(_)) => Err(Failure::internal(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<(Role, Option<&str>, &str)>) {
        let query = query(serde_json::from_str(json).expect("parameters"));
        let found = query.as_ref().ok().map(|it| (it.role, it.key.as_deref(), it.text.as_str()));
        assert_eq!(found, expected, "{json}");
    }

    #[test]
    fn exactly_one_thing_is_asked_for() {
        check(r#"{"id": "x"}"#, Some((Role::Any, None, "x")));
        check(r#"{"trace_id": "x"}"#, Some((Role::Trace, None, "x")));
        check(r#"{"business": "order:47:11"}"#, Some((Role::Business, Some("order"), "47:11")));
        for wrong in [
            r#"{"business": "4711"}"#,
            r#"{"business": ":1"}"#,
            "{}",
            r#"{"id": "x", "call": "x"}"#,
            r#"{"id": ""}"#,
        ] {
            check(wrong, None);
        }
        let long = |bytes: usize| format!(r#"{{"id": "{}"}}"#, "x".repeat(bytes));
        check(&long(TEXT_BYTES_MAX), Some((Role::Any, None, &"x".repeat(TEXT_BYTES_MAX))));
        check(&long(TEXT_BYTES_MAX + 1), None);
        check(r#"{"id": "x", "limit": 1000}"#, Some((Role::Any, None, "x")));
        check(r#"{"id": "x", "limit": 1001}"#, None);
        check(r#"{"id": "x", "limit": 0}"#, None);
    }
}
