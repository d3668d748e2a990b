//! What does a queue or exchange become under a policy? Pure.

use serde_json::{Map, Value, json};
use waystation_base::vhost;
use waystation_broker::spec::{
    BusinessKeys, Overflow, QueueSpec, RouteSpec, TopicSpec, business::BUSINESS_KEYS_MAX,
};

use super::definition::{BUSINESS_KEYS, NARROWING, business_keys};
use crate::terms::{age_ms, set_dead_letter, set_overflow};

/// A policy and an operator's policy together: of what both set, the narrower counts.
pub(super) fn merge(
    user: Option<&Map<String, Value>>,
    operator: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let mut merged = user.cloned().unwrap_or_default();
    for (name, value) in operator.into_iter().flatten() {
        let narrower = |old: &Value| match (old.as_u64(), value.as_u64()) {
            (Some(old), Some(new)) if NARROWING.contains(&name.as_str()) => json!(old.min(new)),
            _ => value.clone(),
        };
        let value = merged.get(name).map_or_else(|| value.clone(), narrower);
        merged.insert(name.clone(), value);
    }
    merged
}

/// The smaller of what was declared and what the policy says.
fn least(declared: Option<u64>, policy: Option<u64>) -> Option<u64> {
    match (declared, policy) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn number(definition: &Map<String, Value>, name: &str) -> Option<u64> {
    definition.get(name).and_then(Value::as_u64)
}

fn text<'a>(definition: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    definition.get(name).and_then(Value::as_str)
}

/// The queue under a definition; one that says nothing gives what was declared.
pub(super) fn queue(host: &str, name: &str, spec: QueueSpec, definition: &Map<String, Value>) -> QueueSpec {
    let declared = spec.declared();
    let mut spec = declared.clone();
    spec.ttl_ms = least(declared.ttl_ms, number(definition, "message-ttl"));
    spec.idle_expiry_ms = least(declared.idle_expiry_ms, number(definition, "expires"));
    spec.max_messages = least(declared.max_messages, number(definition, "max-length"));
    spec.max_bytes = least(declared.max_bytes, number(definition, "max-length-bytes"));
    let attempts = number(definition, "delivery-limit").map(|count| count.saturating_add(1));
    spec.max_attempts =
        least(declared.max_attempts.map(u64::from), attempts).map(|count| count.min(u32::MAX.into()) as u32);
    if !declared.has_dead_letters() {
        let exchange = text(definition, "dead-letter-exchange");
        set_dead_letter(&mut spec, host, name, exchange, text(definition, "dead-letter-routing-key"));
    } else if declared.dead_letter_route.is_some() && declared.dead_letter_key.is_none() {
        spec.dead_letter_key = text(definition, "dead-letter-routing-key").map(str::to_owned);
    }
    settle_overflow(&declared, &mut spec, text(definition, "overflow"));
    spec.business = business(declared.business.clone(), definition);
    spec.over(&declared)
}

/// What was declared goes before the policy; past the bound for both the policy's last by name are left out.
fn business(
    declared: Option<Box<BusinessKeys>>,
    definition: &Map<String, Value>,
) -> Option<Box<BusinessKeys>> {
    let policy = definition.get(BUSINESS_KEYS).and_then(|keys| business_keys(keys).ok());
    let Some(policy) = policy.filter(|keys| !keys.is_empty()) else { return declared };
    let mut keys = declared.unwrap_or_default();
    let room = BUSINESS_KEYS_MAX.saturating_sub(keys.len());
    let more: Vec<_> = policy.into_iter().filter(|(name, _)| !keys.contains_key(name)).take(room).collect();
    keys.extend(more);
    Some(keys)
}

/// An argument goes before the policy. A queue whose limit comes from another door keeps what that door said of it.
fn settle_overflow(declared: &QueueSpec, spec: &mut QueueSpec, policy: Option<&str>) {
    let argument = declared.arguments.get("x-overflow").and_then(Value::as_str).map(str::to_owned);
    let is_foreign = (declared.max_messages.is_some() || declared.max_bytes.is_some())
        && !declared.arguments.contains_key("x-max-length")
        && !declared.arguments.contains_key("x-max-length-bytes");
    if is_foreign && policy.is_none() {
        return;
    }
    spec.overflow = Overflow::default();
    set_overflow(spec, argument.as_deref().or(policy));
}

/// The stream under a definition.
pub(super) fn topic(spec: TopicSpec, definition: &Map<String, Value>) -> TopicSpec {
    let declared = spec.declared();
    let mut spec = declared.clone();
    spec.retention_ms = declared.retention_ms.or(text(definition, "max-age").and_then(age_ms));
    spec.retention_bytes =
        declared.retention_bytes.or(number(definition, "max-length-bytes").map(|bytes| bytes.max(1)));
    spec.business = business(declared.business.clone(), definition);
    spec.over(&declared)
}

/// The exchange under a definition.
pub(super) fn route(host: &str, spec: RouteSpec, definition: &Map<String, Value>) -> RouteSpec {
    let declared = spec.declared();
    let mut spec = declared.clone();
    let alternate = text(definition, "alternate-exchange").filter(|name| !name.is_empty());
    spec.alternate = declared.alternate.clone().or(alternate.map(|name| vhost::join(host, name)));
    spec.business = business(declared.business.clone(), definition);
    spec.over(&declared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("an object") };
        map
    }

    #[test]
    fn the_narrower_of_argument_and_policy_counts_and_goes_with_the_policy() {
        let declared =
            QueueSpec { max_messages: Some(10), overflow: Overflow::DropHead, ..QueueSpec::default() };
        let policy = definition(json!({"max-length": 100, "message-ttl": 0, "dead-letter-exchange": "dlx"}));
        let under = queue("v", "q", declared.clone(), &policy);
        assert_eq!((under.max_messages, under.ttl_ms), (Some(10), Some(0)));
        assert_eq!(under.dead_letter_route.as_deref(), Some("v::dlx"));
        let narrower = queue("v", "q", under, &definition(json!({"max-length": 5})));
        assert_eq!(
            (narrower.max_messages, narrower.ttl_ms, &narrower.dead_letter_route),
            (Some(5), None, &None)
        );
        assert_eq!(queue("v", "q", narrower, &Map::new()), declared);
    }

    #[test]
    fn a_limit_by_policy_drops_the_oldest_unless_it_says_otherwise() {
        let check = |policy: Value, expected| {
            let under = queue("/", "q", QueueSpec::default(), &definition(policy));
            assert_eq!(under.overflow, expected);
            assert_eq!(waystation_broker::spec::Spec::Queue(under).check(), Ok(()));
        };
        check(json!({"max-length": 5}), Overflow::DropHead);
        check(json!({"max-length": 5, "dead-letter-exchange": "x"}), Overflow::DeadLetterHead);
        check(json!({"max-length": 5, "overflow": "reject-publish"}), Overflow::RejectPublish);
        check(json!({"overflow": "reject-publish"}), Overflow::RejectPublish);
    }

    #[test]
    fn a_limit_that_another_door_set_keeps_its_meaning() {
        let declared = QueueSpec { max_messages: Some(10), ..QueueSpec::default() };
        let under = queue("/", "q", declared, &definition(json!({"max-length": 5})));
        assert_eq!((under.max_messages, under.overflow), (Some(5), Overflow::RejectPublish));
    }

    #[test]
    fn an_operator_narrows_and_never_widens() {
        let user = definition(json!({"max-length": 5, "message-ttl": 60}));
        let operator = definition(json!({"max-length": 100, "message-ttl": 10, "expires": 7}));
        let merged = merge(Some(&user), Some(&operator));
        assert_eq!(Value::Object(merged), json!({"max-length": 5, "message-ttl": 10, "expires": 7}));
    }

    #[test]
    fn streams_and_exchanges_come_back_too() {
        let policy = definition(json!({"max-age": "1D", "alternate-exchange": "lost"}));
        let stream = topic(TopicSpec::default(), &policy);
        assert_eq!(stream.retention_ms, Some(86_400_000));
        assert_eq!(topic(stream, &Map::new()), TopicSpec::default());
        let exchange = route("v", RouteSpec::default(), &policy);
        assert_eq!(exchange.alternate.as_deref(), Some("v::lost"));
        assert_eq!(route("v", exchange, &Map::new()), RouteSpec::default());
    }

    #[test]
    fn business_keys_of_a_policy_come_after_those_declared_and_go_with_it() {
        let keys = |value: Value| business_keys(&value).expect("keys");
        let policy =
            definition(json!({"business-keys": {"order": {"jq": ".id"}, "shop": {"header": "x-shop"}}}));
        let declared = Some(Box::new(keys(json!({"order": {"jq": ".order.id"}}))));
        let both = keys(json!({"order": {"jq": ".order.id"}, "shop": {"header": "x-shop"}}));
        let exchange = RouteSpec { business: declared.clone(), ..RouteSpec::default() };
        let under = route("/", exchange.clone(), &policy);
        assert_eq!(under.business.as_deref(), Some(&both));
        assert_eq!(route("/", under, &Map::new()), exchange);
        let stream = topic(TopicSpec { business: declared.clone(), ..TopicSpec::default() }, &policy);
        let queue = queue("/", "q", QueueSpec { business: declared, ..QueueSpec::default() }, &policy);
        assert_eq!((stream.business.as_deref(), queue.business.as_deref()), (Some(&both), Some(&both)));

        let many = |first: usize, count: usize| -> Value {
            (first..first + count)
                .map(|n| (format!("k{n:02}"), json!({"header": "x"})))
                .collect::<Map<_, _>>()
                .into()
        };
        let full = definition(json!({"business-keys": many(0, BUSINESS_KEYS_MAX)}));
        let declared = Some(Box::new(keys(many(50, 1))));
        let under = route("/", RouteSpec { business: declared, ..RouteSpec::default() }, &full);
        let business = under.business.as_deref().expect("keys");
        assert_eq!(business.len(), BUSINESS_KEYS_MAX);
        assert!(
            business.contains_key("k50") && business.contains_key("k14") && !business.contains_key("k15")
        );
        assert_eq!(under.check(), Ok(()));
    }
}
