//! What was declared of a thing over which policies have laid something else?
//!
//! What a policy changed is kept among the arguments as it was declared, so that another policy, or none, starts from there,
//! whichever door declared it. Policies themselves are not known here.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Arguments, QueueSpec, RouteSpec, Spec, TopicSpec};

/// The argument that holds what was declared; never shown to clients.
pub const BEFORE: &str = "ws-before-policy";

/// Takes what was declared out of the arguments.
fn take(arguments: &mut Arguments) -> Map<String, Value> {
    match arguments.remove(BEFORE) {
        Some(Value::Object(before)) => before,
        _ => Map::new(),
    }
}

fn restore<T: DeserializeOwned>(before: &Map<String, Value>, name: &str, place: &mut T) {
    if let Some(value) = before.get(name).and_then(|value| serde_json::from_value(value.clone()).ok()) {
        *place = value;
    }
}

impl QueueSpec {
    /// As it was declared.
    pub fn declared(mut self) -> QueueSpec {
        let before = take(&mut self.arguments);
        restore(&before, "ttl_ms", &mut self.ttl_ms);
        restore(&before, "idle_expiry_ms", &mut self.idle_expiry_ms);
        restore(&before, "max_messages", &mut self.max_messages);
        restore(&before, "max_bytes", &mut self.max_bytes);
        restore(&before, "max_attempts", &mut self.max_attempts);
        restore(&before, "dead_letter", &mut self.dead_letter);
        restore(&before, "dead_letter_route", &mut self.dead_letter_route);
        restore(&before, "dead_letter_key", &mut self.dead_letter_key);
        restore(&before, "overflow", &mut self.overflow);
        restore(&before, "business", &mut self.business);
        self
    }

    /// This, laid over what was declared.
    pub fn over(mut self, declared: &QueueSpec) -> QueueSpec {
        if self != *declared {
            let before = json!({
                "ttl_ms": declared.ttl_ms,
                "idle_expiry_ms": declared.idle_expiry_ms,
                "max_messages": declared.max_messages,
                "max_bytes": declared.max_bytes,
                "max_attempts": declared.max_attempts,
                "dead_letter": declared.dead_letter,
                "dead_letter_route": declared.dead_letter_route,
                "dead_letter_key": declared.dead_letter_key,
                "overflow": declared.overflow,
                "business": declared.business,
            });
            self.arguments.insert(BEFORE.to_owned(), before);
        }
        self
    }
}

impl TopicSpec {
    /// As it was declared.
    pub fn declared(mut self) -> TopicSpec {
        let before = take(&mut self.arguments);
        restore(&before, "retention_ms", &mut self.retention_ms);
        restore(&before, "retention_bytes", &mut self.retention_bytes);
        restore(&before, "business", &mut self.business);
        self
    }

    /// This, laid over what was declared.
    pub fn over(mut self, declared: &TopicSpec) -> TopicSpec {
        if self != *declared {
            let before = json!({
                "retention_ms": declared.retention_ms,
                "retention_bytes": declared.retention_bytes,
                "business": declared.business,
            });
            self.arguments.insert(BEFORE.to_owned(), before);
        }
        self
    }
}

impl RouteSpec {
    /// As it was declared.
    pub fn declared(mut self) -> RouteSpec {
        let before = take(&mut self.arguments);
        restore(&before, "alternate", &mut self.alternate);
        restore(&before, "business", &mut self.business);
        self
    }

    /// This, laid over what was declared.
    pub fn over(mut self, declared: &RouteSpec) -> RouteSpec {
        if self != *declared {
            let before = json!({"alternate": declared.alternate, "business": declared.business});
            self.arguments.insert(BEFORE.to_owned(), before);
        }
        self
    }
}

impl Spec {
    /// As it was declared, whatever policies made of it.
    pub fn declared(self) -> Spec {
        match self {
            Spec::Queue(spec) => Spec::Queue(spec.declared()),
            Spec::Topic(spec) => Spec::Topic(spec.declared()),
            Spec::Route(spec) => Spec::Route(spec.declared()),
            subscription @ Spec::Subscription(_) => subscription,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::KeyFrom;

    #[test]
    fn what_was_declared_comes_back_from_under_whatever_was_laid_over_it() {
        let declared =
            QueueSpec { max_messages: Some(7), dead_letter: Some("dead".into()), ..QueueSpec::default() };
        let laid = QueueSpec { max_messages: Some(5), ttl_ms: Some(1), ..declared.clone() }.over(&declared);
        assert!(laid.arguments.contains_key(BEFORE));
        assert_eq!(laid.declared(), declared);
        assert_eq!(declared.clone().over(&declared), declared, "nothing was laid over it");
        let keys = |name: &str| Some(Box::new([(name.into(), KeyFrom::Header("x".into()))].into()));
        let topic = TopicSpec { retention_ms: Some(5), business: keys("a"), ..TopicSpec::default() };
        assert_eq!(topic.over(&TopicSpec::default()).declared(), TopicSpec::default());
        let declared = RouteSpec { business: keys("b"), ..RouteSpec::default() };
        let route = RouteSpec { alternate: Some("rest".into()), business: keys("a"), ..RouteSpec::default() };
        assert_eq!(route.over(&declared).declared(), declared);
    }
}
