//! What does a table on a topic say now? Read from the topic's beginning when it is first asked, and then as far as it has grown since, each
//! time that it is asked: a change is seen by every message that is looked at after it was stored.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value as Json;
use waystation_base::{Name, Offset, Tag};
use waystation_broker::Refusal;
use waystation_host::{Broker, Browse, Delivery, Target};

use crate::{
    Fault, FaultKind, Tools,
    limits::{TABLE_ENTRIES_MAX, TABLES_MAX},
};

/// Messages and bytes of one page that is read.
const PAGE: (usize, usize) = (1_000, 4 << 20);

/// All tables of a server, by their topics.
#[derive(Clone, Default)]
pub struct Tables(Arc<Mutex<HashMap<Name, Arc<tokio::sync::Mutex<Table>>>>>);

/// One table, and how far its topic has been read.
#[derive(Default)]
struct Table {
    entries: HashMap<String, Arc<[String]>>,
    next: Vec<Offset>,
}

impl Tables {
    /// Where messages of this key go; none: nobody says so.
    pub(crate) async fn look_up(
        &self,
        tools: &Tools,
        topic: &Name,
        key: &str,
    ) -> Result<Option<Arc<[String]>>, Fault> {
        let Some(broker) = &tools.broker else { return Err(Fault::invalid("there are no topics here")) };
        let table = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= TABLES_MAX && !all.contains_key(topic) {
                all.clear();
            }
            all.entry(topic.clone()).or_default().clone()
        };
        let mut table = table.lock().await;
        table.catch_up(broker, topic).await.map_err(|refusal| {
            let reason = format!("the table {topic} cannot be read: {refusal}");
            Fault::new(FaultKind::Passing, reason)
        })?;
        if table.entries.len() > TABLE_ENTRIES_MAX {
            return Err(Fault::limit(format!("the table {topic} has more than {TABLE_ENTRIES_MAX} entries")));
        }
        Ok(table.entries.get(key).cloned())
    }
}

impl Table {
    async fn catch_up(&mut self, broker: &Broker, topic: &Name) -> Result<(), Refusal> {
        let info = broker.topic(topic.clone()).await?;
        // A topic that was made anew begins again.
        if info.partitions.iter().zip(&self.next).any(|(partition, next)| partition.end_offset < next.0) {
            *self = Table::default();
        }
        self.next.resize(info.partitions.len(), Offset(0));
        for (number, partition) in info.partitions.iter().enumerate() {
            while self.next[number].0.max(partition.start_offset) < partition.end_offset {
                let from = Offset(self.next[number].0.max(partition.start_offset));
                self.read(broker, topic, number, from, Offset(partition.end_offset)).await?;
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        broker: &Broker,
        topic: &Name,
        partition: usize,
        from: Offset,
        end: Offset,
    ) -> Result<(), Refusal> {
        let (max, bytes_max) = PAGE;
        let number = partition as u16;
        let browse = Browse {
            from: Some(Tag::new(number, from)),
            partition: Some(number.into()),
            max,
            bytes_max,
            ..Browse::default()
        };
        let page = broker.browse(Target::Topic(topic.clone()), browse).await?;
        self.next[partition] = match (page.messages.last(), page.next) {
            (Some(last), _) => Offset(last.offset.0 + 1),
            // What lay between was compacted away.
            (None, _) => end,
        };
        page.messages.iter().for_each(|delivery| self.take(delivery));
        Ok(())
    }

    /// An entry that cannot be read is as if it were not there: nobody waits here whom one could tell. What it would replace goes.
    fn take(&mut self, delivery: &Delivery) {
        let message = &delivery.message;
        let Some(key) = message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else { return };
        let addresses: Vec<String> = match serde_json::from_slice(&message.body) {
            Ok(Json::String(one)) => vec![one],
            Ok(Json::Array(all)) => all.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        match addresses.is_empty() {
            true => self.entries.remove(key),
            false => self.entries.insert(key.to_owned(), addresses.into()),
        };
    }
}
