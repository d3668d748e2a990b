//! Requests to commands, results to responses: one file for each thing that can be asked.

mod access;
mod alerts;
mod bindings;
mod bounds;
mod browse;
mod callbacks;
mod calls;
mod declared;
mod entities;
mod events;
mod extract;
mod follow;
mod health;
mod journeys;
pub(crate) mod kinds;
pub mod metrics;
mod params;
mod publish;
mod pushes;
mod receive;
mod redrives;
mod routes;
mod settle;
mod stream;
pub(crate) mod tails;
mod transact;
mod trials;

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use bytes::Bytes;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::media,
    door::Door,
    failure::{Failure, Kind},
};

/// What stands at the head of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Waystation",
        description = "Queues, topics, subscriptions and routes over HTTP. Errors are problems (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(crate::api::Problem, crate::api::Line, crate::api::Progress)),
    tags(
        (name = "queues", description = "Work that leaves when it is acknowledged"),
        (name = "topics", description = "Partitioned logs with retention"),
        (name = "subscriptions", description = "Named positions on topics"),
        (name = "routes", description = "Hand on what is published to them by their bindings, or take messages from a source and do steps with each"),
        (name = "pushes", description = "Queues and subscriptions delivered to endpoints by signed webhooks"),
        (name = "operations", description = "What can be called, and how workers get at it"),
        (name = "calls", description = "Accepted now, answered later: state, result, cancellation"),
        (name = "dead letters", description = "What failed for good: in groups, looked at, and redriven"),
        (name = "journeys", description = "What became of messages, and why"),
        (name = "alerts", description = "What is wrong, and from when on that is told"),
        (name = "transactions", description = "Several publishes and settlements as one"),
        (name = "access", description = "Users, permissions, virtual hosts, policies"),
        (name = "server", description = "Health, figures and this description"),
    )
)]
struct Description;

const WELCOME: &str = "\
Waystation: the place where messages between services stop over.

  /openapi.json   the description of this interface
  /v1/queues      queues
  /v1/topics      topics
  /v1/subscriptions
  /v1/routes      routes, with bindings or with steps
  /v1/users       users; /v1/permissions, /v1/topic-permissions: what they may do
  /v1/vhosts      virtual hosts
  /v1/policies    policies; /v1/operator-policies
  /v1/pushes      deliveries to endpoints
  /v1/operations  what can be called
  /v1/calls       calls; /v1/callbacks/dead: outcomes that could not be sent
  /v1/dead-letters what failed for good, in groups
  /v1/redrives    bringing that back to where it failed, or elsewhere
  /v1/journeys    what became of a message: ?id=…, ?business=order:4711
  /v1/alerts      what is wrong now; /v1/alert-rules: from when on that is told
  /v1/status      the server as it is now
  /metrics        figures for Prometheus
  /livez /readyz  health
";

fn described() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(entities::routes())
        .merge(routes::routes())
        .merge(bindings::routes())
        .merge(access::routes())
        .merge(pushes::routes())
        .merge(calls::routes())
        .merge(callbacks::routes())
        .merge(redrives::routes())
        .merge(alerts::routes())
        .routes(routes!(publish::to_queue))
        .routes(routes!(publish::to_topic))
        .routes(routes!(publish::to_route))
        .routes(routes!(transact::transact))
        .routes(routes!(receive::from_queue))
        .routes(routes!(receive::from_subscription))
        .routes(routes!(receive::one_from_queue))
        .routes(routes!(receive::one_from_subscription))
        .routes(routes!(settle::settle_queue))
        .routes(routes!(settle::settle_subscription))
        .routes(routes!(settle::extend_queue))
        .routes(routes!(settle::extend_subscription))
        .routes(routes!(settle::seek))
        .routes(routes!(browse::browse_queue))
        .routes(routes!(browse::browse_topic))
        .routes(routes!(browse::browse_subscription))
        .routes(routes!(events::follow_queue))
        .routes(routes!(events::follow_subscription))
        .routes(routes!(follow::follow_topic))
        .routes(routes!(journeys::journeys))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::status))
        .routes(routes!(metrics::metrics))
}

/// The description as JSON.
pub fn description() -> String {
    let (_, description) = described().split_for_parts();
    text(&description)
}

/// With the bounds that types do not tell.
fn text(description: &utoipa::openapi::OpenApi) -> String {
    let mut value = serde_json::to_value(description).unwrap_or_default();
    bounds::tell(&mut value);
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

/// All that can be asked.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let (router, description) = described().split_for_parts();
    let json = Bytes::from(text(&description));
    router
        .route("/openapi.json", get(move || async move { ([(header::CONTENT_TYPE, media::JSON)], json) }))
        .route("/", get(|| async { ([(header::CONTENT_TYPE, media::TEXT)], WELCOME) }))
        .fallback(|| async {
            Failure::new(Kind::NotFound, "nothing is served at this path; / tells where things are")
        })
        .method_not_allowed_fallback(|| async {
            Failure::new(Kind::MethodNotAllowed, "the header Allow names the methods that apply here")
        })
        .with_state(door)
}

/// JSON with a status.
fn json(status: StatusCode, value: &impl serde::Serialize) -> Result<axum::response::Response, Failure> {
    let text = serde_json::to_vec(value).map_err(Failure::internal)?;
    Ok((status, [(header::CONTENT_TYPE, media::JSON)], text).into_response())
}

/// JSON with status 200.
fn ok(value: &impl serde::Serialize) -> Result<axum::response::Response, Failure> {
    json(StatusCode::OK, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_openapi_3_1_and_every_reference_in_it_leads_somewhere() {
        let text = description();
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(json["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        for (at, _) in text.match_indices("\"#/") {
            let path = text[at + 2..].split('"').next().expect("a reference");
            assert!(json.pointer(path).is_some(), "{path}");
        }
        for path in
            ["/v1/queues/{name}/messages", "/v1/subscriptions/{name}/seek", "/v1/transactions", "/metrics"]
        {
            assert!(json["paths"].get(path).is_some(), "{path}");
        }
    }
}
