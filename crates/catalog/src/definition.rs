//! Which settings may a policy have, with which values? Refused in RabbitMQ's words where wrong.

use serde::Deserialize;
use serde_json::{Map, Value};
use waystation_broker::spec::{BusinessKeys, business::check_keys};

use super::records::Rank;

/// The one setting that is not RabbitMQ's: business keys of what is published to queues, streams and exchanges.
pub(super) const BUSINESS_KEYS: &str = "business-keys";

/// What a setting's value must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A whole number from 0.
    Number,
    /// A whole number from 1.
    Positive,
    Text,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Business keys, each with where it is found.
    Keys,
    /// Whatever: for a matter that is not there on a single server, such as mirrors.
    Ignored,
}

/// The settings, with what they are called in an error and whether an operator may set them.
const SETTINGS: &[(&str, Shape, &str, bool)] = &[
    ("message-ttl", Shape::Number, "message TTL", true),
    ("expires", Shape::Positive, "queue expiry", true),
    ("max-length", Shape::Number, "maximum length", true),
    ("max-length-bytes", Shape::Number, "maximum length in bytes", true),
    ("delivery-limit", Shape::Number, "delivery limit", true),
    ("max-in-memory-length", Shape::Number, "maximum memory in bytes", true),
    ("max-in-memory-bytes", Shape::Number, "maximum memory in bytes", true),
    ("overflow", Shape::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]), "overflow mode", true),
    ("dead-letter-exchange", Shape::Text, "dead letter exchange name", false),
    ("dead-letter-routing-key", Shape::Text, "dead letter routing key", false),
    ("dead-letter-strategy", Shape::OneOf(&["at-most-once", "at-least-once"]), "dead letter strategy", false),
    ("alternate-exchange", Shape::Text, "alternate exchange name", false),
    ("max-age", Shape::Text, "max age", false),
    ("queue-mode", Shape::OneOf(&["default", "lazy"]), "queue mode", false),
    ("queue-version", Shape::Positive, "queue version", false),
    ("stream-max-segment-size-bytes", Shape::Number, "segment size", false),
    ("consumer-timeout", Shape::Number, "consumer timeout", false),
    (BUSINESS_KEYS, Shape::Keys, "set of business keys", false),
    ("queue-master-locator", Shape::Ignored, "", false),
    ("queue-leader-locator", Shape::Ignored, "", false),
    ("initial-cluster-size", Shape::Ignored, "", false),
    ("target-group-size", Shape::Ignored, "", true),
    ("federation-upstream", Shape::Ignored, "", false),
    ("federation-upstream-set", Shape::Ignored, "", false),
    ("ha-mode", Shape::Ignored, "", true),
    ("ha-params", Shape::Ignored, "", true),
    ("ha-sync-mode", Shape::Ignored, "", true),
    ("ha-sync-batch-size", Shape::Ignored, "", false),
    ("ha-promote-on-shutdown", Shape::Ignored, "", false),
    ("ha-promote-on-failure", Shape::Ignored, "", false),
];

/// Settings of which the smaller of two counts.
pub(super) const NARROWING: &[&str] = &[
    "message-ttl",
    "expires",
    "max-length",
    "max-length-bytes",
    "delivery-limit",
    "max-in-memory-length",
    "max-in-memory-bytes",
];

/// Why a definition cannot be used.
pub(super) fn check(definition: &Map<String, Value>, rank: Rank) -> Result<(), String> {
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    let setting = |name: &str| {
        let found = SETTINGS.iter().find(|(known, ..)| *known == name);
        found.filter(|(.., for_operators)| rank == Rank::User || *for_operators)
    };
    let unknown: Vec<String> = definition
        .iter()
        .filter(|(name, _)| setting(name).is_none())
        .map(|(name, value)| format!("{{{name},{value}}}"))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("[{}] are not recognised policy settings", unknown.join(",")));
    }
    for (name, value) in definition {
        let Some((_, shape, called, _)) = setting(name) else { continue };
        if !fits(*shape, value) {
            return Err(format!("{value} is not a valid {called}"));
        }
        if *shape == Shape::Keys {
            business_keys(value).map_err(|reason| format!("{value} is not a valid {called}: {reason}"))?;
        }
    }
    if definition.contains_key("max-age")
        && definition["max-age"].as_str().and_then(crate::terms::age_ms).is_none()
    {
        return Err(format!("{} is not a valid max age", definition["max-age"]));
    }
    Ok(())
}

/// Reads business keys as a declaration's field has them.
pub(super) fn business_keys(value: &Value) -> Result<BusinessKeys, String> {
    let keys = BusinessKeys::deserialize(value).map_err(|error| error.to_string())?;
    check_keys(&keys).map(|()| keys)
}

fn fits(shape: Shape, value: &Value) -> bool {
    match shape {
        Shape::Number => value.is_u64(),
        Shape::Positive => value.as_u64().is_some_and(|number| number > 0),
        Shape::Text => value.is_string(),
        Shape::OneOf(known) => value.as_str().is_some_and(|text| known.contains(&text)),
        Shape::Keys => value.is_object(),
        Shape::Ignored => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_all(definition: Value, rank: Rank, expected: Result<(), &str>) {
        let Value::Object(definition) = definition else { panic!("an object") };
        assert_eq!(check(&definition, rank), expected.map_err(str::to_owned), "{definition:?}");
    }

    #[test]
    fn settings_are_known_or_refused_in_rabbitmqs_words() {
        check_all(json!({"message-ttl": 0, "overflow": "drop-head"}), Rank::User, Ok(()));
        check_all(json!({}), Rank::User, Err("no policy provided"));
        check_all(json!({"foo": 6}), Rank::User, Err("[{foo,6}] are not recognised policy settings"));
        check_all(json!({"message-ttl": "x"}), Rank::User, Err("\"x\" is not a valid message TTL"));
        check_all(json!({"message-ttl": -1}), Rank::User, Err("-1 is not a valid message TTL"));
        check_all(json!({"expires": 0}), Rank::User, Err("0 is not a valid queue expiry"));
        check_all(json!({"max-age": "7"}), Rank::User, Err("\"7\" is not a valid max age"));
        check_all(json!({"max-age": "7D"}), Rank::User, Ok(()));
        check_all(json!({"ha-mode": "all"}), Rank::User, Ok(()));
        let keys = json!({"business-keys": {"order": {"jq": ".order.id"}, "shop": {"header": "x-shop"}}});
        check_all(keys, Rank::User, Ok(()));
        check_all(json!({"business-keys": 5}), Rank::User, Err("5 is not a valid set of business keys"));
        let wrong = "{\"a:b\":{\"header\":\"x\"}} is not a valid set of business keys: 'a:b' is no name for a business key: it has 1 \
                     to 64 bytes, and neither = nor :";
        check_all(json!({"business-keys": {"a:b": {"header": "x"}}}), Rank::User, Err(wrong));
        check_all(json!({"max-length": 5}), Rank::Operator, Ok(()));
        let refused = "[{dead-letter-exchange,\"x\"}] are not recognised policy settings";
        check_all(json!({"dead-letter-exchange": "x"}), Rank::Operator, Err(refused));
    }
}
