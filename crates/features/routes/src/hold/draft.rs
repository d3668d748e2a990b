//! A transaction of a step that holds messages: what leaves, what is settled for it, and what is noted.

use std::collections::BTreeMap;

use waystation_base::{Message, Millis, Name};
use waystation_broker::{
    Source,
    command::{Outcome, Payload, Publish, Settle, Settlement, Target, Transaction},
};
use waystation_host::Delivery;

use crate::{ids::Ids, live::Fate, record, spec::Destination};

/// A held message: from which of the step's sources, and as it was delivered.
#[derive(Debug)]
pub struct Held {
    pub source: usize,
    pub delivery: Delivery,
}

/// What is to be done in one transaction.
pub struct Draft {
    pub ids: Ids,
    pub now: Millis,
    outputs: BTreeMap<Destination, Vec<Message>>,
    records: Vec<Message>,
    settlements: [Vec<Settlement>; 2],
    pub fates: Vec<Fate>,
}

impl Draft {
    pub fn new(ids: Ids, now: Millis) -> Draft {
        let (outputs, records, settlements) = (BTreeMap::new(), Vec::new(), [Vec::new(), Vec::new()]);
        Draft { ids, now, outputs, records, settlements, fates: Vec::new() }
    }

    /// Adds a message, with an id of its own; gives that.
    pub fn send(&mut self, to: &Destination, message: Message) -> String {
        let message = Message { id: self.ids.next(), ..message };
        let id = message.id.to_string();
        self.outputs.entry(to.clone()).or_default().push(message);
        id
    }

    /// Adds a record.
    pub fn note(&mut self, record: &record::Record) {
        self.records.push(record.message(self.ids.next()));
    }

    /// It is done with.
    pub fn settle(&mut self, held: &Held) {
        self.settlements[held.source].push(held.delivery.settlement(Outcome::Accepted));
    }

    /// The transaction; `sources` as the held ones number them.
    pub fn transaction(self, sources: &[Source]) -> (Transaction, Vec<Fate>) {
        let publish =
            |to: Target, messages| Publish { to, partition: None, payload: Payload::Messages(messages) };
        let outputs = self.outputs.into_iter().map(|(to, messages)| publish(to.target(), messages));
        let records =
            (!self.records.is_empty()).then(|| publish(Target::Address(record::topic()), self.records));
        let settlements = sources.iter().cloned().zip(self.settlements).filter(|(_, all)| !all.is_empty());
        let settlements = settlements.map(|(source, settlements)| Settle { source, settlements }).collect();
        (Transaction { publishes: outputs.chain(records).collect(), settlements }, self.fates)
    }
}

/// A destination that is an address.
pub fn to(name: &Name) -> Destination {
    Destination::Address(name.clone())
}
