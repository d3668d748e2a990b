//! One step back: messages of a redrive that nobody was given yet become the dead letters again that they were.

use std::collections::{BTreeMap, HashMap};

use waystation_base::{Attempt, Message, Name, Tag, filter::Filter, message::header};
use waystation_broker::{
    Kind, Refusal, Source,
    command::{Payload, Publish, Settle, Transaction},
};
use waystation_host::{Browse, Delivery, Target};

use super::{
    forward::withdrawn,
    outgoing,
    record::{ORIGINALS, own},
    work::{Step, Work},
};
use crate::limits::{BATCH_BYTES, BATCH_MESSAGES, LOOK_BYTES, LOOK_MESSAGES};

/// Where messages are kept as they were, by their keys.
pub(super) type Originals = HashMap<bytes::Bytes, Tag>;

/// A message on its way back.
struct Back {
    delivery: Delivery,
    to: Name,
    letter: Message,
}

impl Work {
    pub(super) async fn undo_step(&mut self) -> Result<Step, Refusal> {
        let Some(place) = self.record.walk.queue().cloned() else { return Ok(Step::Finished) };
        let (source, target) = whose(&place);
        if self.record.redrive.spec.edit.is_some() && self.originals.is_none() {
            self.originals = Some(self.find_originals().await?);
        }
        let id = self.record.redrive.id.clone();
        let filter = Some(Filter::Exact(BTreeMap::from([(header::REDRIVE.to_owned(), id)])));
        let from = self.record.walk.from();
        let browse = Browse { from, max: self.batch, bytes_max: BATCH_BYTES, filter, ..Browse::default() };
        let page = match self.broker.browse(target, browse).await {
            Err(Refusal::NotFound { kind: Kind::Queue | Kind::Subscription, .. }) => {
                self.record.walk.go_on(None);
                return Ok(Step::Moved(0));
            }
            page => page?,
        };
        let mut back = Vec::new();
        let mut record = self.record.clone();
        record.walk.go_on(page.next);
        // What was handed out once may have been worked on, and what came later was not moved by this redrive.
        let is_untaken = |one: &Delivery| one.attempt == Attempt(0) && self.record.walk.has(one.tag);
        let untaken: Vec<Delivery> = page.messages.into_iter().filter(is_untaken).collect();
        for delivery in untaken {
            match self.as_it_was(&delivery.message).await? {
                Ok((to, letter)) => back.push(Back { delivery, to, letter }),
                Err(reason) => record.redrive.leave(reason, 1),
            }
        }
        self.move_back(source, record, back).await
    }

    async fn move_back(
        &mut self,
        source: Source,
        mut record: super::record::Record,
        mut back: Vec<Back>,
    ) -> Result<Step, Refusal> {
        while !back.is_empty() {
            let mut undone = record.clone();
            undone.redrive.undone += back.len() as u64;
            match self.commit(undone, transaction(&source, &back)).await {
                Ok(_) => return Ok(Step::Moved(back.len())),
                Err(Refusal::NotWaiting { tag }) => back.retain(|one| one.delivery.tag != tag),
                Err(Refusal::NotFound { name, .. }) => {
                    let before = back.len();
                    back.retain(|one| one.to.as_str() != name);
                    if before == back.len() {
                        return Ok(Step::Wait(format!("'{name}' does not exist")));
                    }
                    record.redrive.leave(
                        "the queue that it came from does not exist any more",
                        (before - back.len()) as u64,
                    );
                }
                Err(refusal @ (Refusal::Full { .. } | Refusal::TooLarge { .. })) => {
                    self.batch = (back.len() / 2).clamp(1, BATCH_MESSAGES);
                    return Ok(Step::Wait(refusal.to_string()));
                }
                Err(refusal @ (Refusal::Draining | Refusal::Stopped(_))) => return Err(refusal),
                Err(refusal) => return Ok(Step::Wait(refusal.to_string())),
            }
        }
        self.record = record;
        Ok(Step::Moved(0))
    }

    /// The queue that a message came from, and what it was there.
    async fn as_it_was(&self, message: &Message) -> Result<Result<(Name, Message), &'static str>, Refusal> {
        let Some(to) = outgoing::taken_from(message) else {
            return Ok(Err("it does not say where it came from"));
        };
        // Headers are for every sender to write: whoever may publish to where a redrive brought its messages may not, by that, let
        // the server publish elsewhere.
        if !self.record.redrive.queues.contains(&to) {
            return Ok(Err("it did not come from a queue of this redrive"));
        }
        let id = &self.record.redrive.id;
        let Some(key) = message.headers.text(header::REDRIVE_ORIGINAL) else {
            return Ok(Ok((to, outgoing::undone(message, id))));
        };
        let at = self.originals.as_ref().and_then(|originals| originals.get(key.as_bytes())).copied();
        let Some(at) = at else { return Ok(Err("what it was before it was edited is not kept any more")) };
        let browse = Browse { from: Some(at), max: 1, bytes_max: BATCH_BYTES, ..Browse::default() };
        let page = self.broker.browse(Target::Topic(own(ORIGINALS)), browse).await?;
        let kept = page.messages.into_iter().find(|kept| kept.tag == at);
        let Some(kept) = kept else {
            return Ok(Err("what it was before it was edited is not kept any more"));
        };
        let mut letter = outgoing::unkept(kept.message);
        letter.headers.set(header::REDRIVE_UNDONE, id.as_str());
        Ok(Ok((to, letter)))
    }

    /// Where this redrive's messages are kept as they were.
    async fn find_originals(&self) -> Result<Originals, Refusal> {
        let mine =
            Filter::Prefix(BTreeMap::from([("key".to_owned(), format!("{}/", self.record.redrive.id))]));
        let (mut originals, mut from) = (Originals::new(), None);
        loop {
            let filter = Some(mine.clone());
            let browse =
                Browse { from, max: LOOK_MESSAGES, bytes_max: LOOK_BYTES, filter, ..Browse::default() };
            let page = self.broker.browse(Target::Topic(own(ORIGINALS)), browse).await?;
            originals
                .extend(page.messages.into_iter().filter_map(|kept| Some((kept.message.key?, kept.tag))));
            from = page.next;
            if from.is_none() {
                return Ok(originals);
            }
        }
    }
}

/// What a place of the walk is settled and looked at by.
fn whose(place: &Name) -> (Source, Target) {
    match place.redriven_to().and_then(|subscription| Name::new(subscription).ok()) {
        Some(name) => (Source::Subscription(name.clone()), Target::Subscription(name)),
        None => (Source::Queue(place.clone()), Target::Queue(place.clone())),
    }
}

fn transaction(source: &Source, back: &[Back]) -> Transaction {
    let mut by_queue: BTreeMap<&Name, Vec<Message>> = BTreeMap::new();
    for one in back {
        by_queue.entry(&one.to).or_default().push(one.letter.clone());
    }
    let publish = |(to, messages): (&Name, Vec<Message>)| Publish {
        to: to.clone().into(),
        partition: None,
        payload: Payload::Messages(messages),
    };
    let settlements = back.iter().map(|one| withdrawn(&one.delivery)).collect();
    let settle = Settle { source: source.clone(), settlements };
    Transaction { publishes: by_queue.into_iter().map(publish).collect(), settlements: vec![settle] }
}
