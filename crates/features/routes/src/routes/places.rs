//! What does a route need around it? Its source, its targets, a place for dead letters, and the queues of steps that hold messages.

use waystation_base::Name;
use waystation_broker::{
    Kind, Refusal, SessionId,
    command::{Counted, Delete},
    spec::{QueueSpec, Spec, SubscriptionSpec},
};

use super::{Entry, Routes, declare::invalid};
use crate::{
    Error, RouteSteps, names,
    spec::{Destination, Needs, Taken},
};

impl Routes {
    /// The source and all that is named as a target are there.
    pub(super) async fn check_places(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        let taken = spec.from.taken(name)?;
        let sends = spec.sends();
        let named = spec.dead_letter.as_deref().and_then(|text| Name::new(text).ok());
        let missing = self.0.broker.query(move |view| {
            let is_address = |name: &Name| view.queue(name).is_some() || view.topic(name).is_some();
            let missing = |kind, name: &Name| Refusal::NotFound { kind, name: name.to_string() };
            match &taken {
                Taken::Queue(name) if view.queue(name).is_none() => return Some(missing(Kind::Queue, name)),
                Taken::Subscription(name) if view.subscription(name).is_none() => {
                    return Some(missing(Kind::Subscription, name));
                }
                _ => {}
            }
            if let Some(name) = named.as_ref().filter(|name| !is_address(name)) {
                return Some(missing(Kind::Queue, name));
            }
            let needed = sends.needs.iter().find_map(|needs| match needs {
                Needs::Replies(name) => view.queue(name).is_none().then(|| missing(Kind::Queue, name)),
                Needs::Store(name) | Needs::Reads(name) => {
                    view.topic(name).is_none().then(|| missing(Kind::Topic, name))
                }
            });
            if needed.is_some() {
                return needed;
            }
            sends.targets.iter().find_map(|target| match target {
                Destination::Address(name) => (!is_address(name)).then(|| missing(Kind::Queue, name)),
                Destination::Route(name, _) => view.route(name).is_none().then(|| missing(Kind::Route, name)),
            })
        });
        missing.await?.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Whoever else took replies from a queue would take those that a gather waits for.
    pub(super) async fn check_replies(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        let own: Vec<(usize, Name)> = spec.replies().collect();
        let entries = self.0.entries.lock().await;
        let others = || entries.iter().filter(|(other, _)| *other != name);
        let from = |spec: &RouteSteps, queue: &Name| spec.from.queue.as_deref() == Some(queue.as_str());
        for (at, (step, queue)) in own.iter().enumerate() {
            let taken = |what: String| {
                let reason =
                    format!("{what} takes from the queue '{queue}': each gather needs one of its own");
                Err(invalid(&format!("steps[{step}].gather.replies"), reason))
            };
            if let Some((before, _)) = own[..at].iter().find(|(_, other)| other == queue) {
                return taken(format!("steps[{before}].gather"));
            }
            if from(spec, queue) {
                return taken("this route itself".to_owned());
            }
            let takes = |entry: &Entry| entry.replies.contains(queue) || from(&entry.document.route, queue);
            if let Some((other, _)) = others().find(|(_, entry)| takes(entry)) {
                return taken(format!("route '{other}'"));
            }
        }
        match others().find(|(_, entry)| entry.replies.iter().any(|queue| from(spec, queue))) {
            None => Ok(()),
            Some((other, _)) => {
                Err(invalid("from.queue", format!("the replies in it are for the gather of route '{other}'")))
            }
        }
    }

    /// Makes the queue for dead letters, unless another address is named.
    pub(super) async fn make_dead_letters(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        let address = spec.dead_letter(name)?;
        let asked = address.clone();
        let is_there = self
            .0
            .broker
            .query(move |view| view.queue(&asked).is_some() || view.topic(&asked).is_some())
            .await?;
        if !is_there {
            let queue = Spec::Queue(QueueSpec::default());
            self.0.broker.declare(address, queue, false, SessionId::default()).await?;
        }
        Ok(())
    }

    /// Makes the queues of steps that hold messages. They stay if the route goes while they hold something: it is not lost, and a
    /// route of that name with such a step takes it up.
    pub(super) async fn make_holds(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        if !spec.holds() {
            return Ok(());
        }
        for plan in &self.compile(name, spec).await?.holds {
            let queue = Spec::Queue(plan.declaration());
            self.0.broker.declare(plan.queue.clone(), queue, true, SessionId::default()).await?;
        }
        Ok(())
    }

    /// Takes away the queues of such steps that are empty, except for those that another declaration has.
    pub(super) async fn drop_holds(
        &self,
        name: &Name,
        spec: &RouteSteps,
        kept: Option<&RouteSteps>,
    ) -> Result<(), Error> {
        if !spec.holds() {
            return Ok(());
        }
        let kept = match kept {
            Some(spec) => Some(self.compile(name, spec).await?),
            None => None,
        };
        let is_kept = |queue: &Name| {
            kept.as_ref().is_some_and(|kept| kept.holds.iter().any(|plan| plan.queue == *queue))
        };
        for plan in self.compile(name, spec).await?.holds.iter().filter(|plan| !is_kept(&plan.queue)) {
            let delete = Delete {
                kind: Kind::Queue,
                name: plan.queue.clone(),
                if_unused: false,
                if_empty: true,
                counted: Counted::All,
                session: SessionId::default(),
            };
            // One that holds something stays.
            if let Err(refusal) = self.0.broker.delete(delete).await {
                tracing::info!(route = %name, queue = %plan.queue, %refusal, "a step's queue stays");
            }
        }
        Ok(())
    }

    /// Makes the route's own subscription what it has to be, or takes it away. A server that died amid a change finds it as either
    /// declaration had it.
    pub(super) async fn make_source(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        let wanted = spec.from.taken(name)?.declaration();
        let own = names::subscription(name)?;
        let had = self.0.broker.query(move |view| view.subscription(&own).map(|it| it.spec)).await?;
        let is_so = |had: &SubscriptionSpec| {
            wanted.as_ref().is_some_and(|(_, it)| (&it.topic, it.start) == (&had.topic, had.start))
        };
        match had.as_ref() {
            Some(had) if is_so(had) => return Ok(()),
            Some(_) => self.drop_source(name).await?,
            None => {}
        }
        if let Some((subscription, spec)) = wanted {
            let declare = Spec::Subscription(spec);
            self.0.broker.declare(subscription, declare, true, SessionId::default()).await?;
        }
        Ok(())
    }

    pub(super) async fn drop_source(&self, name: &Name) -> Result<(), Error> {
        let delete = Delete {
            kind: Kind::Subscription,
            name: names::subscription(name)?,
            if_unused: false,
            if_empty: false,
            counted: Counted::All,
            session: SessionId::default(),
        };
        match self.0.broker.delete(delete).await {
            Ok(_) | Err(Refusal::NotFound { .. }) => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }
}
