//! How are alerts looked at, and their rules declared?

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_alerts::{Alert, AlertSpec, Error, Rule};

use super::{
    declared::declared,
    extract::{self, Named, Params},
    ok,
    params::TryPutParams,
};
use crate::{
    api::{Declaration, List, Problem, Removed},
    auth::{Caller, Permission},
    door::Door,
    failure::{Failure, Kind},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(active)).routes(routes!(rules)).routes(routes!(put, get, delete))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::NotFound(_) => Failure::new(Kind::NotFound, error),
            Error::Differs(_) => Failure::new(Kind::Exists, error),
            Error::Invalid(invalid) => Failure::field(invalid.field, invalid.reason),
            Error::Limit => Failure::new(Kind::Limit, error),
            Error::Refused(refusal) => refusal.into(),
        }
    }
}

/// List what is wrong now, the longest first: of queues and subscriptions that the caller may see.
///
/// What began and what ended is told on the topic `$alerts`.
#[utoipa::path(get, path = "/v1/alerts", tag = "alerts", operation_id = "list_alerts", responses(
    (status = 200, description = "What is raised now", body = List<Alert>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn active(State(door): State<Arc<Door>>, caller: Caller) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let mut items = door.alerts.active();
    items.retain(|alert| caller.may_see(&alert.name));
    ok(&List { items, next: None })
}

/// List the rules of alerts, by name.
#[utoipa::path(get, path = "/v1/alert-rules", tag = "alerts", operation_id = "list_alert_rules", responses(
    (status = 200, description = "All of them", body = List<Rule>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn rules(State(door): State<Arc<Door>>, caller: Caller) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let mut items = door.alerts.rules().await?;
    items.retain(|rule| caller.require_all(Permission::Configure, &rule.spec.on).is_ok());
    ok(&List { items, next: None })
}

/// Declare a rule: bounds of one's own for the queues and subscriptions that a name or pattern stands for.
#[utoipa::path(put, path = "/v1/alert-rules/{name}", tag = "alerts", operation_id = "put_alert_rule",
    params(("name" = String, Path), TryPutParams), request_body = AlertSpec, responses(
    (status = 201, description = "Created", body = Declaration),
    (status = 200, description = "There just so, or changed, or tried", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn put(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<TryPutParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let spec: AlertSpec = extract::json(&door, &headers, body).await?;
    caller.require_all(Permission::Configure, &spec.on)?;
    if let Ok(there) = door.alerts.rule(&name).await {
        caller.require_all(Permission::Configure, &there.spec.on)?;
    }
    let broker = caller.broker(&door.broker);
    declared(door.alerts.put(&broker, &name, &spec, params.change, params.dry_run).await?, params.dry_run)
}

/// Show a rule.
#[utoipa::path(get, path = "/v1/alert-rules/{name}", tag = "alerts", operation_id = "show_alert_rule",
    params(("name" = String, Path)), responses(
    (status = 200, description = "As it is declared", body = Rule),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn get(State(door): State<Arc<Door>>, caller: Caller, Named(name): Named) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let rule = door.alerts.rule(&name).await?;
    caller.require_all(Permission::Configure, &rule.spec.on)?;
    ok(&rule)
}

/// Delete a rule: what it spoke of has the bounds of the next that fits, or the defaults.
#[utoipa::path(delete, path = "/v1/alert-rules/{name}", tag = "alerts", operation_id = "delete_alert_rule",
    params(("name" = String, Path)), responses(
    (status = 200, description = "Deleted", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let rule = door.alerts.rule(&name).await?;
    caller.require_all(Permission::Configure, &rule.spec.on)?;
    door.alerts.delete(&caller.broker(&door.broker), &name).await?;
    ok(&Removed { removed: 0 })
}
