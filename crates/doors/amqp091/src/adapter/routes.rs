//! How are exchanges declared, deleted and bound, and which stand in every virtual host?

use smol_str::SmolStr;
use waystation_base::value::Value;
use waystation_broker::{
    Command, Kind, Refusal,
    command::{Bind, Counted, Delete, Destination},
    spec::{RouteKind, RouteSpec, Spec},
    view::RouteInfo,
};

use super::{
    connection::Context,
    outcome::failure,
    queues::{self, Found, RESERVED, cleaned},
};
use crate::{
    directory::Action,
    mapping::{ExchangeAsk, check_same_exchange, route_spec, to_json},
    session::{Answer, Failure, REPLY_TO, Resource},
    wire::{
        Method, ReplyCode, Table,
        methods::{exchange, queue},
    },
};

/// The exchanges that every virtual host has (AMQP 0-9-1 §3.1.3, and RabbitMQ's own).
const STANDING: &[(&str, RouteKind, bool)] = &[
    ("amq.direct", RouteKind::Direct, false),
    ("amq.fanout", RouteKind::Fanout, false),
    ("amq.topic", RouteKind::Topic, false),
    ("amq.headers", RouteKind::Headers, false),
    ("amq.match", RouteKind::Headers, false),
    ("amq.rabbitmq.trace", RouteKind::Topic, true),
];
/// What `x-match` of a binding may say.
const MATCHES: &[&str] = &["all", "any", "all-with-x", "any-with-x"];

/// Opens a virtual host: it is there, the user may, and its standing exchanges are there.
pub(super) async fn enter(context: &Context) -> Result<(), Failure> {
    let (vhost, user) = (&context.vhost, context.account.name());
    if !context.door.directory.has_vhost(vhost) {
        return Err(Failure::not_allowed(format!("vhost {vhost} not found")));
    }
    if !context.account.may_enter(vhost) {
        return Err(Failure::not_allowed(format!("access to vhost '{vhost}' refused for user '{user}'")));
    }
    if context.door.knows_vhost(vhost) {
        return Ok(());
    }
    for (name, kind, internal) in STANDING {
        let spec = RouteSpec { internal: *internal, ..RouteSpec::new(*kind) };
        let declared = context.broker.declare(context.name(name)?, Spec::Route(spec), false, context.session);
        match declared.await {
            Ok(_) | Err(Refusal::Exists { .. }) => {}
            Err(refusal) => return Err(failure(&refusal, vhost)),
        }
    }
    context.door.note_vhost(vhost);
    Ok(())
}

/// An exchange as it is now.
async fn find(context: &Context, name: &str) -> Result<Option<RouteInfo>, Failure> {
    let Ok(name) = context.name(name) else { return Ok(None) };
    let found = context.door.broker.query(move |view| view.route(&name)).await;
    found.map_err(|refusal| failure(&refusal, &context.vhost))
}

fn check_not_default(name: &str) -> Result<(), Failure> {
    match name {
        "" => Err(Failure::access("operation not permitted on the default exchange")),
        _ => Ok(()),
    }
}

/// `exchange.declare`.
pub(super) async fn declare(context: &Context, declare: &exchange::Declare) -> Result<Answer, Failure> {
    let name = cleaned(&declare.exchange);
    let exchange = context.exchange(&name);
    let ok = Answer::Done(Method::ExchangeDeclareOk(exchange::DeclareOk {}));
    if declare.passive {
        // No permission is asked for, as with a queue.
        check_not_default(&name)?;
        return match find(context, &name).await? {
            Some(_) => Ok(ok),
            None => Err(Failure::not_found(&exchange)),
        };
    }
    let ask = ExchangeAsk {
        vhost: &context.vhost,
        name: &name,
        kind: &declare.kind,
        durable: declare.durable,
        auto_delete: declare.auto_delete,
        internal: declare.internal,
        arguments: &declare.arguments,
    };
    let spec = route_spec(&ask)?;
    check_not_default(&name)?;
    context.require(Action::Configure, &exchange)?;
    if let Some(current) = find(context, &name).await? {
        check_same_exchange(&ask, &current.spec)?;
        return Ok(ok);
    }
    if name.starts_with(RESERVED) {
        return Err(Failure::access(format!("exchange name '{name}' contains reserved prefix 'amq.*'")));
    }
    if let Some(alternate) = declare.arguments.get("alternate-exchange").and_then(Value::as_str) {
        context.require(Action::Read, &exchange)?;
        context.require(Action::Write, &context.exchange(alternate))?;
    }
    match context.broker.declare(context.name(&name)?, Spec::Route(spec), false, context.session).await {
        Ok(_) => Ok(ok),
        // Somebody was faster.
        Err(refusal @ Refusal::Exists { .. }) => {
            // None: the name is one of a route with steps.
            let current = find(context, &name).await?.ok_or_else(|| failure(&refusal, &context.vhost))?;
            check_same_exchange(&ask, &current.spec)?;
            Ok(ok)
        }
        Err(refusal) => Err(failure(&refusal, &context.vhost)),
    }
}

/// `exchange.delete`. Deleting what is not there is no error.
pub(super) async fn delete(context: &Context, delete: &exchange::Delete) -> Result<Answer, Failure> {
    let name = cleaned(&delete.exchange);
    let exchange = context.exchange(&name);
    check_not_default(&name)?;
    if name.starts_with(RESERVED) {
        return Err(Failure::access(format!("deletion of system {exchange} not allowed")));
    }
    context.require(Action::Configure, &exchange)?;
    let asked = Delete {
        kind: Kind::Route,
        name: context.name(&name)?,
        if_unused: delete.if_unused,
        if_empty: false,
        counted: Counted::All,
        session: context.session,
    };
    match context.broker.delete(asked).await {
        Ok(_) | Err(Refusal::NotFound { .. }) => {
            Ok(Answer::Done(Method::ExchangeDeleteOk(exchange::DeleteOk {})))
        }
        Err(refusal) => Err(failure(&refusal, &context.vhost)),
    }
}

/// A binding to be made or taken away.
struct Binding<'a> {
    source: SmolStr,
    destination: Resource,
    key: SmolStr,
    arguments: &'a Table,
    is_new: bool,
}

async fn bind(context: &Context, binding: Binding<'_>) -> Result<(), Failure> {
    let Binding { source, destination, key, arguments, is_new } = binding;
    let is_queue = destination.kind == "queue";
    if is_queue && destination.name.starts_with(REPLY_TO) {
        let text = "cannot bind or unbind to a volatile (direct reply-to) queue";
        return Err(Failure::access(text));
    }
    context.require(Action::Write, &destination)?;
    if !is_queue {
        check_not_default(&destination.name)?;
    }
    check_not_default(&source)?;
    let exchange = context.exchange(&source);
    context.require(Action::Read, &exchange)?;
    let route = match find(context, &source).await? {
        Some(route) => route,
        // What is not there is bound to nothing.
        None if !is_new => return Ok(()),
        None => return Err(Failure::not_found(&exchange)),
    };
    check_topic(context, &route, &exchange, &key)?;
    let name = context.name(&destination.name)?;
    let is_there = if is_queue {
        let found = queues::find(context, &name).await?;
        if let Found::Queue(info) = &found {
            queues::check_owner(context, info, &destination)?;
        }
        !matches!(found, Found::Nothing)
    } else {
        find(context, &destination.name).await?.is_some()
    };
    if !is_there {
        return if is_new { Err(Failure::not_found(&destination)) } else { Ok(()) };
    }
    let to = if is_queue { Destination::Address(name) } else { Destination::Route(name) };
    if is_new && route.spec.kind == RouteKind::Headers {
        check_match(arguments)?;
    }
    let bind = Bind { route: route.name, to, key, arguments: to_json(arguments) };
    let command = if is_new { Command::Bind(bind) } else { Command::Unbind(bind) };
    match queues::command(context, command).await {
        // It has gone meanwhile.
        Err(failure) if !is_new && failure.code == ReplyCode::NotFound => Ok(()),
        answered => answered.map(|_| ()),
    }
}

fn check_topic(context: &Context, route: &RouteInfo, exchange: &Resource, key: &str) -> Result<(), Failure> {
    let is_topic = route.spec.kind == RouteKind::Topic;
    if !is_topic || context.account.may_topic(Action::Read, &context.vhost, &exchange.name, key) {
        return Ok(());
    }
    let user = context.account.name();
    Err(Failure::access(format!(
        "read access to topic '{key}' in exchange {exchange} refused for user '{user}'"
    )))
}

fn check_match(arguments: &Table) -> Result<(), Failure> {
    match arguments.get("x-match") {
        None => Ok(()),
        Some(Value::String(text)) if MATCHES.contains(&text.as_str()) => Ok(()),
        Some(Value::String(text)) => Err(Failure::precondition(format!(
            "Invalid x-match field value \"{text}\"; expected all, any, all-with-x, or any-with-x"
        ))),
        Some(_) => Err(Failure::precondition("Invalid x-match field type; expected longstr")),
    }
}

/// `queue.bind`.
pub(super) async fn bind_queue(context: &Context, asked: queue::Bind) -> Result<Answer, Failure> {
    let destination = context.queue(&cleaned(&asked.queue));
    let (source, arguments) = (cleaned(&asked.exchange), &asked.arguments);
    bind(context, Binding { source, destination, key: asked.routing_key, arguments, is_new: true }).await?;
    Ok(Answer::Done(Method::QueueBindOk(queue::BindOk {})))
}

/// `queue.unbind`.
pub(super) async fn unbind_queue(context: &Context, asked: queue::Unbind) -> Result<Answer, Failure> {
    let destination = context.queue(&cleaned(&asked.queue));
    let (source, arguments) = (cleaned(&asked.exchange), &asked.arguments);
    bind(context, Binding { source, destination, key: asked.routing_key, arguments, is_new: false }).await?;
    Ok(Answer::Done(Method::QueueUnbindOk(queue::UnbindOk {})))
}

/// `exchange.bind`.
pub(super) async fn bind_exchange(context: &Context, asked: exchange::Bind) -> Result<Answer, Failure> {
    let destination = context.exchange(&cleaned(&asked.destination));
    let (source, arguments) = (cleaned(&asked.source), &asked.arguments);
    bind(context, Binding { source, destination, key: asked.routing_key, arguments, is_new: true }).await?;
    Ok(Answer::Done(Method::ExchangeBindOk(exchange::BindOk {})))
}

/// `exchange.unbind`.
pub(super) async fn unbind_exchange(context: &Context, asked: exchange::Unbind) -> Result<Answer, Failure> {
    let destination = context.exchange(&cleaned(&asked.destination));
    let (source, arguments) = (cleaned(&asked.source), &asked.arguments);
    bind(context, Binding { source, destination, key: asked.routing_key, arguments, is_new: false }).await?;
    Ok(Answer::Done(Method::ExchangeUnbindOk(exchange::UnbindOk {})))
}
