//! What does a table on a topic say now? Read from the topic's beginning when it is first asked, and then as far as it has grown since, each
//! time that it is asked: a change is seen by every message that is looked at after it was stored.

use std::{
    collections::HashMap,
    mem::size_of,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value as Json;
use waystation_base::{Message, Millis, Name, Offset, Tag};
use waystation_broker::Refusal;
use waystation_host::{Broker, Browse, Page, Target};

use crate::{
    Fault, FaultKind, Tools,
    limits::{
        TABLE_AGAIN_MS, TABLE_BYTES_MAX, TABLE_ENTRIES_MAX, TABLE_ENTRY_BYTES_MAX, TABLES_BYTES_MAX,
        TABLES_MAX,
    },
};

/// Messages and bytes of one page that is read.
const PAGE: (usize, usize) = (1_000, 4 << 20);

/// All tables of a server, by their topics.
#[derive(Clone, Default)]
pub struct Tables {
    all: Arc<Mutex<HashMap<Name, Arc<tokio::sync::Mutex<Table>>>>>,
    room: Room,
}

/// What all tables hold together, in bytes.
#[derive(Clone, Default)]
struct Room(Arc<AtomicUsize>);

/// One table, and how far its topic has been read.
struct Table {
    entries: HashMap<String, Arc<[String]>>,
    bytes: usize,
    /// Counts [`Table::bytes`] among what all tables hold.
    room: Room,
    next: Vec<Offset>,
    /// It was too large, and holds nothing.
    past: Option<Past>,
}

/// Which limit a table was past, and when that was seen.
#[derive(Clone, Copy, Debug)]
struct Past {
    limit: usize,
    what: &'static str,
    at: Millis,
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
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= TABLES_MAX && !all.contains_key(topic) {
                all.clear();
            }
            let new = || Arc::new(tokio::sync::Mutex::new(Table::new(self.room.clone())));
            all.entry(topic.clone()).or_insert_with(new).clone()
        };
        let mut table = table.lock().await;
        table.catch_up(broker, topic, tools.clock.now()).await.map_err(|refusal| {
            let reason = format!("the table {topic} cannot be read: {refusal}");
            Fault::new(FaultKind::Unreachable, reason)
        })?;
        table.find(topic, key)
    }
}

impl Table {
    fn new(room: Room) -> Table {
        Table { entries: HashMap::new(), bytes: 0, room, next: Vec::new(), past: None }
    }

    fn find(&self, topic: &Name, key: &str) -> Result<Option<Arc<[String]>>, Fault> {
        let Some(Past { limit, what, .. }) = self.past else { return Ok(self.entries.get(key).cloned()) };
        let seconds = TABLE_AGAIN_MS / 1000;
        Err(Fault::limit(format!(
            "the table {topic} has more than {limit} {what}: take entries away, or part it into several topics; it is read again \
             {seconds} seconds later"
        )))
    }

    async fn catch_up(&mut self, broker: &Broker, topic: &Name, now: Millis) -> Result<(), Refusal> {
        let info = broker.topic(topic.clone()).await?;
        let is_anew =
            info.partitions.iter().zip(&self.next).any(|(partition, next)| partition.end_offset < next.0);
        // A topic that was made anew begins again.
        if is_anew || self.past.is_some_and(|past| past.at.plus(TABLE_AGAIN_MS) <= now) {
            *self = Table::new(self.room.clone());
        }
        self.next.resize(info.partitions.len(), Offset(0));
        for (number, partition) in info.partitions.iter().enumerate() {
            loop {
                let from = Offset(self.next[number].0.max(partition.start_offset));
                if self.past.is_some() || from.0 >= partition.end_offset {
                    break;
                }
                let page = read(broker, topic, number as u16, from).await?;
                self.next[number] = after(&page, Offset(partition.end_offset));
                page.messages.iter().for_each(|delivery| self.take(&delivery.message, now));
            }
        }
        Ok(())
    }

    /// An entry that cannot be read is as if it were not there: nobody waits here whom one could tell. What it would replace goes.
    fn take(&mut self, message: &Message, now: Millis) {
        let Some(key) = message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else { return };
        if self.past.is_some() {
            return;
        }
        let addresses = addresses(&message.body);
        let (more, old) = match addresses.is_empty() {
            true => (0, self.entries.remove(key)),
            false => (cost(key, &addresses), self.entries.insert(key.to_owned(), addresses.into())),
        };
        self.count(more, old.map_or(0, |old| cost(key, &old)));
        let limits = [
            (self.entries.len(), TABLE_ENTRIES_MAX, "entries"),
            (self.bytes, TABLE_BYTES_MAX, "bytes"),
            (self.room.0.load(Ordering::Relaxed), TABLES_BYTES_MAX, "bytes together with the other tables"),
        ];
        if let Some((_, limit, what)) = limits.into_iter().find(|(have, limit, _)| have > limit) {
            self.count(0, self.bytes);
            self.entries = HashMap::new();
            self.past = Some(Past { limit, what, at: now });
        }
    }

    fn count(&mut self, more: usize, less: usize) {
        self.bytes = self.bytes + more - less;
        self.room.0.fetch_add(more, Ordering::Relaxed);
        self.room.0.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.count(0, self.bytes);
    }
}

/// What an entry says; none if it says nothing that can be understood.
fn addresses(body: &[u8]) -> Vec<String> {
    let is_small = body.len() <= TABLE_ENTRY_BYTES_MAX;
    match serde_json::from_slice(if is_small { body } else { b"" }) {
        Ok(Json::String(one)) => vec![one],
        Ok(Json::Array(all)) => all.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

async fn read(broker: &Broker, topic: &Name, partition: u16, from: Offset) -> Result<Page, Refusal> {
    let (max, bytes_max) = PAGE;
    let browse = Browse {
        from: Some(Tag::new(partition, from)),
        partition: Some(partition.into()),
        max,
        bytes_max,
        ..Browse::default()
    };
    broker.browse(Target::Topic(topic.clone()), browse).await
}

/// Where to go on after a page of a partition that ended at `end`. A page may hold nothing though there is more behind it: what was
/// compacted away is looked through in pages too.
fn after(page: &Page, end: Offset) -> Offset {
    let last = page.messages.last().map(|last| last.offset.next());
    page.next.map(Tag::offset).or(last.max(Some(end))).unwrap_or(end)
}

/// Bytes that an entry takes.
fn cost(key: &str, addresses: &[String]) -> usize {
    let held = |text: &str| text.len() + size_of::<String>();
    held(key) + size_of::<Arc<[String]>>() + addresses.iter().map(|address| held(address)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waystation_base::MessageId;

    use super::*;

    const NOW: Millis = Millis(7);

    fn topic() -> Name {
        Name::new("table").expect("a name")
    }

    fn entry(key: &str, body: impl Into<Bytes>) -> Message {
        let message = Message::new(MessageId::default(), Millis(0), body.into());
        Message { key: Some(Bytes::copy_from_slice(key.as_bytes())), ..message }
    }

    /// An entry that takes so many bytes.
    fn costing(key: &str, bytes: usize) -> Message {
        let most = TABLE_ENTRY_BYTES_MAX / 2;
        let mut addresses = Vec::new();
        while cost(key, &addresses) + size_of::<String>() < bytes {
            let left = bytes - cost(key, &addresses) - size_of::<String>();
            addresses.push("a".repeat(left.min(most)));
        }
        assert_eq!(cost(key, &addresses), bytes);
        entry(key, serde_json::to_vec(&addresses).expect("JSON"))
    }

    /// A table that is full to the last byte.
    fn full(room: &Room) -> Table {
        let mut table = Table::new(room.clone());
        let part = TABLE_BYTES_MAX / 256;
        (0..256).for_each(|number| table.take(&costing(&number.to_string(), part), NOW));
        assert_eq!((table.bytes, table.past.is_none()), (TABLE_BYTES_MAX, true));
        table
    }

    #[test]
    fn the_latest_entry_of_a_key_counts_and_one_that_says_nothing_takes_it_away() {
        let mut table = Table::new(Room::default());
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
            table.take(&entry("k", body), NOW);
            assert_eq!(
                found(&table),
                expected.map(|all| all.into_iter().map(str::to_owned).collect()),
                "{body}"
            );
        }
        assert_eq!(table.bytes, 0);
    }

    #[test]
    fn entries_are_bounded_at_table_entries_max() {
        let mut table = Table::new(Room::default());
        (0..TABLE_ENTRIES_MAX).for_each(|number| table.take(&entry(&number.to_string(), r#""a""#), NOW));
        assert!(table.find(&topic(), "0").is_ok_and(|found| found.is_some()));
        table.take(&entry("one more", r#""a""#), NOW);
        assert!(table.find(&topic(), "0").is_err());
    }

    #[test]
    fn bytes_are_bounded_at_table_bytes_max() {
        let room = Room::default();
        let mut table = full(&room);
        table.take(&entry("0", ""), NOW);
        table.take(&costing("0", TABLE_BYTES_MAX / 256), NOW);
        assert!(
            table.find(&topic(), "0").is_ok_and(|found| found.is_some()),
            "what was replaced counts no more"
        );
        table.take(&costing("0", TABLE_BYTES_MAX / 256 + 1), NOW);
        let fault = table.find(&topic(), "1").expect_err("past it").reason;
        assert!(fault.contains(&format!("more than {TABLE_BYTES_MAX} bytes")), "{fault}");
        assert_eq!((table.bytes, room.0.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(table.past.map(|past| past.at), Some(NOW));
    }

    #[test]
    fn all_tables_together_are_bounded_at_tables_bytes_max() {
        let room = Room::default();
        let all: Vec<Table> = (0..TABLES_BYTES_MAX / TABLE_BYTES_MAX).map(|_| full(&room)).collect();
        let mut one_more = Table::new(room.clone());
        one_more.take(&entry("k", r#""a""#), NOW);
        assert!(one_more.find(&topic(), "k").is_err());
        drop(all);
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_entry_is_read_up_to_table_entry_bytes_max() {
        let padded = |bytes: usize| addresses(&[br#""a""#, &b" ".repeat(bytes - 3)[..]].concat());
        assert_eq!(padded(TABLE_ENTRY_BYTES_MAX), ["a"]);
        assert_eq!(padded(TABLE_ENTRY_BYTES_MAX + 1), [""; 0]);
    }

    #[test]
    fn reading_goes_on_where_a_page_says_though_it_holds_nothing() {
        let page =
            |next: Option<u64>| Page { next: next.map(|at| Tag::new(0, Offset(at))), ..Page::default() };
        assert_eq!(after(&page(Some(7)), Offset(9)), Offset(7));
        assert_eq!(after(&page(None), Offset(9)), Offset(9));
    }
}
