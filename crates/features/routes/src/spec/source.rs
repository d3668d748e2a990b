//! Where does a route take messages from?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Name, name};
use waystation_broker::{
    Source,
    spec::{Start, SubscriptionSpec},
};

use super::{Destination, invalid};
use crate::{Invalid, names};

/// The source: exactly one of `queue`, `topic`, `subscription` and `pattern`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RouteSource)]
pub struct From {
    /// A queue: the route is one of its consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// A topic, by a subscription of the route's own, which goes with the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A subscription: the route is one of its consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// All topics whose names match (`*` one word, `#` any number, words parted by dots), by a subscription of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// With `topic` and `pattern`: where it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

/// The same, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Of a queue.
    Queue(Name),
    /// Of a subscription that somebody declared.
    Subscription(Name),
    /// Of a subscription of the route's own.
    Own {
        /// What it is called.
        subscription: Name,
        /// The topic, or pattern of topics.
        topic: String,
        /// Where it begins.
        start: Start,
    },
}

impl From {
    /// Whether it may take what is sent to one of these; what a subscription reads is not known here.
    pub fn may_take(&self, targets: &[Destination]) -> bool {
        let takes = |address: &str| {
            self.queue.as_deref() == Some(address)
                || self.topic.as_deref() == Some(address)
                || self.pattern.as_ref().is_some_and(|pattern| name::matches(pattern, address))
        };
        self.subscription.is_some() || targets.iter().any(|target| takes(target.name().as_str()))
    }

    /// Checks what is said.
    pub fn taken(&self, route: &Name) -> Result<Taken, Invalid> {
        let given = [&self.queue, &self.topic, &self.subscription, &self.pattern];
        if given.iter().filter(|it| it.is_some()).count() != 1 {
            return Err(invalid(
                "from",
                "give exactly one of 'queue', 'topic', 'subscription' and 'pattern'",
            ));
        }
        let is_own = self.topic.is_some() || self.pattern.is_some();
        if self.start.is_some() && !is_own {
            return Err(invalid("from.start", "is for 'topic' and 'pattern', which begin with the route"));
        }
        let name = |field: &str, text: &str| {
            Name::new(text).map_err(|error| invalid(format!("from.{field}"), error))
        };
        let own = |topic: &str| {
            let start = self.start.unwrap_or_default();
            Ok(Taken::Own { subscription: names::subscription(route)?, topic: topic.to_owned(), start })
        };
        match self {
            From { queue: Some(queue), .. } => Ok(Taken::Queue(name("queue", queue)?)),
            From { subscription: Some(it), .. } => Ok(Taken::Subscription(name("subscription", it)?)),
            From { topic: Some(topic), .. } => own(name("topic", topic)?.as_str()),
            From { pattern, .. } => own(&checked_pattern(pattern.as_deref().unwrap_or_default())?),
        }
    }
}

fn checked_pattern(pattern: &str) -> Result<String, Invalid> {
    // '#' is the one character of patterns that no name may have.
    Name::new(pattern.replace('#', "*").replace('*', "x")).map_err(|error| invalid("from.pattern", error))?;
    if !name::is_pattern(pattern) {
        return Err(invalid("from.pattern", "has neither '*' nor '#'; give one topic as 'topic'"));
    }
    Ok(pattern.to_owned())
}

impl Taken {
    /// Whom the route consumes.
    pub fn source(&self) -> Source {
        match self {
            Taken::Queue(name) => Source::Queue(name.clone()),
            Taken::Subscription(name) | Taken::Own { subscription: name, .. } => {
                Source::Subscription(name.clone())
            }
        }
    }

    /// The subscription that the route has to make.
    pub fn declaration(&self) -> Option<(Name, SubscriptionSpec)> {
        let Taken::Own { subscription, topic, start } = self else { return None };
        Some((
            subscription.clone(),
            SubscriptionSpec { start: *start, ..SubscriptionSpec::new(topic.clone()) },
        ))
    }

    /// What somebody must be allowed to read who declares this.
    pub fn read(&self) -> &str {
        match self {
            Taken::Queue(name) | Taken::Subscription(name) => name.as_str(),
            Taken::Own { topic, .. } => topic,
        }
    }
}
