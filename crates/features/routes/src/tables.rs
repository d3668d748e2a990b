//! What does a table on a topic say now? Read from the topic's beginning when it is first asked, and then as far as it has grown since, each
//! time that it is asked: a change is seen by every message that is looked at after it was stored.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value as Json;
use waystation_base::{Message, Name, Offset, Tag};
use waystation_broker::Refusal;
use waystation_host::{Broker, Browse, Target};

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
    /// It had too many entries, and holds none.
    is_past: bool,
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
            Fault::new(FaultKind::Unreachable, reason)
        })?;
        table.find(topic, key)
    }
}

impl Table {
    fn find(&self, topic: &Name, key: &str) -> Result<Option<Arc<[String]>>, Fault> {
        match self.is_past {
            false => Ok(self.entries.get(key).cloned()),
            true => {
                let reason = format!(
                    "the table {topic} had more than {TABLE_ENTRIES_MAX} entries; it is read again when the server starts"
                );
                Err(Fault::limit(reason))
            }
        }
    }

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
        page.messages.iter().for_each(|delivery| self.take(&delivery.message));
        Ok(())
    }

    /// An entry that cannot be read is as if it were not there: nobody waits here whom one could tell. What it would replace goes.
    fn take(&mut self, message: &Message) {
        let Some(key) = message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else { return };
        let addresses: Vec<String> = match serde_json::from_slice(&message.body) {
            Ok(Json::String(one)) => vec![one],
            Ok(Json::Array(all)) => all.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        match addresses.is_empty() {
            true => drop(self.entries.remove(key)),
            false => drop(self.entries.insert(key.to_owned(), addresses.into())),
        }
        if self.entries.len() > TABLE_ENTRIES_MAX {
            self.is_past = true;
            self.entries = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waystation_base::{MessageId, Millis};

    use super::*;

    fn topic() -> Name {
        Name::new("table").expect("a name")
    }

    fn entry(key: &str, body: &'static str) -> Message {
        let message = Message::new(MessageId::default(), Millis(0), Bytes::from(body));
        Message { key: Some(Bytes::copy_from_slice(key.as_bytes())), ..message }
    }

    #[test]
    fn the_latest_entry_of_a_key_counts_and_one_that_says_nothing_takes_it_away() {
        let mut table = Table::default();
        let found = |table: &Table| table.find(&topic(), "k").expect("few").map(|it| it.to_vec());
        for (body, expected) in [
            (r#""a""#, Some(vec!["a"])),
            (r#"["b","c"]"#, Some(vec!["b", "c"])),
            ("[]", None),
            (r#""d""#, Some(vec!["d"])),
            ("", None),
            (r#""e""#, Some(vec!["e"])),
            ("{", None),
        ] {
            table.take(&entry("k", body));
            assert_eq!(
                found(&table),
                expected.map(|all| all.into_iter().map(str::to_owned).collect()),
                "{body}"
            );
        }
    }

    #[test]
    fn entries_are_bounded_at_table_entries_max() {
        let mut table = Table::default();
        (0..TABLE_ENTRIES_MAX).for_each(|number| table.take(&entry(&number.to_string(), r#""a""#)));
        assert!(table.find(&topic(), "0").is_ok_and(|found| found.is_some()));
        table.take(&entry("one more", r#""a""#));
        assert!(table.find(&topic(), "0").is_err());
    }
}
