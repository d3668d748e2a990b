//! Policies, operators' policies and parameters: shown, set, taken away.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use waystation_catalog::{ApplyTo, GlobalParameter, Parameter, Policy, Rank, check_policy};

use super::{
    desk::{Desk, Object, Who},
    failure::Failure,
    list::Ask,
};

type Answer = Result<Json<Value>, Failure>;
type Done = Result<StatusCode, Failure>;

/// The component under which operators' policies stand among the parameters.
pub(super) const OPERATOR_COMPONENT: &str = "operator_policy";

fn created(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }
}

fn gone(was_there: bool) -> Done {
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(Failure::not_found()) }
}

/// A policy as the API and definitions show it.
pub(super) fn show(it: &Policy) -> Value {
    json!({
        "vhost": it.vhost,
        "name": it.name,
        "pattern": it.pattern,
        "apply-to": it.apply_to.as_str(),
        "definition": it.definition,
        "priority": it.priority,
    })
}

/// A policy as a body describes it, checked.
pub(super) fn policy_of(rank: Rank, host: &str, name: &str, body: &Object) -> Result<Policy, Failure> {
    body.require(&["pattern", "definition"])?;
    let apply_to = body.text("apply-to")?.unwrap_or("all");
    let unknown = || {
        let text = format!("apply-to '{apply_to}' unrecognised; should be 'queues', 'exchanges' or 'all'");
        Failure::bad_request(format!("Validation failed\n\n{text}\n"))
    };
    let policy = Policy {
        vhost: host.to_owned(),
        name: name.to_owned(),
        pattern: body.text("pattern")?.unwrap_or_default().to_owned(),
        apply_to: ApplyTo::named(apply_to).ok_or_else(unknown)?,
        definition: body.object("definition")?,
        priority: body.number("priority")?.unwrap_or_default(),
    };
    check_policy(rank, &policy)?;
    Ok(policy)
}

async fn list(desk: &Desk, who: &Who, ask: &Ask, rank: Rank, host: Option<&str>) -> Answer {
    let all = desk.catalog.policies(rank);
    let seen = all.iter().filter(|it| host.is_none_or(|host| host == it.vhost) && who.sees(&it.vhost));
    ask.apply(seen.map(show).collect()).map(Json)
}

async fn one(desk: &Desk, who: &Who, rank: Rank, host: &str, name: &str) -> Answer {
    who.see(desk, host)?;
    let found = desk.catalog.policies(rank).into_iter().find(|it| it.vhost == host && it.name == name);
    found.map(|it| Json(show(&it))).ok_or_else(Failure::not_found)
}

async fn set(desk: &Desk, who: &Who, rank: Rank, host: &str, name: &str, body: &Object) -> Done {
    who.enter(desk, host)?;
    let policy = policy_of(rank, host, name, body)?;
    Ok(created(desk.catalog.put_policy(&who.broker, rank, policy).await?))
}

async fn clear(desk: &Desk, who: &Who, rank: Rank, host: &str, name: &str) -> Done {
    who.enter(desk, host)?;
    gone(desk.catalog.delete_policy(&who.broker, rank, host, name).await?)
}

pub(super) async fn policies(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    list(&desk, &who, &ask, Rank::User, None).await
}

pub(super) async fn policies_of(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
) -> Answer {
    who.see(&desk, &host)?;
    list(&desk, &who, &ask, Rank::User, Some(&host)).await
}

pub(super) async fn policy(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
) -> Answer {
    one(&desk, &who, Rank::User, &host, &name).await
}

pub(super) async fn put_policy(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
    body: Object,
) -> Done {
    who.require_policymaker()?;
    set(&desk, &who, Rank::User, &host, &name, &body).await
}

pub(super) async fn delete_policy(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
) -> Done {
    who.require_policymaker()?;
    clear(&desk, &who, Rank::User, &host, &name).await
}

pub(super) async fn operator_policies(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    list(&desk, &who, &ask, Rank::Operator, None).await
}

pub(super) async fn operator_policies_of(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
) -> Answer {
    who.see(&desk, &host)?;
    list(&desk, &who, &ask, Rank::Operator, Some(&host)).await
}

pub(super) async fn operator_policy(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
) -> Answer {
    one(&desk, &who, Rank::Operator, &host, &name).await
}

pub(super) async fn put_operator_policy(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
    body: Object,
) -> Done {
    who.require_administrator()?;
    set(&desk, &who, Rank::Operator, &host, &name, &body).await
}

pub(super) async fn delete_operator_policy(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
) -> Done {
    who.require_administrator()?;
    clear(&desk, &who, Rank::Operator, &host, &name).await
}

/// A parameter as the API and definitions show it.
pub(super) fn show_parameter(it: &Parameter) -> Value {
    json!({"vhost": it.vhost, "component": it.component, "name": it.name, "value": it.value})
}

/// An operator's policy as a parameter, which is how definitions carry it.
pub(super) fn as_parameter(it: &Policy) -> Value {
    let value = json!({
        "pattern": it.pattern,
        "definition": it.definition,
        "priority": it.priority,
        "apply-to": it.apply_to.as_str(),
    });
    json!({"vhost": it.vhost, "component": OPERATOR_COMPONENT, "name": it.name, "value": value})
}

fn all_parameters(desk: &Desk) -> Vec<Value> {
    let operator = desk.catalog.policies(Rank::Operator);
    let kept = desk.catalog.parameters();
    operator.iter().map(as_parameter).chain(kept.iter().map(show_parameter)).collect()
}

fn chosen(desk: &Desk, who: &Who, ask: &Ask, component: Option<&str>, host: Option<&str>) -> Answer {
    who.require_policymaker()?;
    let is_meant = |item: &Value| {
        component.is_none_or(|wanted| item["component"] == wanted)
            && host.is_none_or(|wanted| item["vhost"] == wanted)
            && who.sees(item["vhost"].as_str().unwrap_or_default())
    };
    ask.apply(all_parameters(desk).into_iter().filter(is_meant).collect()).map(Json)
}

pub(super) async fn parameters(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    chosen(&desk, &who, &ask, None, None)
}

pub(super) async fn parameters_of(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(component): Path<String>,
) -> Answer {
    chosen(&desk, &who, &ask, Some(&component), None)
}

pub(super) async fn parameters_in(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path((component, host)): Path<(String, String)>,
) -> Answer {
    who.see(&desk, &host)?;
    chosen(&desk, &who, &ask, Some(&component), Some(&host))
}

pub(super) async fn parameter(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((component, host, name)): Path<(String, String, String)>,
) -> Answer {
    who.require_policymaker()?;
    who.see(&desk, &host)?;
    let is_it =
        |item: &Value| item["component"] == *component && item["vhost"] == *host && item["name"] == *name;
    all_parameters(&desk).into_iter().find(is_it).map(Json).ok_or_else(Failure::not_found)
}

pub(super) async fn put_parameter(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((component, host, name)): Path<(String, String, String)>,
    body: Object,
) -> Done {
    who.require_policymaker()?;
    who.enter(&desk, &host)?;
    body.require(&["value"])?;
    if component == OPERATOR_COMPONENT {
        who.require_administrator()?;
        let body = Object(body.object("value")?);
        return set(&desk, &who, Rank::Operator, &host, &name, &body).await;
    }
    let value = body.0.get("value").cloned().unwrap_or_default();
    let parameter = Parameter { vhost: host, component, name, value };
    Ok(created(desk.catalog.put_parameter(&who.broker, parameter).await?))
}

pub(super) async fn delete_parameter(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((component, host, name)): Path<(String, String, String)>,
) -> Done {
    who.require_policymaker()?;
    if component == OPERATOR_COMPONENT {
        who.require_administrator()?;
        return clear(&desk, &who, Rank::Operator, &host, &name).await;
    }
    who.enter(&desk, &host)?;
    gone(desk.catalog.delete_parameter(&who.broker, &host, &component, &name).await?)
}

/// A parameter of the whole server as the API and definitions show it.
pub(super) fn show_global(it: &GlobalParameter) -> Value {
    json!({"name": it.name, "value": it.value})
}

pub(super) async fn globals(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    who.require_policymaker()?;
    ask.apply(desk.catalog.global_parameters().iter().map(show_global).collect()).map(Json)
}

pub(super) async fn global(State(desk): State<Arc<Desk>>, who: Who, Path(name): Path<String>) -> Answer {
    who.require_policymaker()?;
    let found = desk.catalog.global_parameters().into_iter().find(|it| it.name == name);
    found.map(|it| Json(show_global(&it))).ok_or_else(Failure::not_found)
}

pub(super) async fn put_global(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(name): Path<String>,
    body: Object,
) -> Done {
    who.require_administrator()?;
    body.require(&["value"])?;
    let value = body.0.get("value").cloned().unwrap_or_default();
    Ok(created(desk.catalog.put_global(&who.broker, GlobalParameter { name, value }).await?))
}

pub(super) async fn delete_global(State(desk): State<Arc<Desk>>, who: Who, Path(name): Path<String>) -> Done {
    who.require_administrator()?;
    gone(desk.catalog.delete_global(&who.broker, &name).await?)
}
