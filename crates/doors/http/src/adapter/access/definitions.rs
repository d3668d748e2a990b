//! How are RabbitMQ's definitions read in and given out? By whoever speaks them: see [`crate::Definitions`].

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::absent;
use crate::{
    adapter::{
        extract::{self, Params},
        ok,
    },
    api::{Imported, Problem},
    auth::Caller,
    definitions::Unsaid,
    door::Door,
    failure::{Failure, Kind},
    incoming,
    limits::DEFINITIONS_BYTES_MAX,
    wire,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExportParams {
    /// Only this virtual host, without users, and its name in no object.
    vhost: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ImportParams {
    /// The definitions are those of one virtual host and name none: this one.
    vhost: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

impl From<Unsaid> for Failure {
    fn from(refused: Unsaid) -> Failure {
        if let Some(refusal) = refused.refusal {
            // The reason names the object too.
            return Failure::from(*refusal).with(|problem| problem.detail = refused.reason);
        }
        let kind = match refused.status {
            401 | 403 => Kind::Forbidden,
            404 => Kind::NotFound,
            413 => Kind::TooLarge,
            503 => Kind::Overloaded,
            400..=499 => Kind::Invalid,
            _ => Kind::Internal,
        };
        Failure::new(kind, refused.reason)
    }
}

fn known(door: &Door, vhost: Option<&str>) -> Result<(), Failure> {
    match vhost {
        Some(vhost) if !door.catalog.has_vhost(vhost) => Err(absent("virtual host", vhost)),
        _ => Ok(()),
    }
}

fn speaker(door: &Door) -> Result<&dyn crate::Definitions, Failure> {
    let closed = || Failure::new(Kind::NotFound, "this server does not speak RabbitMQ's definitions");
    door.definitions.as_deref().ok_or_else(closed)
}

/// Everything that is defined, as a RabbitMQ would export it; with the hashes of passwords.
#[utoipa::path(get, path = "/v1/amqp/definitions", tag = "access", operation_id = "export_definitions",
    params(ExportParams), responses(
    (status = 200, description = "As RabbitMQ's definitions.json", body = Object),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn export(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<ExportParams>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    known(&door, params.vhost.as_deref())?;
    let broker = caller.broker(&door.broker);
    ok(&speaker(&door)?.export(caller.0, broker, params.vhost).await?)
}

/// Make all that definitions describe. All of it is checked before anything is done; what is there just so is left alone, and
/// queues and exchanges that are there otherwise stay as they are.
#[utoipa::path(post, path = "/v1/amqp/definitions", tag = "access", operation_id = "import_definitions",
    params(ImportParams), request_body = Object, responses(
    (status = 200, description = "Done, or with `dry_run` to be done", body = Imported),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn import(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<ImportParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    known(&door, params.vhost.as_deref())?;
    extract::require_json(&headers)?;
    let body = incoming::whole(&door, &headers, body, "the definitions", DEFINITIONS_BYTES_MAX).await?;
    let definitions: serde_json::Map<String, serde_json::Value> = wire::json::parse_owned(&body.bytes)?;
    let broker = caller.broker(&door.broker);
    let done = speaker(&door)?.import(caller.0, broker, definitions, params.vhost, params.dry_run).await?;
    crate::adapter::json(StatusCode::OK, &done)
}

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(export, import))
}

#[cfg(test)]
mod tests {
    use waystation_broker::Refusal;

    use super::*;

    #[test]
    fn what_the_broker_refuses_is_told_as_what_it_is() {
        let check = |status, refusal: Option<Refusal>, kind: &str, expected| {
            let reason = "queue q: no".to_owned();
            let Failure(problem) = Unsaid { status, reason, refusal: refusal.map(Box::new) }.into();
            let told = (problem.kind.rsplit(':').next(), problem.status, problem.detail.as_str());
            assert_eq!(told, (Some(kind), expected, "queue q: no"));
        };
        check(503, Some(Refusal::DiskLow), "disk-low", 503);
        check(503, Some(Refusal::Draining), "draining", 503);
        check(400, Some(Refusal::VhostFull { vhost: "v".into(), limit: 1 }), "limit", 409);
        check(503, None, "overloaded", 503);
        check(400, None, "invalid", 422);
    }
}
