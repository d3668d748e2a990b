//! How are operations declared and removed, and what of ours is made with the first one?

use std::sync::Arc;

use bytes::Bytes;
use waystation_base::{Name, limits::NAME_BYTES_MAX};
use waystation_broker::{
    Kind, Refusal, SessionId,
    effect::Declared,
    spec::{QueueSpec, Spec, TopicSpec},
};
use waystation_host::Broker;

use super::Engine;
use crate::{
    Error, Operation, SpecError,
    limits::{GONE_MS, LATE_BYTES, LATE_MS, UPSTREAMS_MAX},
    names::{self, own},
    operation::upstream_error,
    stored,
};

/// The document that keeps an operation.
fn document(name: &Name) -> Name {
    // The prefix is short and the name bounded.
    debug_assert!(names::OPERATION_PREFIX.len() + name.as_str().len() < NAME_BYTES_MAX);
    own(&format!("{}{name}", names::OPERATION_PREFIX))
}

impl Engine {
    /// Makes the topics and queues of this crate, if they are not there.
    pub(super) async fn set_up(&mut self) -> Result<(), Error> {
        let calls = TopicSpec { compact: true, tombstone_retention_ms: GONE_MS, ..TopicSpec::default() };
        let late = TopicSpec {
            retention_ms: Some(LATE_MS),
            retention_bytes: Some(LATE_BYTES),
            ..TopicSpec::default()
        };
        for (name, spec) in [
            (names::CALLS, Spec::Topic(calls.clone())),
            (names::REQUESTS, Spec::Topic(calls.clone())),
            (names::INDEX, Spec::Topic(calls)),
            (names::LATE, Spec::Topic(late.clone())),
            (names::REFUSED, Spec::Topic(late)),
            (names::REPLIES, Spec::Queue(QueueSpec::default())),
            (names::CALLBACKS, Spec::Queue(QueueSpec::default())),
        ] {
            self.broker.declare(own(name), spec, true, SessionId::default()).await?;
        }
        self.is_set_up = true;
        Ok(())
    }

    /// What a declaration would come to, as far as that shows without what it names; with it the operation as it would be kept.
    fn weigh(
        &self,
        name: &Name,
        mut operation: Operation,
        change: bool,
    ) -> Result<(Declared, Operation), Error> {
        let present = self.operations.borrow().get(name).cloned();
        let old = present.as_ref().and_then(|present| present.upstream.as_ref());
        if let (Some(new), Some(old)) = (&mut operation.upstream, old) {
            new.inherit(old).map_err(upstream_error)?;
        }
        operation.check(name)?;
        let operation = operation.with_secrets_of(present.as_deref());
        let declared = match present.as_deref() {
            Some(present) if *present == operation => Declared::Unchanged,
            Some(_) if !change => return Err(Error::Differs(name.to_string())),
            Some(_) => Declared::Changed,
            None if self.operations.borrow().len() >= self.limits.operations_max => {
                return Err(Error::Limit { what: "operations", limit: self.limits.operations_max as u64 });
            }
            None => Declared::Created,
        };
        Ok((declared, operation))
    }

    /// The same for who only asks.
    pub(super) fn try_declare(
        &self,
        name: &Name,
        operation: Operation,
        change: bool,
    ) -> Result<Declared, Error> {
        self.weigh(name, operation, change).map(|(declared, _)| declared)
    }

    /// Declares an operation, and its queue if that is not there.
    pub(super) async fn declare(
        &mut self,
        broker: Broker,
        name: Name,
        operation: Operation,
        change: bool,
    ) -> Result<Declared, Error> {
        let (declared, operation) = self.weigh(&name, operation, change)?;
        if declared == Declared::Unchanged {
            return Ok(declared);
        }
        self.check_others(&name, &operation)?;
        if !self.is_set_up {
            self.set_up().await?;
            self.attach().await;
        }
        let wrong =
            |field, error: waystation_base::name::Error| SpecError { field, reason: error.to_string() };
        let queue = operation.queue_name(&name).map_err(|error| wrong("queue", error))?;
        make_queue(&broker, "queue", queue.clone()).await?;
        let attempts = broker.queue(queue.clone()).await?.spec.max_attempts;
        operation.check_queue(&queue, attempts)?;
        if let Some(intake) = operation.intake_name().map_err(|error| wrong("intake", error))? {
            make_queue(&broker, "intake", intake).await?;
        }
        broker.put_document(document(&name), Some(stored::write(&operation)?)).await?;
        self.publish(|all| drop(all.insert(name, Arc::new(operation))));
        self.listen_to_intakes().await;
        Ok(declared)
    }

    /// Removes an operation. Its calls go on, and its queue stays.
    pub(super) async fn remove(&mut self, broker: Broker, name: Name) -> Result<(), Error> {
        if !self.operations.borrow().contains_key(&name) {
            return Err(Error::NoOperation(name.to_string()));
        }
        broker.put_document(document(&name), None).await?;
        self.publish(|all| drop(all.remove(&name)));
        self.listen_to_intakes().await;
        Ok(())
    }

    fn check_others(&self, name: &Name, operation: &Operation) -> Result<(), Error> {
        let all = self.operations.borrow();
        operation.check_beside(name, all.iter().map(|(name, it)| (name, &**it)))?;
        let is_full = || {
            let others = all.iter().filter(|(other, it)| *other != name && it.upstream.is_some());
            others.count() >= UPSTREAMS_MAX
        };
        match operation.upstream.is_some() && is_full() {
            true => Err(Error::Limit { what: "operations with an upstream", limit: UPSTREAMS_MAX as u64 }),
            false => Ok(()),
        }
    }

    fn publish(&self, change: impl FnOnce(&mut std::collections::BTreeMap<Name, Arc<Operation>>)) {
        self.operations.send_modify(|all| change(Arc::make_mut(all)));
    }

    /// Takes over the operations that were declared before.
    pub(super) async fn read_operations(&mut self) -> Result<(), Error> {
        let documents = self.broker.documents(names::OPERATION_PREFIX.to_owned()).await?;
        let read = |(document, body): (Name, Bytes)| {
            let name = Name::new(document.as_str().strip_prefix(names::OPERATION_PREFIX)?).ok()?;
            match stored::read(&body) {
                Ok(operation) => Some((name, Arc::new(operation))),
                Err(error) => {
                    tracing::error!(%name, %error, "the operation cannot be read and is not served");
                    None
                }
            }
        };
        let all: std::collections::BTreeMap<_, _> = documents.into_iter().filter_map(read).collect();
        self.publish(|operations| *operations = all);
        Ok(())
    }
}

/// Makes a queue of an operation, which one of its fields names, if it is not there.
pub(super) async fn make_queue(broker: &Broker, field: &'static str, queue: Name) -> Result<(), Error> {
    let wrong = |reason: String| SpecError { field, reason };
    match broker.queue(queue.clone()).await {
        Ok(_) => return Ok(()),
        Err(Refusal::NotFound { .. }) => {}
        Err(refusal) => return Err(refusal.into()),
    }
    match broker.declare(queue.clone(), Spec::Queue(QueueSpec::default()), false, SessionId::default()).await
    {
        // Somebody else has declared it otherwise just now.
        Ok(_) | Err(Refusal::Exists { kind: Kind::Queue, .. }) => Ok(()),
        Err(Refusal::Exists { kind, .. }) => Err(wrong(format!("'{queue}' is a {kind}")).into()),
        Err(refusal) => Err(refusal.into()),
    }
}
