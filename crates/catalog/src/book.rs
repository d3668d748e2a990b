//! Which virtual hosts, policies and parameters are there? A picture of the documents in the broker, ready to be asked.

use std::collections::BTreeMap;

use bytes::Bytes;
use regex::{Regex, RegexBuilder};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use waystation_base::{Name, vhost};
use waystation_broker::spec::{QueueSpec, RouteSpec, Spec, TopicSpec};

use super::{
    effect,
    records::{ApplyTo, GlobalParameter, PREFIX, Parameter, Policy, Rank, Vhost},
};
use crate::terms::{QueueType, queue_type};

/// Bytes of a policy's pattern.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Bytes that one may take when compiled.
const COMPILED_BYTES_MAX: usize = 256 << 10;

/// A policy ready for use.
#[derive(Clone)]
pub(super) struct Rule {
    pub policy: Policy,
    regex: Regex,
}

impl Rule {
    pub fn new(policy: Policy) -> Result<Rule, String> {
        if policy.pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("it has {} bytes, {PATTERN_BYTES_MAX} are allowed", policy.pattern.len()));
        }
        let built = RegexBuilder::new(&policy.pattern).size_limit(COMPILED_BYTES_MAX).build();
        built.map(|regex| Rule { policy, regex }).map_err(|error| error.to_string())
    }

    fn matches(&self, about: About, name: &str) -> bool {
        let applies = match self.policy.apply_to {
            ApplyTo::All => true,
            ApplyTo::Exchanges => about == About::Exchange,
            ApplyTo::Queues => about != About::Exchange,
            ApplyTo::ClassicQueues => about == About::Queue(QueueType::Classic),
            ApplyTo::QuorumQueues => about == About::Queue(QueueType::Quorum),
            ApplyTo::Streams => about == About::Queue(QueueType::Stream),
        };
        applies && self.regex.is_match(name)
    }
}

/// What a policy is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Queue(QueueType),
    Exchange,
}

impl About {
    pub fn spec(spec: &Spec) -> About {
        if matches!(spec, Spec::Route(_)) { About::Exchange } else { About::Queue(queue_type(spec)) }
    }
}

/// Which policies count for a queue or exchange, and what they say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// The policy's name.
    pub policy: Option<String>,
    /// The operator's policy's name.
    pub operator: Option<String>,
    /// Both together.
    pub definition: Map<String, Value>,
}

/// Virtual hosts, policies and parameters at one time.
#[derive(Clone, Default)]
pub(super) struct Book {
    pub vhosts: BTreeMap<String, Vhost>,
    pub policies: BTreeMap<(Rank, String, String), Rule>,
    pub parameters: BTreeMap<(String, String, String), Parameter>,
    pub globals: BTreeMap<String, GlobalParameter>,
}

/// The virtual host that is always there, as it is until somebody changes it.
pub fn default_vhost() -> Vhost {
    let description = "Default virtual host".to_owned();
    Vhost { name: vhost::DEFAULT.to_owned(), description, ..Vhost::default() }
}

fn read<T: DeserializeOwned>(name: &str, body: &[u8]) -> Option<T> {
    match serde_json::from_slice(body) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(document = name, %error, "a document cannot be read; it counts for nothing");
            None
        }
    }
}

impl Book {
    /// The picture of these documents. One that cannot be read counts for nothing.
    pub fn read(documents: Vec<(Name, Bytes)>) -> Book {
        let mut book = Book::default();
        book.put_vhost(default_vhost());
        for (name, body) in &documents {
            let (name, body) = (name.as_str(), body.as_ref());
            match name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')).map(|(kind, _)| kind) {
                Some("vhost") => read(name, body).into_iter().for_each(|host| book.put_vhost(host)),
                Some("policy") => book.read_policy(Rank::User, read(name, body)),
                Some("operator-policy") => book.read_policy(Rank::Operator, read(name, body)),
                Some("parameter") => read(name, body).into_iter().for_each(|it| book.put_parameter(it)),
                Some("global-parameter") => read(name, body).into_iter().for_each(|it| book.put_global(it)),
                _ => tracing::warn!(document = name, "a document that this version does not know"),
            }
        }
        book
    }

    fn read_policy(&mut self, rank: Rank, policy: Option<Policy>) {
        let rule = policy.map(Rule::new);
        rule.and_then(Result::ok).into_iter().for_each(|rule| self.put_policy(rank, rule));
    }

    pub fn put_vhost(&mut self, host: Vhost) {
        self.vhosts.insert(host.name.clone(), host);
    }

    pub fn put_policy(&mut self, rank: Rank, rule: Rule) {
        let key = (rank, rule.policy.vhost.clone(), rule.policy.name.clone());
        self.policies.insert(key, rule);
    }

    pub fn put_parameter(&mut self, it: Parameter) {
        self.parameters.insert((it.vhost.clone(), it.component.clone(), it.name.clone()), it);
    }

    pub fn put_global(&mut self, it: GlobalParameter) {
        self.globals.insert(it.name.clone(), it);
    }

    /// Forgets all that belongs to a virtual host.
    pub fn remove_vhost(&mut self, name: &str) {
        self.vhosts.remove(name);
        self.policies.retain(|(_, host, _), _| host != name);
        self.parameters.retain(|(host, _, _), _| host != name);
    }

    /// The policy of the highest priority that matches; of equal ones the first by name.
    fn best(&self, rank: Rank, host: &str, about: About, name: &str) -> Option<&Policy> {
        let rules =
            self.policies.iter().filter(|((of, at, _), _)| *of == rank && at == host).map(|(_, rule)| rule);
        let matching = rules.filter(|rule| rule.matches(about, name)).map(|rule| &rule.policy);
        // `max_by_key` gives the last of equal ones, so they come from the end.
        matching.rev().max_by_key(|policy| policy.priority)
    }

    /// What counts for a queue or exchange.
    pub fn effective(&self, host: &str, about: About, name: &str) -> Effective {
        let user = self.best(Rank::User, host, about, name);
        let operator = self.best(Rank::Operator, host, about, name);
        let definition = effect::merge(user.map(|it| &it.definition), operator.map(|it| &it.definition));
        let named = |policy: Option<&Policy>| policy.map(|policy| policy.name.clone());
        Effective { policy: named(user), operator: named(operator), definition }
    }

    /// A queue under the policies.
    pub fn queue(&self, host: &str, name: &str, spec: QueueSpec) -> QueueSpec {
        let wrapped = Spec::Queue(spec.clone());
        effect::queue(host, name, spec, &self.effective(host, About::spec(&wrapped), name).definition)
    }

    /// A stream under the policies.
    pub fn topic(&self, host: &str, name: &str, spec: TopicSpec) -> TopicSpec {
        effect::topic(spec, &self.effective(host, About::Queue(QueueType::Stream), name).definition)
    }

    /// An exchange under the policies.
    pub fn route(&self, host: &str, name: &str, spec: RouteSpec) -> RouteSpec {
        effect::route(host, spec, &self.effective(host, About::Exchange, name).definition)
    }

    /// Whatever it is under the policies.
    pub fn apply(&self, host: &str, name: &str, spec: Spec) -> Spec {
        match spec {
            Spec::Queue(spec) => Spec::Queue(self.queue(host, name, spec)),
            Spec::Topic(spec) => Spec::Topic(self.topic(host, name, spec)),
            Spec::Route(spec) => Spec::Route(self.route(host, name, spec)),
            subscription @ Spec::Subscription(_) => subscription,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(name: &str, pattern: &str, apply_to: ApplyTo, priority: i64, definition: Value) -> Policy {
        let Value::Object(definition) = definition else { panic!("an object") };
        Policy {
            vhost: "/".into(),
            name: name.into(),
            pattern: pattern.into(),
            apply_to,
            definition,
            priority,
        }
    }

    fn book(policies: Vec<(Rank, Policy)>) -> Book {
        let mut book = Book::read(vec![]);
        for (rank, policy) in policies {
            book.put_policy(rank, Rule::new(policy).expect("good"));
        }
        book
    }

    #[test]
    fn the_highest_priority_that_matches_counts() {
        let book = book(vec![
            (Rank::User, policy("low", "^q", ApplyTo::All, 0, json!({"max-length": 1}))),
            (Rank::User, policy("b", "^q", ApplyTo::Queues, 5, json!({"max-length": 2}))),
            (Rank::User, policy("a", "^q", ApplyTo::Queues, 5, json!({"max-length": 3}))),
            (Rank::User, policy("ex", "^q", ApplyTo::Exchanges, 9, json!({"alternate-exchange": "x"}))),
            (Rank::Operator, policy("op", "1$", ApplyTo::ClassicQueues, 0, json!({"max-length": 1}))),
        ]);
        let check = |about, name: &str, policy: Option<&str>, operator: Option<&str>| {
            let effective = book.effective("/", about, name);
            assert_eq!((effective.policy.as_deref(), effective.operator.as_deref()), (policy, operator));
        };
        check(About::Queue(QueueType::Classic), "q1", Some("a"), Some("op"));
        check(About::Queue(QueueType::Quorum), "q1", Some("a"), None);
        check(About::Exchange, "q1", Some("ex"), None);
        check(About::Queue(QueueType::Classic), "other", None, None);
        assert_eq!(book.queue("/", "q1", QueueSpec::default()).max_messages, Some(1));
        assert_eq!(book.effective("v", About::Exchange, "q1"), Effective::default(), "another virtual host");
    }

    #[test]
    fn a_pattern_holds_at_its_bound_and_is_refused_past_it() {
        let check =
            |length: usize| Rule::new(policy("p", &"x".repeat(length), ApplyTo::All, 0, json!({}))).is_ok();
        assert!(check(PATTERN_BYTES_MAX));
        assert!(!check(PATTERN_BYTES_MAX + 1));
    }
}
