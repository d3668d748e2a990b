//! What can be said of pushes and webhooks?

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    entities::{Setting, put, put_plain, setting, text},
    retry::retry,
};
use crate::units;

/// The fields of a push.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Push")]
pub struct PushFields {
    /// The queue to deliver
    #[arg(long, conflicts_with = "subscription")]
    pub queue: Option<String>,
    /// The subscription to deliver
    #[arg(long)]
    pub subscription: Option<String>,
    /// The endpoint
    #[arg(long)]
    pub url: Option<String>,
    /// What a request carries
    #[arg(long, value_parser = ["binary", "structured", "batch", "raw"])]
    pub format: Option<String>,
    /// One request at a time, and the next message only when this one has arrived or was given up
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ordered: Option<bool>,
    /// Requests at a time
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,
    /// Most events of one request, with --format batch
    #[arg(long, value_name = "N")]
    pub batch_max: Option<u32>,
    /// How long one request may take
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub timeout: Option<u64>,
    /// Bytes of a request's body
    #[arg(long, value_name = "SIZE", value_parser = units::size_bytes)]
    pub body_bytes_max: Option<u64>,
    /// The queue or topic for messages that are given up
    #[arg(long, value_name = "ADDRESS|none", value_parser = setting(text))]
    pub dead_letter: Option<Setting<String>>,
    /// When what failed is tried again: BACKOFF,first=TIME,most=TIME,attempts=N,age=TIME,http_4xx.give_up; what is not said stays
    #[arg(long, value_name = "POLICY", value_parser = retry)]
    pub retry: Option<Value>,
    /// Up to which Retry-After is honoured
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub retry_after_max: Option<u64>,
    /// Failures in a row after which the endpoint is left alone for a while
    #[arg(long, value_name = "N")]
    pub breaker_failures: Option<u32>,
    /// For how long at first; each time twice as long
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub breaker_pause: Option<u64>,
    /// For how long at most
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub breaker_pause_max: Option<u64>,
    /// A secret that signs, whsec_… or whsk_…; several while one replaces another
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,
    /// A header to send along, as name=value
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub header: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like authorization=\"Bearer x\"")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl PushFields {
    /// Puts what was said into a declaration.
    pub fn put_into(&self, fields: &mut Map<String, Value>) {
        if self.queue.is_some() || self.subscription.is_some() {
            fields.remove("queue");
            fields.remove("subscription");
        }
        put_plain(fields, "queue", &self.queue);
        put_plain(fields, "subscription", &self.subscription);
        put_plain(fields, "url", &self.url);
        put_plain(fields, "format", &self.format);
        put_plain(fields, "ordered", &self.ordered);
        put_plain(fields, "concurrency", &self.concurrency);
        put_plain(fields, "batch_max", &self.batch_max);
        put_plain(fields, "timeout_ms", &self.timeout);
        put_plain(fields, "body_bytes_max", &self.body_bytes_max);
        put(fields, "dead_letter", &self.dead_letter);
        put_plain(fields, "retry_after_ms_max", &self.retry_after_max);
        if let Some(said) = &self.retry {
            lay(fields.entry("retry").or_insert_with(|| json!({})), said);
        }
        let mut breaker = taken(fields, "breaker");
        put_plain(&mut breaker, "failures", &self.breaker_failures);
        put_plain(&mut breaker, "pause_ms", &self.breaker_pause);
        put_plain(&mut breaker, "pause_ms_max", &self.breaker_pause_max);
        if !breaker.is_empty() {
            fields.insert("breaker".to_owned(), Value::Object(breaker));
        }
        if !self.secret.is_empty() {
            fields.insert("secrets".to_owned(), json!(self.secret));
        }
        if !self.header.is_empty() {
            let headers = self.header.iter().map(|(name, value)| (name.clone(), json!(value)));
            fields.insert("headers".to_owned(), Value::Object(headers.collect()));
        }
    }
}

/// Lays what was said over what is there, member by member.
fn lay(there: &mut Value, said: &Value) {
    match (there, said) {
        (Value::Object(there), Value::Object(said)) => {
            for (name, value) in said {
                lay(there.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (there, said) => *there = said.clone(),
    }
}

/// A group of fields, taken out to be put back.
fn taken(fields: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match fields.remove(name) {
        Some(Value::Object(group)) => group,
        _ => Map::new(),
    }
}

/// Commands about pushes.
#[derive(Debug, Subcommand)]
pub enum PushCommand {
    /// Deliver a queue or subscription to an endpoint; fine if it is there just so
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: Box<PushFields>,
    },
    /// Change what is given, and leave the rest, secrets too, as it is
    Change {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: Box<PushFields>,
    },
    /// List pushes
    List,
    /// Show one with its last attempts
    Show {
        /// Its name
        name: String,
    },
    /// Delete one; what it would have delivered stays
    Delete {
        /// Its name
        name: String,
    },
    /// Let one rest
    Pause {
        /// Its name
        name: String,
    },
    /// Let one deliver again, at once
    Resume {
        /// Its name
        name: String,
    },
    /// Send a test event to its endpoint and show the answer
    Test {
        /// Its name
        name: String,
    },
}

/// Commands about webhooks, without a server.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Send a signed test event from here and show the answer
    Test {
        /// Where to
        url: String,
        /// The secret that signs; a new one, which is shown, if none is given
        #[arg(long, value_name = "SECRET", env = "WAYSTATION_WEBHOOK_SECRET", hide_env_values = true)]
        secret: Vec<String>,
        /// What the request carries
        #[arg(long, default_value = "binary", value_parser = ["binary", "structured", "batch", "raw"])]
        format: String,
        /// How long it may take
        #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = units::duration_ms)]
        timeout: u64,
    },
    /// Make a new secret
    Secret {
        /// An ed25519 pair: whsk_… signs, whpk_… is for receivers
        #[arg(long)]
        asymmetric: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use waystation_webhooks::push::PushSpec;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn every_field_of_a_push_has_an_option() {
        let all = "waystation push create p --queue q --url https://a.example --format batch --ordered --concurrency 2 \
            --batch-max 3 --timeout 1s --body-bytes-max 1KiB --dead-letter d --retry linear,first=1s,http_4xx.give_up \
            --retry-after-max 3s --breaker-failures 2 --breaker-pause 1s \
            --breaker-pause-max 2s --secret x --header a=b=c";
        let cli =
            Cli::try_parse_from(all.split_whitespace()).map_err(|error| error.to_string()).expect("good");
        let Command::Push(PushCommand::Create { fields, .. }) = cli.command else { panic!("a push") };
        let mut said = Map::new();
        fields.put_into(&mut said);
        let spec: PushSpec = serde_json::from_value(Value::Object(said.clone())).expect("a declaration");
        assert_eq!(
            (spec.retry.first_ms, spec.retry.attempts_max, spec.breaker.pause_ms_max, spec.body_bytes_max),
            (1_000, Some(16), 2_000, 1_024)
        );
        let Ok(Value::Object(mut known)) = serde_json::to_value(&spec) else { panic!("an object") };
        assert_eq!(said["breaker"].as_object().map(Map::len), Some(3));
        known.remove("subscription");
        assert_eq!(said.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_change_keeps_what_is_not_said() {
        let mut there = json!({"queue": "q", "url": "u", "retry": {"first_ms": 5, "most_ms": 9}});
        let said = retry("first=7ms,timeout.attempts=2").expect("a policy");
        let fields =
            PushFields { subscription: Some("s".into()), retry: Some(said), ..PushFields::default() };
        fields.put_into(there.as_object_mut().expect("an object"));
        let classes = json!({"timeout": {"attempts_max": 2}});
        let expected = json!({"first_ms": 7, "most_ms": 9, "classes": classes});
        assert_eq!(there, json!({"subscription": "s", "url": "u", "retry": expected}));
    }
}
