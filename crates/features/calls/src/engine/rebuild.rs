//! How does the engine come to know its calls again? It reads the pages of its index, and then the records that they do not know;
//! without pages all records, of which the latest of each call wins.

use waystation_base::{Name, Offset, Tag};
use waystation_broker::{Kind, Refusal};
use waystation_host::{Broker, Browse, Delivery, Target};

use super::Engine;
use crate::{
    Error,
    index::Index,
    names::{self, own},
    page::{self, Page},
    record::{self, Record},
};

/// Messages that are read at a time.
const PAGE: usize = 4_096;
/// Bytes of them.
const PAGE_BYTES: usize = 16 << 20;

impl Engine {
    /// Reads operations and calls, if there are any.
    pub(super) async fn rebuild(&mut self) -> Result<(), Error> {
        self.read_operations().await?;
        if !is_there(&self.broker, names::CALLS).await? {
            // Nothing was ever called.
            return Ok(());
        }
        let mut from = Offset(0);
        if is_there(&self.broker, names::INDEX).await? {
            match self.read_pages().await? {
                Ok(end) => {
                    from = end;
                    self.pages.marked(end);
                }
                Err(error) => {
                    tracing::error!(%error, "the index of calls cannot be read; all records are read instead");
                }
            }
        }
        let mut records = 0;
        self.each(names::CALLS, from, |engine, delivery| {
            if records == 0 {
                engine.pages.behind_since(delivery.message.timestamp);
            }
            records += 1;
            engine.read_back(delivery);
        })
        .await?;
        self.shared.figures.read_at_start(records);
        tracing::info!(calls = self.index.len(), records, "the calls are read");
        self.set_up().await?;
        self.attach().await;
        self.listen_to_intakes().await;
        Ok(())
    }

    /// Reads a topic of ours from an offset on.
    async fn each(
        &mut self,
        topic: &str,
        from: Offset,
        mut take: impl FnMut(&mut Engine, &Delivery),
    ) -> Result<(), Error> {
        let topic: Name = own(topic);
        let mut from = Some(Tag::new(0, from));
        while from.is_some() {
            let browse = Browse { from, max: PAGE, bytes_max: PAGE_BYTES, ..Browse::default() };
            let page = self.broker.browse(Target::Topic(topic.clone()), browse).await?;
            page.messages.iter().for_each(|delivery| take(self, delivery));
            from = page.next;
        }
        Ok(())
    }

    /// Reads the pages; gives the first offset that they may not know.
    async fn read_pages(&mut self) -> Result<Result<Offset, page::Error>, Error> {
        let (mut known, mut spans) = (Ok(Offset(0)), Vec::new());
        self.each(names::INDEX, Offset(0), |engine, delivery| {
            if let Some(page::Kind::Page(span)) = page::kind_of(delivery.message.key.as_ref()) {
                spans.push(span);
            }
            if let Ok(end) = &mut known
                && let Err(error) = engine.read_page(delivery, end)
            {
                known = Err(error);
            }
        })
        .await?;
        let end =
            self.broker.topic(own(names::CALLS)).await?.partitions.first().map_or(0, |it| it.end_offset);
        if let Ok(mark) = known
            && mark.0 > end
        {
            known = Err(page::Error::Ahead { mark, end: Offset(end) });
        }
        if known.as_ref().map_or(true, |mark| *mark == Offset(0)) {
            // They were never finished, or are of no use: each is to be written anew, or to go.
            self.index = Index::default();
            self.index.put_back_dirty(spans, 0);
        }
        Ok(known)
    }

    fn read_page(&mut self, delivery: &Delivery, end: &mut Offset) -> Result<(), page::Error> {
        let message = &delivery.message;
        match page::kind_of(message.key.as_ref()) {
            Some(page::Kind::Mark) => *end = page::read_mark(&message.body)?,
            Some(page::Kind::Page(span)) if message.body.is_empty() => {
                self.index.put_page(span, Page::default());
            }
            Some(page::Kind::Page(span)) => self.index.put_page(span, Page::read(span, &message.body)?),
            None => {}
        }
        Ok(())
    }

    fn read_back(&mut self, delivery: &Delivery) {
        let message = &delivery.message;
        let Some(id) = record::id_of(message.key.as_ref()) else { return };
        if message.body.is_empty() {
            return self.index.forget(id, delivery.offset);
        }
        match Record::read(&message.body) {
            Ok((record, _)) => self.index.put_found(&record, delivery.offset),
            Err(error) => {
                tracing::error!(%id, offset = %delivery.offset, %error, "a call's record cannot be read")
            }
        }
    }
}

async fn is_there(broker: &Broker, topic: &str) -> Result<bool, Error> {
    match broker.topic(own(topic)).await {
        Ok(_) => Ok(true),
        Err(Refusal::NotFound { kind: Kind::Topic, .. }) => Ok(false),
        Err(refusal) => Err(refusal.into()),
    }
}
