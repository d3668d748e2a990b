//! What does `queue.declare` ask for? Flags and `x-` arguments as a queue or topic, refused in RabbitMQ's words where wrong.

use waystation_base::{limits::DELAY_MS_MAX, value::Value};
use waystation_broker::spec::{QueueSpec, RetryPolicy, Spec, TopicSpec, retry::Backoff};
use waystation_catalog::terms::{QueueType, age_ms, set_dead_letter, set_overflow};

use super::{
    Invalid,
    types::{to_json, type_name},
};
use crate::wire::Table;

/// A declaration as the client put it.
#[derive(Clone, Copy, Debug)]
pub struct QueueAsk<'a> {
    /// Its virtual host.
    pub vhost: &'a str,
    /// Its name, given by the server if the client gave none.
    pub name: &'a str,
    /// There after a restart.
    pub durable: bool,
    /// For this connection only.
    pub exclusive: bool,
    /// Goes when its last consumer has left.
    pub auto_delete: bool,
    /// The `x-` arguments and any others.
    pub arguments: &'a Table,
}

const CLASSIC_ARGUMENTS: &[&str] = &[
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
    "x-queue-leader-locator",
];
const QUORUM_ARGUMENTS: &[&str] = &[
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-queue-leader-locator",
];
const STREAM_ARGUMENTS: &[&str] = &[
    "x-max-length-bytes",
    "x-queue-type",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
];

/// The arguments that have a meaning for a type of queue.
pub(crate) fn arguments_of(kind: QueueType) -> &'static [&'static str] {
    match kind {
        QueueType::Classic => CLASSIC_ARGUMENTS,
        QueueType::Quorum => QUORUM_ARGUMENTS,
        QueueType::Stream => STREAM_ARGUMENTS,
    }
}

/// The queue or topic that is asked for.
pub fn queue_spec(ask: &QueueAsk<'_>) -> Result<Spec, Invalid> {
    let kind = check(ask)?;
    let arguments = to_json(ask.arguments);
    if kind == QueueType::Stream {
        return Ok(Spec::Topic(TopicSpec {
            retention_ms: ask.text("x-max-age").and_then(age_ms),
            retention_bytes: ask.number("x-max-length-bytes").map(|bytes| bytes.max(1)),
            arguments,
            ..TopicSpec::default()
        }));
    }
    let mut spec = QueueSpec {
        // A time of 0 means: only to a consumer that stands ready.
        ttl_ms: ask.number("x-message-ttl"),
        idle_expiry_ms: ask.number("x-expires"),
        max_messages: ask.number("x-max-length"),
        max_bytes: ask.number("x-max-length-bytes"),
        max_priority: ask.number("x-max-priority").map_or(0, |priority| priority.min(255) as u8),
        single_active_consumer: ask.get("x-single-active-consumer") == Some(&Value::Bool(true)),
        max_attempts: ask
            .number("x-delivery-limit")
            .map(|count| count.saturating_add(1).min(u32::MAX.into()) as u32),
        retry: delayed_retry(ask).map(Box::new),
        durable: ask.durable,
        exclusive: ask.exclusive,
        auto_delete: ask.auto_delete,
        arguments,
        ..QueueSpec::default()
    };
    set_dead_letter(
        &mut spec,
        ask.vhost,
        ask.name,
        ask.text("x-dead-letter-exchange"),
        ask.text("x-dead-letter-routing-key"),
    );
    set_overflow(&mut spec, ask.text("x-overflow"));
    Ok(Spec::Queue(spec))
}

/// What RabbitMQ 4.3 knows as delayed retries: the least pause times the number of deliveries, up to the most.
fn delayed_retry(ask: &QueueAsk<'_>) -> Option<RetryPolicy> {
    ask.text("x-delayed-retry-type").filter(|kind| *kind != "disabled")?;
    let first_ms = ask.number("x-delayed-retry-min")?;
    Some(RetryPolicy {
        backoff: Backoff::Linear,
        first_ms,
        most_ms: ask.number("x-delayed-retry-max").unwrap_or(DELAY_MS_MAX),
        jitter_percent: 0,
        ..RetryPolicy::default()
    })
}

impl QueueAsk<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.arguments.get(key)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Value::as_i64).and_then(|number| u64::try_from(number).ok())
    }

    /// How errors name it.
    fn resource(&self) -> String {
        format!("queue '{}' in vhost '{}'", self.name, self.vhost)
    }
}

/// Checks arguments and flags in RabbitMQ's order.
fn check(ask: &QueueAsk<'_>) -> Result<QueueType, Invalid> {
    if let Some(exchange) = ask.get("x-dead-letter-exchange")
        && exchange.as_str().is_none()
    {
        let found = type_name(exchange);
        let text = format!("invalid type '{found}' for arg 'x-dead-letter-exchange' in {}", ask.resource());
        return Err(Invalid::precondition(text));
    }
    let refused = |key: &str, why: String| {
        Invalid::precondition(format!("invalid arg '{key}' for {}: {why}", ask.resource()))
    };
    let kind = match ask.get("x-queue-type") {
        None => QueueType::Classic,
        Some(value) => check_kind(value).map_err(|why| refused("x-queue-type", why))?,
    };
    for key in arguments_of(kind) {
        if let Some(value) = ask.get(key) {
            check_value(key, value, ask).map_err(|why| refused(key, why))?;
        }
    }
    check_known(ask, kind)?;
    check_flags(ask, kind)?;
    Ok(kind)
}

/// An argument that means something, but not to this type of queue.
fn check_known(ask: &QueueAsk<'_>, kind: QueueType) -> Result<(), Invalid> {
    let of_others = |key: &str| {
        let all = [CLASSIC_ARGUMENTS, QUORUM_ARGUMENTS, STREAM_ARGUMENTS];
        !arguments_of(kind).contains(&key) && all.iter().any(|known| known.contains(&key))
    };
    match ask.arguments.0.iter().find(|(key, _)| of_others(key)) {
        None => Ok(()),
        Some((key, _)) => Err(Invalid::precondition(format!(
            "invalid arg '{key}' for {} of queue type rabbit_{}_queue",
            ask.resource(),
            kind.as_str()
        ))),
    }
}

fn check_flags(ask: &QueueAsk<'_>, kind: QueueType) -> Result<(), Invalid> {
    let wrong = match kind {
        QueueType::Classic => None,
        _ if ask.auto_delete => Some("auto-delete"),
        _ if ask.exclusive => Some("exclusive-owner"),
        _ if !ask.durable => Some("non-durable"),
        _ => None,
    };
    wrong.map_or(Ok(()), |property| {
        Err(Invalid::precondition(format!("invalid property '{property}' for {}", ask.resource())))
    })
}

fn check_kind(value: &Value) -> Result<QueueType, String> {
    let text = text_of(value)?;
    QueueType::read(text).ok_or_else(|| format!("\"unsupported queue type '{text}'\""))
}

fn check_value(key: &str, value: &Value, ask: &QueueAsk<'_>) -> Result<(), String> {
    match key {
        "x-expires" if whole(value)? == 0 => Err("{value_zero,0}".into()),
        "x-expires" | "x-message-ttl" => match not_negative(value)? {
            ms if ms > DELAY_MS_MAX => Err(format!("{{value_too_large,{ms}}}")),
            _ => Ok(()),
        },
        "x-delayed-retry-type" => {
            one_of(value, &["disabled", "all", "failed", "returned"], "invalid_delayed_retry_type")
        }
        "x-delayed-retry-min" => match not_negative(value)? {
            0 => Err("{value_zero,0}".into()),
            ms if ms > most_retry_ms(ask) => Err(format!("{{value_too_large,{ms}}}")),
            _ => Ok(()),
        },
        "x-delayed-retry-max" => match not_negative(value)? {
            ms if ms > DELAY_MS_MAX => Err(format!("{{value_too_large,{ms}}}")),
            _ => Ok(()),
        },
        "x-max-priority" => match not_negative(value)? {
            priority if priority > 255 => Err(format!("{{max_value_exceeded,{priority}}}")),
            _ => Ok(()),
        },
        "x-max-length"
        | "x-max-length-bytes"
        | "x-max-in-memory-length"
        | "x-max-in-memory-bytes"
        | "x-delivery-limit"
        | "x-stream-max-segment-size-bytes"
        | "x-stream-filter-size-bytes" => not_negative(value).map(|_| ()),
        "x-quorum-initial-group-size" | "x-initial-cluster-size" => match not_negative(value)? {
            0 => Err("{value_zero,0}".into()),
            _ => Ok(()),
        },
        "x-single-active-consumer" => match value {
            Value::Bool(_) => Ok(()),
            other => Err(format!("{{unacceptable_type,{}}}", type_name(other))),
        },
        "x-queue-version" => match not_negative(value)? {
            1 | 2 => Ok(()),
            other => Err(format!("\"unsupported queue version '{other}'\"")),
        },
        "x-dead-letter-routing-key" => match text_of(value) {
            Ok(_) if ask.get("x-dead-letter-exchange").is_none() => {
                Err("routing_key_but_no_dlx_defined".into())
            }
            checked => checked.map(|_| ()),
        },
        "x-queue-mode" => match text_of(value)? {
            "default" | "lazy" => Ok(()),
            other => Err(format!("\"unsupported queue mode '{other}'\"")),
        },
        "x-overflow" => {
            one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"], "invalid_overflow")
        }
        "x-dead-letter-strategy" => one_of(value, &["at-most-once", "at-least-once"], "invalid_dlx_strategy"),
        "x-max-age" => age_ms(text_of(value)?).map(|_| ()).ok_or_else(|| "invalid_max_age".into()),
        "x-queue-leader-locator" => {
            let known = ["client-local", "random", "least-leaders", "balanced"];
            one_of(value, &known, "invalid_queue_locator_arg")
        }
        _ => Ok(()),
    }
}

/// The longest pause between retries.
fn most_retry_ms(ask: &QueueAsk<'_>) -> u64 {
    ask.number("x-delayed-retry-max").map_or(DELAY_MS_MAX, |ms| ms.min(DELAY_MS_MAX))
}

fn text_of(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{{unacceptable_type,{}}}", type_name(value)))
}

fn one_of(value: &Value, known: &[&str], otherwise: &str) -> Result<(), String> {
    if known.contains(&text_of(value)?) { Ok(()) } else { Err(otherwise.into()) }
}

/// A whole number of any size; a time is none.
pub(crate) fn whole(value: &Value) -> Result<i64, String> {
    let number = if matches!(value, Value::Timestamp(_)) { None } else { value.as_i64() };
    number.ok_or_else(|| format!("\"expected integer, got {}\"", type_name(value)))
}

fn not_negative(value: &Value) -> Result<u64, String> {
    let number = whole(value)?;
    u64::try_from(number).map_err(|_| format!("{{value_negative,{number}}}"))
}
