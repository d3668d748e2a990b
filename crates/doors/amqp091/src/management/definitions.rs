//! Everything that is defined, as one document: written for the whole server or one virtual host, and read again.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use waystation_broker::view::{Binding, BindingFilter};
use waystation_catalog::{Rank, Vhost};

use super::{
    desk::{Desk, Object, Who},
    failure::Failure,
    gather::{self, Found},
    import, limits,
    list::Ask,
    overview::COMPATIBLE,
    policies, show, users,
};

type Answer = Result<Json<Value>, Failure>;

/// Drops the virtual host from an object of definitions that are about one only.
fn place(mut item: Value, keep: bool) -> Value {
    if let (Value::Object(map), false) = (&mut item, keep) {
        map.remove("vhost");
    }
    item
}

async fn queues(who: &Who, host: Option<&str>) -> Result<Vec<Value>, Failure> {
    let found = gather::queues(&who.broker, host).await?;
    let show = |found: &Found| {
        let (vhost, name) = waystation_base::vhost::split(found.name().as_str());
        let (durable, auto_delete, arguments) = match found {
            // It goes with its connection: nobody else can make it.
            Found::Queue(info) if info.spec.exclusive => return None,
            Found::Queue(info) => {
                (info.spec.durable, info.spec.auto_delete, show::arguments(&info.spec.arguments))
            }
            Found::Stream(info) => {
                let mut arguments = show::arguments(&info.spec.arguments);
                arguments.entry("x-queue-type").or_insert_with(|| "stream".into());
                (true, false, arguments)
            }
        };
        let item = json!({
            "name": name, "vhost": vhost, "durable": durable, "auto_delete": auto_delete, "arguments": arguments
        });
        Some(place(item, host.is_none()))
    };
    Ok(found.iter().filter_map(show).collect())
}

async fn exchanges(who: &Who, host: Option<&str>) -> Result<Vec<Value>, Failure> {
    let found = gather::exchanges(&who.broker, host).await?;
    let show = |info: &waystation_broker::view::RouteInfo| {
        let (vhost, name) = waystation_base::vhost::split(info.name.as_str());
        let mut item = show::plain_exchange(&vhost, &name, &info.spec);
        if let Value::Object(map) = &mut item {
            map.remove("user_who_performed_action");
        }
        (!name.starts_with("amq.")).then(|| place(item, host.is_none()))
    };
    Ok(found.iter().filter_map(show).collect())
}

async fn bindings(who: &Who, host: Option<&str>) -> Result<Vec<Value>, Failure> {
    let made = who.broker.bindings(BindingFilter::All).await?;
    let of = |it: &&Binding| host.is_none_or(|host| waystation_base::vhost::of(it.route.as_str()) == host);
    let show = |it: &Binding| {
        let mut item = show::binding(it);
        if let Value::Object(map) = &mut item {
            map.remove("properties_key");
        }
        place(item, host.is_none())
    };
    Ok(made.iter().filter(of).map(show).collect())
}

fn vhost(it: &Vhost) -> Value {
    let mut item = json!({"name": it.name, "description": it.description, "tags": it.tags});
    item["metadata"] = json!({"description": it.description, "tags": it.tags});
    if let Some(kind) = &it.default_queue_type {
        item["default_queue_type"] = kind.as_str().into();
        item["metadata"]["default_queue_type"] = kind.as_str().into();
    }
    item
}

/// Policies and parameters of one virtual host or of all.
fn records(desk: &Desk, host: Option<&str>) -> (Vec<Value>, Vec<Value>) {
    let is_meant = |at: &str| host.is_none_or(|host| host == at);
    let of_users = desk.catalog.policies(Rank::User);
    let set = of_users.iter().filter(|it| is_meant(&it.vhost)).map(policies::show).collect();
    let operators = desk.catalog.policies(Rank::Operator);
    let kept = desk.catalog.parameters();
    let parameters = operators.iter().filter(|it| is_meant(&it.vhost)).map(policies::as_parameter);
    let parameters =
        parameters.chain(kept.iter().filter(|it| is_meant(&it.vhost)).map(policies::show_parameter));
    let hosts = desk.catalog.vhosts();
    let limits = hosts.iter().filter(|it| is_meant(&it.name)).filter_map(limits::as_parameter);
    (set, parameters.chain(limits).collect())
}

/// Everything that is defined, or what is in one virtual host.
pub(super) async fn document(desk: &Desk, who: &Who, host: Option<&str>) -> Result<Value, Failure> {
    who.require_administrator()?;
    match host {
        None => everything(desk, who).await,
        Some(host) => {
            who.see(desk, host)?;
            within(desk, who, host).await
        }
    }
}

async fn everything(desk: &Desk, who: &Who) -> Result<Value, Failure> {
    let access = desk.access();
    let (policies, parameters) = records(desk, None);
    Ok(json!({
        "rabbit_version": COMPATIBLE,
        "rabbitmq_version": COMPATIBLE,
        "product_name": "Waystation",
        "product_version": desk.version,
        "users": access.users().iter().map(users::show).collect::<Vec<_>>(),
        "vhosts": desk.catalog.vhosts().iter().map(vhost).collect::<Vec<_>>(),
        "permissions": access.permissions().iter().map(users::show_permission).collect::<Vec<_>>(),
        "topic_permissions": access.topic_permissions().iter().map(users::show_topic).collect::<Vec<_>>(),
        "parameters": parameters,
        "global_parameters": desk.catalog.global_parameters().iter().map(policies::show_global).collect::<Vec<_>>(),
        "policies": policies,
        "queues": queues(who, None).await?,
        "exchanges": exchanges(who, None).await?,
        "bindings": bindings(who, None).await?,
    }))
}

async fn within(desk: &Desk, who: &Who, host: &str) -> Result<Value, Failure> {
    let (policies, parameters) = records(desk, Some(host));
    Ok(json!({
        "rabbit_version": COMPATIBLE,
        "parameters": parameters,
        "policies": policies,
        "queues": queues(who, Some(host)).await?,
        "exchanges": exchanges(who, Some(host)).await?,
        "bindings": bindings(who, Some(host)).await?,
    }))
}

pub(super) async fn export(State(desk): State<Arc<Desk>>, who: Who) -> Answer {
    document(&desk, &who, None).await.map(Json)
}

pub(super) async fn export_of(State(desk): State<Arc<Desk>>, who: Who, Path(host): Path<String>) -> Answer {
    document(&desk, &who, Some(&host)).await.map(Json)
}

/// Makes what definitions describe, unless it is only asked what that would do; says what was to be done.
pub(super) async fn import(
    desk: &Desk,
    who: &Who,
    body: &Object,
    host: Option<&str>,
    dry_run: bool,
) -> Result<Value, Failure> {
    who.require_administrator()?;
    let plan = import::plan(desk, who, body, host).await?;
    let shown = plan.show();
    if !dry_run {
        plan.carry_out(desk, who).await?;
    }
    Ok(shown)
}

async fn answer(
    desk: &Desk,
    who: &Who,
    ask: &Ask,
    body: &Object,
    host: Option<&str>,
) -> Result<Response, Failure> {
    let dry_run = ask.is_true("dry_run");
    let plan = import(desk, who, body, host, dry_run).await?;
    Ok(if dry_run { Json(plan).into_response() } else { StatusCode::NO_CONTENT.into_response() })
}

pub(super) async fn import_all(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    body: Object,
) -> Result<Response, Failure> {
    answer(&desk, &who, &ask, &body, None).await
}

pub(super) async fn import_into(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
    body: Object,
) -> Result<Response, Failure> {
    who.see(&desk, &host)?;
    answer(&desk, &who, &ask, &body, Some(&host)).await
}
