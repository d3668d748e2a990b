//! What can be said of queues, topics and subscriptions: each field of their declarations as an option?

use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use waystation_base::filter::Filter;
use waystation_broker::spec::path::Path;

use super::{quality, retry::retry};
use crate::units;

/// A value, or `none` for the absence of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting<T>(pub Option<T>);

/// Reads a setting by the reader of its values.
pub fn setting<T: Clone + Send + Sync + 'static>(
    read: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<Setting<T>, String> + Clone + Send + Sync + 'static {
    move |text| if text == "none" { Ok(Setting(None)) } else { read(text).map(|value| Setting(Some(value))) }
}

/// A whole number.
pub fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not a whole number in range"))
}

/// Any text.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A JSON object.
pub fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(Value::Object(members)),
        Ok(_) => Err("is not an object; write it like {\"x-queue-type\": \"quorum\"}".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts what was said into a declaration; `none` becomes null.
pub fn put<T: Into<Value> + Clone>(fields: &mut Map<String, Value>, name: &str, said: &Option<Setting<T>>) {
    if let Some(Setting(value)) = said {
        fields.insert(name.to_owned(), value.clone().map_or(Value::Null, Into::into));
    }
}

pub fn put_plain<T: Into<Value> + Clone>(fields: &mut Map<String, Value>, name: &str, said: &Option<T>) {
    if let Some(value) = said {
        fields.insert(name.to_owned(), value.clone().into());
    }
}

/// The fields of a queue. Where a limit is given, `none` takes it away.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Queue")]
pub struct QueueFields {
    /// Most messages that may wait
    #[arg(long, value_name = "N|none", value_parser = setting(number::<u64>))]
    pub max_messages: Option<Setting<u64>>,
    /// Most bytes of them
    #[arg(long, value_name = "SIZE|none", value_parser = setting(units::size_bytes))]
    pub max_bytes: Option<Setting<u64>>,
    /// What happens at the limit
    #[arg(long, value_name = "POLICY", value_parser = ["reject_publish", "drop_head", "dead_letter_head", "dead_letter_publish"])]
    pub overflow: Option<String>,
    /// After how long a message expires unread
    #[arg(long, value_name = "DURATION|none", value_parser = setting(units::duration_ms))]
    pub ttl: Option<Setting<u64>>,
    /// The queue or topic for rejected, expired and exhausted messages
    #[arg(long, value_name = "ADDRESS|none", value_parser = setting(text))]
    pub dead_letter: Option<Setting<String>>,
    /// Instead of a queue or topic: the route for them; an empty one goes by name
    #[arg(long, value_name = "ROUTE|none", value_parser = setting(text))]
    pub dead_letter_route: Option<Setting<String>>,
    /// The routing key with which they go there, instead of their own
    #[arg(long, value_name = "KEY|none", value_parser = setting(text))]
    pub dead_letter_key: Option<Setting<String>>,
    /// Deliveries after which a message that comes back is dead-lettered
    #[arg(long, value_name = "N|none", value_parser = setting(number::<u32>))]
    pub max_attempts: Option<Setting<u32>>,
    /// When what failed is tried again, like exponential,first=1s,most=10m,jitter=50%,attempts=8,age=1d,invalid.give_up; what is not
    /// said stays as it is
    #[arg(long, value_name = "POLICY|none", value_parser = setting(retry))]
    pub retry: Option<Setting<Value>>,
    /// How fast messages are handed out, like 100/s or 100/s,burst=200
    #[arg(long, value_name = "RATE|none", value_parser = setting(quality::rate))]
    pub rate: Option<Setting<Value>>,
    /// Messages that consumers may hold together
    #[arg(long, value_name = "N|none", value_parser = setting(number::<u32>))]
    pub concurrency: Option<Setting<u32>>,
    /// Equal shares for the tenants that a header names, like tenant or tenant,concurrency=5,rate=10/s
    #[arg(long, value_name = "HEADER|none", value_parser = setting(quality::fair))]
    pub fair: Option<Setting<Value>>,
    /// For how long a message belongs to the consumer that pulled it
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub lease: Option<u64>,
    /// fifo, or key: messages with the same key are worked on one after the other
    #[arg(long, value_parser = ["fifo", "key"])]
    pub order: Option<String>,
    /// Within how long a second message with the same id is not stored
    #[arg(long, value_name = "DURATION|none", value_parser = setting(units::duration_ms))]
    pub deduplication: Option<Setting<u64>>,
    /// One consumer at a time gets messages
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub single_active_consumer: Option<bool>,
    /// Messages of a higher priority are handed out as if they had this one; 0: first in, first out
    #[arg(long, value_name = "0..255")]
    pub max_priority: Option<u8>,
    /// Whether it is there after a restart, with its messages
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub durable: Option<bool>,
    /// It goes when its last consumer has left
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub auto_delete: Option<bool>,
    /// Only the session that declares it may use it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub exclusive: Option<bool>,
    /// Without use for how long it goes
    #[arg(long, value_name = "DURATION|none", value_parser = setting(units::duration_ms))]
    pub idle_expiry: Option<Setting<u64>>,
    /// A business key by which messages are found, like order=.order.id (a path in the JSON body) or customer=header:x-customer; may be
    /// said again; all keys are said anew, none takes them away
    #[arg(long, value_name = "KEY=PATH|none", value_parser = business)]
    pub business: Vec<Setting<(String, Value)>>,
    /// More to keep and show beside it, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub arguments: Option<Value>,
}

impl QueueFields {
    /// What was said, as the declaration's fields.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put(&mut fields, "max_messages", &self.max_messages);
        put(&mut fields, "max_bytes", &self.max_bytes);
        put_plain(&mut fields, "overflow", &self.overflow);
        put(&mut fields, "ttl_ms", &self.ttl);
        put(&mut fields, "dead_letter", &self.dead_letter);
        put(&mut fields, "dead_letter_route", &self.dead_letter_route);
        put(&mut fields, "dead_letter_key", &self.dead_letter_key);
        put(&mut fields, "max_attempts", &self.max_attempts);
        put(&mut fields, "retry", &self.retry);
        put(&mut fields, "rate", &self.rate);
        put(&mut fields, "concurrency", &self.concurrency);
        put(&mut fields, "fair", &self.fair);
        put_plain(&mut fields, "max_priority", &self.max_priority);
        put_plain(&mut fields, "durable", &self.durable);
        put_plain(&mut fields, "arguments", &self.arguments);
        put_plain(&mut fields, "lease_ms", &self.lease);
        put_plain(&mut fields, "order", &self.order);
        put(&mut fields, "deduplication_ms", &self.deduplication);
        put_plain(&mut fields, "single_active_consumer", &self.single_active_consumer);
        put_plain(&mut fields, "auto_delete", &self.auto_delete);
        put_plain(&mut fields, "exclusive", &self.exclusive);
        put(&mut fields, "idle_expiry_ms", &self.idle_expiry);
        put_business(&mut fields, &self.business);
        fields
    }
}

/// The fields of a topic.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Topic")]
pub struct TopicFields {
    /// Logs that it is divided into; may grow, not shrink
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// For how long messages are kept
    #[arg(long, value_name = "DURATION|none", value_parser = setting(units::duration_ms))]
    pub retention: Option<Setting<u64>>,
    /// Size of each partition past which the oldest messages go
    #[arg(long, value_name = "SIZE|none", value_parser = setting(units::size_bytes))]
    pub retention_bytes: Option<Setting<u64>>,
    /// Keep only the latest message of each key
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub compact: Option<bool>,
    /// For how long a compacted topic keeps a deletion
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub tombstone_retention: Option<u64>,
    /// A business key by which messages are found, like order=.order.id (a path in the JSON body) or customer=header:x-customer; may be
    /// said again; all keys are said anew, none takes them away
    #[arg(long, value_name = "KEY=PATH|none", value_parser = business)]
    pub business: Vec<Setting<(String, Value)>>,
    /// More to keep and show beside it, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub arguments: Option<Value>,
}

impl TopicFields {
    /// What was said, as the declaration's fields.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put_plain(&mut fields, "partitions", &self.partitions);
        put(&mut fields, "retention_ms", &self.retention);
        put(&mut fields, "retention_bytes", &self.retention_bytes);
        put_plain(&mut fields, "compact", &self.compact);
        put_plain(&mut fields, "tombstone_retention_ms", &self.tombstone_retention);
        put_business(&mut fields, &self.business);
        put_plain(&mut fields, "arguments", &self.arguments);
        fields
    }
}

/// The fields of a subscription that can be changed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Subscription")]
pub struct SubscriptionFields {
    /// competing: any message to any consumer; ordered: each partition in order to one at a time
    #[arg(long, value_parser = ["competing", "ordered"])]
    pub mode: Option<String>,
    /// Only messages for which this holds, as JSON: {"exact": {"type": "flight.late"}}
    #[arg(long, value_name = "JSON|none", value_parser = setting(filter))]
    pub filter: Option<Setting<Value>>,
    /// It goes when its last consumer has left
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub temporary: Option<bool>,
    /// Without consumers for how long it goes
    #[arg(long, value_name = "DURATION|none", value_parser = setting(units::duration_ms))]
    pub idle_expiry: Option<Setting<u64>>,
    /// For how long a message belongs to the consumer that pulled it
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub lease: Option<u64>,
    /// The queue or topic for rejected and exhausted messages
    #[arg(long, value_name = "ADDRESS|none", value_parser = setting(text))]
    pub dead_letter: Option<Setting<String>>,
    /// Deliveries after which a message that comes back is dead-lettered
    #[arg(long, value_name = "N|none", value_parser = setting(number::<u32>))]
    pub max_attempts: Option<Setting<u32>>,
    /// When what failed is tried again, like exponential,first=1s,most=10m,jitter=50%,attempts=8,age=1d,invalid.give_up; what is not
    /// said stays as it is
    #[arg(long, value_name = "POLICY|none", value_parser = setting(retry))]
    pub retry: Option<Setting<Value>>,
    /// How fast messages are handed out, like 100/s or 100/s,burst=200
    #[arg(long, value_name = "RATE|none", value_parser = setting(quality::rate))]
    pub rate: Option<Setting<Value>>,
    /// Messages that consumers may hold together
    #[arg(long, value_name = "N|none", value_parser = setting(number::<u32>))]
    pub concurrency: Option<Setting<u32>>,
    /// Fair to tenants, whom a header names, or (@virtual_host) their topics' virtual hosts: HEADER,concurrency=N,rate=N/s
    #[arg(long, value_name = "TENANTS|none", value_parser = setting(quality::fair))]
    pub fair: Option<Setting<Value>>,
}

impl SubscriptionFields {
    /// What was said, as the declaration's fields.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put_plain(&mut fields, "mode", &self.mode);
        put(&mut fields, "filter", &self.filter);
        put_plain(&mut fields, "temporary", &self.temporary);
        put(&mut fields, "idle_expiry_ms", &self.idle_expiry);
        put_plain(&mut fields, "lease_ms", &self.lease);
        put(&mut fields, "dead_letter", &self.dead_letter);
        put(&mut fields, "max_attempts", &self.max_attempts);
        put(&mut fields, "retry", &self.retry);
        put(&mut fields, "rate", &self.rate);
        put(&mut fields, "concurrency", &self.concurrency);
        put(&mut fields, "fair", &self.fair);
        fields
    }
}

fn filter(text: &str) -> Result<Value, String> {
    let filter: Filter = serde_json::from_str(text).map_err(|error| error.to_string())?;
    filter.check().map_err(|error| error.to_string())?;
    serde_json::to_value(&filter).map_err(|error| error.to_string())
}

/// A business key with where its value is found.
pub fn business(text: &str) -> Result<Setting<(String, Value)>, String> {
    if text == "none" {
        return Ok(Setting(None));
    }
    let (name, from) = text.split_once('=').ok_or_else(|| {
        format!("'{text}' says no place; write it like order=.order.id or customer=header:x-customer")
    })?;
    let from = match from.strip_prefix("header:") {
        Some(header) => json!({"header": header}),
        None => json!({"jq": Path::try_from(from.to_owned())?}),
    };
    Ok(Setting(Some((name.to_owned(), from))))
}

pub fn put_business(fields: &mut Map<String, Value>, said: &[Setting<(String, Value)>]) {
    if said.is_empty() {
        return;
    }
    let keys: Map<String, Value> = said.iter().filter_map(|Setting(key)| key.clone()).collect();
    let value = if keys.is_empty() { Value::Null } else { Value::Object(keys) };
    fields.insert("business".to_owned(), value);
}

/// Where a subscription begins, as the declaration has it: `latest`, `earliest`, `offset:N` or `time:T`.
pub fn start(text: &str) -> Result<Value, String> {
    match text.split_once(':') {
        None if matches!(text, "latest" | "earliest") => Ok(json!(text)),
        Some(("offset", number)) => {
            number.parse::<u64>().map(|offset| json!({"offset": offset})).map_err(|error| error.to_string())
        }
        Some(("time", when)) => units::time(when).map(|time| json!({"time": time.0})),
        _ => Err(format!(
            "'{text}' is no place to start; write latest, earliest, offset:N or time:2026-01-31T12:00:00Z"
        )),
    }
}

/// Which ones to list.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Only names that match: `*` is one word, `#` any number of words, words parted by dots
    #[arg(value_name = "PATTERN")]
    pub pattern: Option<String>,
}

/// Conditions of a deletion.
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Its name
    pub name: String,
    /// Only if nobody consumes from it (a topic: if it has no subscriptions)
    #[arg(long)]
    pub if_unused: bool,
    /// Only if it holds no messages
    #[arg(long)]
    pub if_empty: bool,
    /// Succeed if it is not there
    #[arg(long)]
    pub if_exists: bool,
}

/// Commands about queues.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Make a queue; fine if it is there just so
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: QueueFields,
    },
    /// List queues
    List(List),
    /// Show one
    Show {
        /// Its name
        name: String,
    },
    /// Change what is given, and leave the rest as it is
    Change {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: QueueFields,
    },
    /// Delete one with its messages
    Delete(Delete),
    /// Drop every message that is not being worked on
    Purge {
        /// Its name
        name: String,
    },
}

/// Commands about topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Make a topic; fine if it is there just so
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: TopicFields,
    },
    /// List topics
    List(List),
    /// Show one
    Show {
        /// Its name
        name: String,
    },
    /// Change what is given, and leave the rest as it is
    Change {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: TopicFields,
    },
    /// Delete one with its messages
    Delete(Delete),
}

/// Commands about subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionCommand {
    /// Make a subscription; fine if it is there just so
    Create {
        /// Its name
        name: String,
        /// A topic, or a pattern of names
        #[arg(long)]
        topic: String,
        /// Where it begins: latest, earliest, offset:N or time:2026-01-31T12:00:00Z
        #[arg(long, value_parser = start)]
        start: Option<Value>,
        #[command(flatten)]
        fields: SubscriptionFields,
    },
    /// List subscriptions
    List(List),
    /// Show one
    Show {
        /// Its name
        name: String,
    },
    /// Change what is given, and leave the rest as it is
    Change {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: SubscriptionFields,
    },
    /// Unregister one; the topic keeps its messages
    Delete(Delete),
    /// Move one to another place in its topics
    Seek {
        /// Its name
        name: String,
        /// Where to: latest, earliest, offset:N or time:2026-01-31T12:00:00Z
        #[arg(long, value_parser = start)]
        to: Value,
        /// Only in this topic, if it reads several
        #[arg(long)]
        topic: Option<String>,
        /// Only in this partition
        #[arg(long)]
        partition: Option<u32>,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use waystation_broker::spec::{QueueSpec, SubscriptionSpec, TopicSpec};

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(arguments: &str) -> Command {
        let all = std::iter::once("waystation").chain(arguments.split_whitespace());
        Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{error}")).command
    }

    /// Every field of the default declaration has an option, and what is said is a valid declaration.
    fn check_all(fields: Map<String, Value>, of: Value) {
        let Value::Object(of) = of else { panic!("a declaration is an object") };
        let said: Vec<&String> = fields.keys().collect();
        let known: Vec<&String> = of.keys().collect();
        assert_eq!(said, known);
    }

    #[test]
    fn every_field_of_a_queue_has_an_option() {
        let all = "queue create q --max-messages 5 --max-bytes 1MiB --overflow drop_head --ttl 1h --dead-letter dead \
            --max-attempts none --lease 5s --order key --deduplication 1d --single-active-consumer --auto-delete=false \
            --exclusive=false --idle-expiry 7d --dead-letter-route dlx --dead-letter-key late --max-priority 9 --durable=false \
            --retry linear,first=5s,invalid.give_up --rate 100/s,burst=9 --concurrency 5 --fair tenant,concurrency=2 --arguments {\"a\":1} \
            --business order=.order.id --business customer=header:x-customer";
        let Command::Queue(QueueCommand::Create { fields, .. }) = parse(all) else { panic!("a queue") };
        let fields = fields.fields();
        let spec: QueueSpec = serde_json::from_value(Value::Object(fields.clone())).expect("a declaration");
        assert_eq!((spec.ttl_ms, spec.max_bytes, spec.max_attempts), (Some(3_600_000), Some(1 << 20), None));
        assert!(spec.single_active_consumer && !spec.auto_delete);
        let keys = json!({"customer": {"header": "x-customer"}, "order": {"jq": ".order.id"}});
        assert_eq!(serde_json::to_value(spec.business).expect("json"), keys);
        check_all(fields, serde_json::to_value(QueueSpec::default()).expect("json"));
    }

    #[test]
    fn every_field_of_a_topic_has_an_option() {
        let all = "topic change t --partitions 4 --retention none --retention-bytes 1GiB --compact --tombstone-retention 1h --arguments {} --business none";
        let Command::Topic(TopicCommand::Change { fields, .. }) = parse(all) else { panic!("a topic") };
        let fields = fields.fields();
        assert_eq!(fields["retention_ms"], Value::Null);
        serde_json::from_value::<TopicSpec>(Value::Object(fields.clone())).expect("a declaration");
        check_all(fields, serde_json::to_value(TopicSpec::default()).expect("json"));
    }

    #[test]
    fn every_field_of_a_subscription_has_an_option() {
        let all = "subscription create s --topic t --start time:2026-01-31 --mode ordered --filter {\"exact\":{\"a\":\"b\"}} \
            --temporary --idle-expiry 1d --lease 1m --dead-letter none --max-attempts 3 --retry none --rate 10/m --concurrency none \
            --fair @virtual_host,concurrency=2";
        let Command::Subscription(SubscriptionCommand::Create { topic, start, fields, .. }) = parse(all)
        else {
            panic!("a subscription")
        };
        let mut fields = fields.fields();
        fields.insert("topic".into(), topic.into());
        fields.insert("start".into(), start.expect("a start"));
        serde_json::from_value::<SubscriptionSpec>(Value::Object(fields.clone())).expect("a declaration");
        check_all(fields, serde_json::to_value(SubscriptionSpec::new("t")).expect("json"));
    }

    #[test]
    fn what_is_not_said_is_not_sent() {
        let Command::Queue(QueueCommand::Change { fields, .. }) = parse("queue change q") else {
            panic!("a queue")
        };
        assert_eq!(fields.fields(), Map::new());
    }

    #[test]
    fn bad_values_are_refused_with_what_to_write() {
        for (arguments, expected) in [
            ("queue create q --ttl 5", "write it like 250ms"),
            ("queue create q --max-bytes big", "write it like 4096"),
            ("queue create q --max-messages -1", "unexpected argument"),
            ("queue create q --retry often", "write it like exponential,first=1s"),
            ("queue create q --order random", "possible values: fifo, key"),
            ("subscription create s", "--topic"),
            ("subscription create s --topic t --filter {}", "filter"),
            ("subscription create s --topic t --start never", "write latest, earliest"),
            ("queue create q --arguments []", "is not an object"),
            ("queue create q --business order", "write it like order=.order.id"),
            ("queue create q --business order=.order[]", "at column"),
            ("queue make q", "unrecognized subcommand"),
        ] {
            let all = std::iter::once("waystation").chain(arguments.split_whitespace());
            let error = Cli::try_parse_from(all).expect_err(arguments).to_string();
            assert!(error.contains(expected), "{error}\n  should say: {expected}");
        }
    }
}
