//! What is a topology, and when does a file describe a good one?

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use waystation_base::Name;
use waystation_broker::{
    Kind,
    spec::{self, QueueSpec, Spec, SubscriptionSpec, TopicSpec},
};

use crate::{
    bindings::Route,
    document::{self, Error},
};

/// Queues, topics and subscriptions by name. This is also the file: tables `[queues.NAME]`, `[topics.NAME]` `[subscriptions.NAME]` and
/// `[routes.NAME]`, each with the fields of its declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topology {
    /// Work that leaves when it is acknowledged.
    #[serde(deserialize_with = "unique")]
    pub queues: BTreeMap<Name, QueueSpec>,
    /// Partitioned logs.
    #[serde(deserialize_with = "unique")]
    pub topics: BTreeMap<Name, TopicSpec>,
    /// Named positions on topics.
    #[serde(deserialize_with = "unique")]
    pub subscriptions: BTreeMap<Name, SubscriptionSpec>,
    /// Published to, store nothing, hand on by their bindings.
    #[serde(deserialize_with = "unique")]
    pub routes: BTreeMap<Name, Route>,
}

/// The table of the file that holds a kind.
pub fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Queue => "queues",
        Kind::Topic => "topics",
        Kind::Subscription => "subscriptions",
        Kind::Route => "routes",
    }
}

impl Topology {
    /// Reads a topology file, TOML or JSON, and checks every declaration in it.
    pub fn read(bytes: &[u8]) -> Result<Topology, Error> {
        let topology: Topology = document::read(bytes)?;
        topology.check_in(document::text(bytes)?)?;
        Ok(topology)
    }

    /// Checks every declaration; an error says where it stands in the text that this was read from.
    pub fn check_in(&self, text: &str) -> Result<(), Error> {
        self.check().map_err(|problem| {
            let mut path = vec![table(problem.kind), problem.name.as_str()];
            path.extend(problem.field.split('.'));
            let message = format!("{} '{}': {}", problem.kind, problem.name, problem.reason);
            Error::at(text, document::locate(text, &path), message)
        })
    }

    /// Every declaration, by kind and name.
    pub fn specs(&self) -> BTreeMap<(Kind, Name), Spec> {
        let queues = self.queues.iter().map(|(name, spec)| (name, Spec::Queue(spec.clone())));
        let topics = self.topics.iter().map(|(name, spec)| (name, Spec::Topic(spec.clone())));
        let subscriptions =
            self.subscriptions.iter().map(|(name, spec)| (name, Spec::Subscription(spec.clone())));
        let routes = self.routes.iter().map(|(name, route)| (name, Spec::Route(route.spec.clone())));
        let all = queues.chain(topics).chain(subscriptions).chain(routes);
        all.map(|(name, spec)| ((spec.kind(), name.clone()), spec)).collect()
    }

    /// One declaration.
    pub fn spec(&self, kind: Kind, name: &Name) -> Option<Spec> {
        match kind {
            Kind::Queue => self.queues.get(name).cloned().map(Spec::Queue),
            Kind::Topic => self.topics.get(name).cloned().map(Spec::Topic),
            Kind::Subscription => self.subscriptions.get(name).cloned().map(Spec::Subscription),
            Kind::Route => self.routes.get(name).map(|route| Spec::Route(route.spec.clone())),
        }
    }

    /// Puts a declaration in, in place of one with its kind and name.
    pub fn insert(&mut self, name: Name, spec: Spec) {
        match spec {
            Spec::Queue(spec) => drop(self.queues.insert(name, spec)),
            Spec::Topic(spec) => drop(self.topics.insert(name, spec)),
            Spec::Subscription(spec) => drop(self.subscriptions.insert(name, spec)),
            Spec::Route(spec) => self.routes.entry(name).or_default().spec = spec,
        }
    }

    /// Takes a declaration out.
    pub fn remove(&mut self, kind: Kind, name: &Name) {
        match kind {
            Kind::Queue => drop(self.queues.remove(name)),
            Kind::Topic => drop(self.topics.remove(name)),
            Kind::Subscription => drop(self.subscriptions.remove(name)),
            Kind::Route => drop(self.routes.remove(name)),
        }
    }

    /// Queues and topics: how many there are of a name.
    pub fn address(&self, name: &str) -> Option<Kind> {
        let queue = self.queues.contains_key(name).then_some(Kind::Queue);
        queue.or(self.topics.contains_key(name).then_some(Kind::Topic))
    }

    fn check(&self) -> Result<(), Problem> {
        for ((kind, name), spec) in self.specs() {
            let problem = |error: spec::Error| Problem {
                kind,
                name: name.clone(),
                field: error.field,
                reason: error.to_string(),
            };
            let here =
                |field, reason: &str| Problem { kind, name: name.clone(), field, reason: reason.into() };
            if name.is_reserved() {
                return Err(here("", "names that start with '$' are reserved"));
            }
            spec.check().map_err(problem)?;
            if kind == Kind::Topic && self.queues.contains_key(&name) {
                return Err(here("", "a queue of that name is declared too, and they share their addresses"));
            }
            if let Spec::Queue(QueueSpec { exclusive: true, .. }) = &spec {
                return Err(here(
                    "exclusive",
                    "an exclusive queue belongs to a session, and a file has none",
                ));
            }
        }
        Ok(())
    }
}

/// What is wrong with one declaration.
struct Problem {
    kind: Kind,
    name: Name,
    field: &'static str,
    reason: String,
}

/// A map in which a key that comes twice is an error; TOML sees to that itself, JSON does not.
pub fn unique<'de, D, N, V>(deserializer: D) -> Result<BTreeMap<N, V>, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + Ord + fmt::Display,
    V: Deserialize<'de>,
{
    struct Unique<N, V>(PhantomData<(N, V)>);

    impl<'de, N: Deserialize<'de> + Ord + fmt::Display, V: Deserialize<'de>> Visitor<'de> for Unique<N, V> {
        type Value = BTreeMap<N, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of declarations by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, spec)) = access.next_entry::<N, V>()? {
                if map.contains_key(&name) {
                    return Err(serde::de::Error::custom(format!("'{name}' is declared twice")));
                }
                map.insert(name, spec);
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Unique(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = Topology::read(text.as_bytes()).expect_err(text);
        assert!(error.to_string().contains(expected), "{error}\n  should say: {expected}");
    }

    #[test]
    fn a_file_declares_queues_topics_and_subscriptions() {
        let text = r#"
            [queues.orders]
            max_attempts = 5
            dead_letter = "orders.dead"
            [queues."orders.dead"]
            [queues.orders.retry]
            backoff = "linear"
            classes.invalid.give_up = true
            [topics.flights]
            partitions = 4
            [subscriptions.board]
            topic = "flights"
            start = { offset = 12 }
            filter = { exact = { type = "flight.late" } }
        "#;
        let topology = Topology::read(text.as_bytes()).expect("a good file");
        assert_eq!(topology.specs().len(), 4);
        assert_eq!(topology.queues["orders"].max_attempts, Some(5));
        let json = serde_json::to_string(&topology).expect("json");
        assert_eq!(Topology::read(json.as_bytes()), Ok(topology));
        assert_eq!(Topology::read(b""), Ok(Topology::default()));
    }

    #[test]
    fn errors_name_the_place_and_the_near_word() {
        check("[queues.a]\nmax_mesages = 5", "line 2, column 1: unknown field `max_mesages`");
        check("[queues.a]\nmax_mesages = 5", "did you mean 'max_messages'?");
        check("[queue.a]", "line 1, column 2: unknown field `queue`");
        check("[queue.a]", "did you mean 'queues'?");
        check("[queues.a]\noverflow = \"drop\"", "line 2, column 12: unknown variant `drop`");
        check("[queues.a]\noverflow = \"drop\"", "did you mean 'drop_head'?");
        check(
            "[queues.a]\n\n lease_ms = 0",
            "line 3, column 2: queue 'a': field 'lease_ms': must lie between 1",
        );
        check(
            "[queues.a.retry]\nfirst_ms = 9999999",
            "line 2, column 1: queue 'a': field 'retry.first_ms': must lie between",
        );
        check("[queues.'a b']", "character ' ' at byte 1");
        check("[queues.'$a']", "line 1, column 9: queue '$a': names that start with '$' are reserved");
        check("[subscriptions.s]", "missing field `topic`");
        check("[queues.a]\n[topics.a]", "line 2, column 9: topic 'a': a queue of that name");
        check("[queues.a]\nexclusive = true", "line 2, column 1: queue 'a': an exclusive queue");
        check("[queues.a]\n[queues.a]", "line 2, column 9: duplicate key");
        check(r#"{"queues": {"a": {}, "a": {}}}"#, "'a' is declared twice");
        check(r#"{"queues": {"a": {"lease_ms": 0}}}"#, "line 1, column 31: queue 'a': field 'lease_ms'");
    }
}
