//! Is what a client declares the same as what is there? If not, what differs, in RabbitMQ's words.

use waystation_base::{value::Value, vhost};
use waystation_broker::spec::{Arguments, RouteSpec, Spec};
use waystation_catalog::terms::queue_type;

use super::{
    ExchangeAsk, Invalid, QueueAsk,
    exchange::exchange_type,
    queue::arguments_of,
    types::{from_json, printed, type_name},
};
use crate::wire::Table;

/// Compares a declared queue with the one that is there. Who owns it is for the caller to check.
pub fn check_same_queue(ask: &QueueAsk<'_>, current: &Spec) -> Result<(), Invalid> {
    let resource = format!("queue '{}' in vhost '{}'", ask.name, ask.vhost);
    let (durable, auto_delete, arguments) = match current {
        Spec::Queue(spec) => (spec.durable, spec.auto_delete, &spec.arguments),
        Spec::Topic(spec) => (true, false, &spec.arguments),
        // Neither lives among the queues.
        Spec::Subscription(_) | Spec::Route(_) => return Ok(()),
    };
    check_flag(&resource, "durable", ask.durable, durable)?;
    check_flag(&resource, "auto_delete", ask.auto_delete, auto_delete)?;
    let mut current_arguments = from_json(arguments);
    if matches!(current, Spec::Topic(_)) && current_arguments.get("x-queue-type").is_none() {
        // A topic that another door made.
        current_arguments.0.push(("x-queue-type".into(), Value::from("stream")));
    }
    let keys = arguments_of(queue_type(current));
    keys.iter().try_for_each(|key| check_argument(&resource, key, ask.arguments, &current_arguments))
}

/// Compares a declared exchange with the one that is there.
pub fn check_same_exchange(ask: &ExchangeAsk<'_>, current: &RouteSpec) -> Result<(), Invalid> {
    let resource = format!("exchange '{}' in vhost '{}'", ask.name, ask.vhost);
    let kind = exchange_type(current);
    if ask.kind != kind {
        return Err(differs(&resource, "type", &format!("'{}'", ask.kind), &format!("'{kind}'")));
    }
    check_flag(&resource, "durable", ask.durable, current.durable)?;
    check_flag(&resource, "auto_delete", ask.auto_delete, current.auto_delete)?;
    check_flag(&resource, "internal", ask.internal, current.internal)?;
    // What a policy laid over it is not part of the declaration.
    let is_asked = ask.arguments.get("alternate-exchange").is_some();
    let current_arguments =
        if is_asked { from_json(&alternate_of(current)) } else { from_json(&current.arguments) };
    check_argument(&resource, "alternate-exchange", ask.arguments, &current_arguments)
}

/// The alternate exchange as an argument, also of a route that another door made.
fn alternate_of(spec: &RouteSpec) -> Arguments {
    let mut arguments = spec.arguments.clone();
    if let Some(alternate) = &spec.alternate {
        arguments.entry("alternate-exchange").or_insert_with(|| vhost::split(alternate).1.into());
    }
    arguments
}

fn check_flag(resource: &str, key: &str, asked: bool, current: bool) -> Result<(), Invalid> {
    if asked == current {
        return Ok(());
    }
    Err(differs(resource, key, &format!("'{asked}'"), &format!("'{current}'")))
}

/// Whole numbers are the same whatever their width; a classic queue need not say that it is one.
fn check_argument(resource: &str, key: &str, asked: &Table, current: &Table) -> Result<(), Invalid> {
    let says_classic = |value: &&Value| key != "x-queue-type" || value.as_str() != Some("classic");
    let (asked, current) = (asked.get(key).filter(says_classic), current.get(key).filter(says_classic));
    let (asked, current) = match (asked, current) {
        (Some(asked), Some(current)) if is_same(asked, current) => return Ok(()),
        (Some(asked), Some(current)) => (format!("'{}'", printed(asked)), format!("'{}'", printed(current))),
        (None, None) => return Ok(()),
        (asked, current) => (with_type(asked), with_type(current)),
    };
    Err(differs(resource, key, &asked, &current))
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a == b,
        // What is kept is JSON, which knows one float.
        _ => super::types::json(a) == super::types::json(b),
    }
}

fn with_type(value: Option<&Value>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| format!("the value '{}' of type '{}'", printed(value), type_name(value)),
    )
}

fn differs(resource: &str, key: &str, asked: &str, current: &str) -> Invalid {
    let text = format!("inequivalent arg '{key}' for {resource}: received {asked} but current is {current}");
    Invalid::precondition(text)
}
