//! Who changed what? Each change that a door asks for leaves a record in the topic [`TOPIC`], in the commit group of the change.
//!
//! Publishing and settling leave none, nor does what comes and goes with one session: exclusive and auto-delete queues.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use waystation_base::{Message, MessageId, Millis, Name, message::header, os};
use waystation_broker::{
    Command, Effect, Kind, Reply, RequestId, SessionId, Shard,
    command::{Declare, Destination, Payload, Publish, Target, Transaction},
    effect::Declared,
    spec::{Spec, TopicSpec},
};

/// The topic that holds the records.
pub const TOPIC: &str = "$audit";
/// Members of documents that are never shown.
const SECRET: &[&str] = &["password_hash", "secret"];

/// On whose behalf a door acts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Which door.
    pub door: &'static str,
    /// The user's or token's name; none for somebody on this machine who needed no proof.
    pub who: Option<String>,
    /// Where the request came from.
    pub client: Option<SocketAddr>,
    /// What the client calls itself.
    pub name: Option<String>,
    /// It is a part of the server, and what it changes is somebody's wish that has left its record already.
    pub inner: bool,
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Milliseconds.
    pub retention_ms: u64,
    /// Bytes.
    pub retention_bytes: u64,
}

/// A record before it is known how the change went.
pub(crate) struct Draft {
    origin: Arc<Origin>,
    action: &'static str,
    kind: &'static str,
    name: String,
    before: Value,
    after: Value,
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Queue => "queue",
        Kind::Topic => "topic",
        Kind::Subscription => "subscription",
        Kind::Route => "route",
    }
}

fn value(it: &impl Serialize) -> Value {
    serde_json::to_value(it).unwrap_or_default()
}

/// What a thing is now; null if it is not there.
fn spec_of(shard: &Shard, kind: Kind, name: &Name, now: Millis) -> Option<Spec> {
    match kind {
        Kind::Queue => shard.queue(name).map(|it| Spec::Queue(it.spec)),
        Kind::Topic => shard.topic(name).map(|it| Spec::Topic(it.spec)),
        Kind::Subscription => shard.subscription(name, now).map(|it| Spec::Subscription(it.spec)),
        Kind::Route => shard.route(name).map(|it| Spec::Route(it.spec)),
    }
}

/// Whether it comes and goes with a session or its consumers.
fn is_fleeting(spec: &Spec) -> bool {
    match spec {
        Spec::Queue(spec) => spec.exclusive || spec.auto_delete,
        Spec::Subscription(spec) => spec.temporary,
        Spec::Route(spec) => spec.auto_delete,
        Spec::Topic(_) => false,
    }
}

fn inner(spec: &Spec) -> Value {
    match spec {
        Spec::Queue(spec) => value(spec),
        Spec::Topic(spec) => value(spec),
        Spec::Subscription(spec) => value(spec),
        Spec::Route(spec) => value(spec),
    }
}

fn document(body: &[u8]) -> Value {
    let mut shown: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    if let Value::Object(map) = &mut shown {
        for name in SECRET {
            if let Some(value) = map.get_mut(*name) {
                *value = "(hidden)".into();
            }
        }
    }
    shown
}

/// Notes what a command is about to change; nothing for what leaves no record.
pub(crate) fn draft(shard: &Shard, command: &Command, origin: &Arc<Origin>, now: Millis) -> Option<Draft> {
    let draft = |action, kind, name: &Name, before, after| {
        let (origin, name) = (origin.clone(), name.to_string());
        Some(Draft { origin, action, kind, name, before, after })
    };
    match command {
        Command::Declare(Declare { name, spec, .. }) => {
            if is_fleeting(spec) {
                return None;
            }
            let before = spec_of(shard, spec.kind(), name, now);
            let before = before.as_ref().map_or(Value::Null, inner);
            draft("declare", kind_name(spec.kind()), name, before, inner(spec))
        }
        Command::Delete(delete) => {
            let spec = spec_of(shard, delete.kind, &delete.name, now).filter(|spec| !is_fleeting(spec))?;
            draft("delete", kind_name(delete.kind), &delete.name, inner(&spec), Value::Null)
        }
        Command::Purge(name) => {
            spec_of(shard, Kind::Queue, name, now).filter(|spec| !is_fleeting(spec))?;
            draft("purge", "queue", name, Value::Null, Value::Null)
        }
        Command::Bind(bind) | Command::Unbind(bind) => {
            if let Destination::Address(name) = &bind.to
                && spec_of(shard, Kind::Queue, name, now).is_some_and(|spec| is_fleeting(&spec))
            {
                return None;
            }
            let edge = json!({"to": value(&bind.to), "key": bind.key, "arguments": bind.arguments});
            match command {
                Command::Bind(_) => draft("bind", "route", &bind.route, Value::Null, edge),
                _ => draft("unbind", "route", &bind.route, edge, Value::Null),
            }
        }
        Command::Seek(seek) => {
            let to: Vec<Value> = seek
                .to
                .iter()
                .map(|(topic, partition, offset)| json!([topic, partition, offset.0]))
                .collect();
            draft("seek", "subscription", &seek.subscription, Value::Null, to.into())
        }
        Command::Document { name, body } => {
            let there = shard.documents(name.as_str()).into_iter().find(|(known, _)| known == name);
            let before = there.map_or(Value::Null, |(_, body)| document(&body));
            let after = body.as_ref().map_or(Value::Null, |body| document(body));
            draft(if body.is_some() { "write" } else { "remove" }, "document", name, before, after)
        }
        _ => None,
    }
}

/// How it went, in words; nothing if nothing was changed.
fn result(effects: &[Effect], request: Option<RequestId>) -> Option<String> {
    let answer = effects.iter().find_map(|effect| match effect {
        Effect::Reply { request: of, result } if Some(*of) == request => Some(result),
        _ => None,
    });
    match answer? {
        Ok(Reply::Declared(Declared::Created)) => Some("created".to_owned()),
        Ok(Reply::Declared(Declared::Unchanged)) | Err(_) => None,
        Ok(Reply::Declared(_)) => Some("changed".to_owned()),
        Ok(Reply::Removed(messages)) => Some(format!("removed {messages}")),
        Ok(_) => Some("done".to_owned()),
    }
}

impl Draft {
    /// The commands that put the record down; none if nothing was changed. `is_first`: the topic may not be there yet.
    pub fn commands(
        self,
        effects: &[Effect],
        request: Option<RequestId>,
        now: Millis,
        audit: Audit,
        is_first: bool,
    ) -> Vec<Command> {
        let Some(result) = result(effects, request) else { return Vec::new() };
        let (Ok(name), Ok(random)) = (Name::reserved(TOPIC), os::random()) else { return Vec::new() };
        let Draft { origin, action, kind, name: what, before, after } = self;
        let record = json!({
            "at": now.0,
            "who": origin.who,
            "door": origin.door,
            "client": origin.client.map(|client| client.to_string()),
            "action": action,
            "kind": kind,
            "name": what,
            "before": before,
            "after": after,
            "result": result,
        });
        let mut message = Message::new(MessageId::new(now, random), now, Bytes::from(record.to_string()));
        message.headers.set(header::CONTENT_TYPE, waystation_base::Value::from("application/json"));
        let publish = Publish {
            to: Target::Address(name.clone()),
            partition: None,
            payload: Payload::Messages(vec![message]),
        };
        let store = Command::Transact(Transaction { publishes: vec![publish], settlements: Vec::new() });
        let spec = Spec::Topic(TopicSpec {
            retention_ms: Some(audit.retention_ms),
            retention_bytes: Some(audit.retention_bytes),
            ..TopicSpec::default()
        });
        let declare = Command::Declare(Declare { name, spec, change: true, session: SessionId::default() });
        is_first.then_some(declare).into_iter().chain([store]).collect()
    }
}
