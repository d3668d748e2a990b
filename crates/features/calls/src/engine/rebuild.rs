//! How does the engine come to know its calls again? It reads the topic from its beginning: the latest record of each call wins.

use waystation_base::Tag;
use waystation_broker::{Kind, Refusal};
use waystation_host::{Browse, Delivery, Target};

use super::Engine;
use crate::{
    Error,
    names::{self, own},
    record::{self, Record},
};

/// Records that are read at a time.
const PAGE: usize = 4_096;
/// Bytes of them.
const PAGE_BYTES: usize = 16 << 20;

impl Engine {
    /// Reads operations and calls, if there are any.
    pub(super) async fn rebuild(&mut self) -> Result<(), Error> {
        self.read_operations().await?;
        match self.broker.topic(own(names::CALLS)).await {
            Ok(_) => {}
            // Nothing was ever called.
            Err(Refusal::NotFound { kind: Kind::Topic, .. }) => return Ok(()),
            Err(refusal) => return Err(refusal.into()),
        }
        let mut from: Option<Tag> = None;
        loop {
            let browse = Browse { from, max: PAGE, bytes_max: PAGE_BYTES, ..Browse::default() };
            let page = self.broker.browse(Target::Topic(own(names::CALLS)), browse).await?;
            for delivery in page.messages {
                self.read_back(&delivery);
            }
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        tracing::info!(calls = self.index.len(), "the calls are read");
        self.set_up().await?;
        self.attach().await;
        self.listen_to_intakes().await;
        Ok(())
    }

    fn read_back(&mut self, delivery: &Delivery) {
        let message = &delivery.message;
        let Some(id) = record::id_of(message.key.as_ref()) else { return };
        if message.body.is_empty() {
            return self.index.forget(id);
        }
        match Record::read(&message.body) {
            Ok((record, _)) => self.index.put(&record, delivery.offset),
            Err(error) => {
                tracing::error!(%id, offset = %delivery.offset, %error, "a call's record cannot be read")
            }
        }
    }
}
