//! How are queues, topics and subscriptions made, listed, shown, changed, moved and removed?

use serde_json::{Map, Value, json};
use waystation_broker::{Kind, view::SubscriptionInfo};
use waystation_http::api::{Declaration, Declared, Removed, SeekPosition, SeekRequest};

use super::show;
use crate::{
    args::entities::{Delete, List, QueueCommand, SubscriptionCommand, TopicCommand},
    client::{Client, Info},
    exit::{Exit, Failure},
    output::Output,
    units::show_messages,
};

/// A server and a place for results.
pub struct Context {
    pub client: Client,
    pub output: Output,
    pub kind: Kind,
}

pub async fn queue(client: Client, command: QueueCommand, output: Output) -> Result<Exit, Failure> {
    let context = Context { client, output, kind: Kind::Queue };
    match command {
        QueueCommand::Create { name, fields } => context.create(&name, fields.fields()).await,
        QueueCommand::List(list) => context.list(list).await,
        QueueCommand::Show { name } => context.show(&name).await,
        QueueCommand::Change { name, fields } => context.change(&name, fields.fields()).await,
        QueueCommand::Delete(delete) => context.delete(delete).await,
        QueueCommand::Purge { name } => {
            let removed: Removed = context.client.post(Kind::Queue, &name, "purge", &json!({})).await?;
            context.output.say(&removed, || {
                format!("queue {name} is purged; {} went", show_messages(removed.removed))
            })?;
            Ok(Exit::Done)
        }
    }
}

pub async fn topic(client: Client, command: TopicCommand, output: Output) -> Result<Exit, Failure> {
    let context = Context { client, output, kind: Kind::Topic };
    match command {
        TopicCommand::Create { name, fields } => context.create(&name, fields.fields()).await,
        TopicCommand::List(list) => context.list(list).await,
        TopicCommand::Show { name } => context.show(&name).await,
        TopicCommand::Change { name, fields } => context.change(&name, fields.fields()).await,
        TopicCommand::Delete(delete) => context.delete(delete).await,
    }
}

pub async fn subscription(
    client: Client,
    command: SubscriptionCommand,
    output: Output,
) -> Result<Exit, Failure> {
    let context = Context { client, output, kind: Kind::Subscription };
    match command {
        SubscriptionCommand::Create { name, topic, start, fields } => {
            let mut fields = fields.fields();
            fields.insert("topic".to_owned(), topic.into());
            fields.extend(start.map(|start| ("start".to_owned(), start)));
            context.create(&name, fields).await
        }
        SubscriptionCommand::List(list) => context.list(list).await,
        SubscriptionCommand::Show { name } => context.show(&name).await,
        SubscriptionCommand::Change { name, fields } => context.change(&name, fields.fields()).await,
        SubscriptionCommand::Delete(delete) => context.delete(delete).await,
        SubscriptionCommand::Seek { name, to, topic, partition } => {
            context.seek(&name, to, topic.as_deref(), partition).await
        }
    }
}

impl Context {
    pub async fn create(&self, name: &str, fields: Map<String, Value>) -> Result<Exit, Failure> {
        let declaration = self.client.declare(self.kind, name, &fields).await?;
        self.declared(name, declaration)
    }

    pub async fn change(&self, name: &str, fields: Map<String, Value>) -> Result<Exit, Failure> {
        if fields.is_empty() {
            return Err(Failure::usage("nothing to change was given").advise("--help lists what can be"));
        }
        let declaration = self.client.change(self.kind, name, &fields).await?;
        self.declared(name, declaration)
    }

    pub fn declared(&self, name: &str, declaration: Declaration) -> Result<Exit, Failure> {
        let verb = match declaration.declared {
            Declared::Created => "is created",
            Declared::Changed => "is changed",
            Declared::Unchanged => "is there just so; nothing was changed",
        };
        self.output.say(&declaration, || format!("{} {name} {verb}", self.kind))?;
        Ok(Exit::Done)
    }

    pub async fn list(&self, list: List) -> Result<Exit, Failure> {
        let infos = self.client.list(self.kind, list.pattern.as_deref()).await?;
        if self.output.json {
            self.output.json(&infos)?;
        } else if !infos.is_empty() {
            crate::output::text(&show::table(&infos))?;
        }
        Ok(Exit::Done)
    }

    pub async fn show(&self, name: &str) -> Result<Exit, Failure> {
        let info = self.client.show(self.kind, name).await?;
        self.output.say(&info, || show::details(&info))?;
        Ok(Exit::Done)
    }

    pub async fn delete(&self, delete: Delete) -> Result<Exit, Failure> {
        let Delete { name, if_unused, if_empty, if_exists } = delete;
        let removed = match self.client.delete(self.kind, &name, if_unused, if_empty).await {
            Err(failure) if failure.exit == Exit::NotFound && if_exists => {
                self.output.say(&Removed::default(), || format!("there is no {} {name}", self.kind))?;
                return Ok(Exit::Done);
            }
            other => other?,
        };
        self.output.say(&removed, || {
            let messages = match removed.removed {
                0 => String::new(),
                count => format!(" with {}", show_messages(count)),
            };
            format!("{} {name} is deleted{messages}", self.kind)
        })?;
        Ok(Exit::Done)
    }

    async fn seek(
        &self,
        name: &str,
        to: Value,
        topic: Option<&str>,
        partition: Option<u32>,
    ) -> Result<Exit, Failure> {
        let request = match (topic, partition) {
            (None, None) => SeekRequest { start: serde_json::from_value(to).ok(), positions: None },
            _ => {
                let Info::Subscription(info) = self.client.show(self.kind, name).await? else {
                    unreachable!("a subscription was asked for")
                };
                let positions = positions(&info, &to, topic, partition)?;
                SeekRequest { start: None, positions: Some(positions) }
            }
        };
        let _: Value = self.client.post(self.kind, name, "seek", &request).await?;
        self.output.say(&json!({"moved": true}), || format!("subscription {name} is moved"))?;
        Ok(Exit::Done)
    }
}

/// The chosen partitions of what a subscription reads, each at the given offset.
fn positions(
    info: &SubscriptionInfo,
    to: &Value,
    topic: Option<&str>,
    partition: Option<u32>,
) -> Result<Vec<SeekPosition>, Failure> {
    let Some(offset) = to.get("offset").and_then(Value::as_u64) else {
        return Err(Failure::usage("a single topic or partition is moved to an offset")
            .advise("write --to offset:N, or leave --topic and --partition out"));
    };
    let chosen = info.sources.iter().filter(|source| {
        topic.map_or(source.topic.redriven_to().is_none(), |topic| source.topic.as_str() == topic)
            && partition.is_none_or(|it| source.partition == it)
    });
    let positions: Vec<SeekPosition> = chosen
        .map(|source| SeekPosition { topic: source.topic.to_string(), partition: source.partition, offset })
        .collect();
    match positions.is_empty() {
        true => {
            Err(Failure::new(Exit::NotFound, format!("subscription {} reads no such partition", info.name)))
        }
        false => Ok(positions),
    }
}
