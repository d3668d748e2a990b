//! What is looked for.

use waystation_base::trace::trace_id;
use waystation_record::{Attribute, Published, Sought};

/// As what a text is to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// As any of the others.
    #[default]
    Any,
    /// Waystation's id of a message, or its sender's.
    Message,
    /// A correlation id.
    Correlation,
    /// A trace id (W3C Trace Context).
    Trace,
    /// A call's id.
    Call,
    /// The value of a business key.
    Business,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// As what.
    pub role: Role,
    /// Of a business key: its name, if only that one is meant.
    pub key: Option<String>,
    /// What.
    pub text: String,
    /// Most messages to tell of.
    pub messages_max: usize,
}

impl Query {
    /// What it is found by.
    pub(crate) fn sought(&self) -> Sought {
        Sought::text(&self.text)
    }

    /// Whether a message is meant.
    pub(crate) fn means(&self, published: &Published) -> bool {
        let is = |kind: Attribute| {
            let mut all = published.attributes.iter().filter(|(have, _)| *have == kind);
            all.any(|(_, text)| is_same(text, &self.text))
        };
        let is_own = || is_same(&published.id.to_string(), &self.text) || is(Attribute::MessageId);
        let is_traced = || {
            let trace = published.attribute(Attribute::Traceparent).and_then(trace_id);
            trace.is_some_and(|trace| is_same(trace, &self.text))
        };
        let is_business = || {
            let mut all = published.attributes.iter().filter(|(kind, _)| *kind == Attribute::Business);
            all.any(|(_, text)| {
                let (key, value) = text.split_once('=').unwrap_or_default();
                value == self.text && self.key.as_deref().is_none_or(|wanted| wanted == key)
            })
        };
        match self.role {
            Role::Message => is_own(),
            Role::Correlation => is(Attribute::CorrelationId),
            Role::Trace => is_traced(),
            Role::Call => is_own() || is(Attribute::Call) || is(Attribute::Cause),
            Role::Business => is_business(),
            Role::Any => {
                is_own()
                    || is(Attribute::CorrelationId)
                    || is(Attribute::Call)
                    || is(Attribute::Cause)
                    || is_traced()
                    || is_business()
            }
        }
    }
}

/// Whether two texts are the same id, however it is written.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a == b || matches!((uuid::Uuid::try_parse(a), uuid::Uuid::try_parse(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use waystation_base::{MessageId, Millis};
    use waystation_broker::entry;
    use waystation_record::Fate;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn published() -> Published {
        let attributes = vec![
            (Attribute::MessageId, "m-1".into()),
            (Attribute::CorrelationId, "c-1".into()),
            (Attribute::Traceparent, format!("00-{TRACE}-00f067aa0ba902b7-01").into()),
            (Attribute::Business, "order=4711".into()),
        ];
        let id = MessageId::new(Millis(5), 9);
        let (step, fate) = (entry::Step::Request, Fate::Stored);
        Published { id, bytes: 1, step, fate, delay_ms: None, life_ms: None, attributes }
    }

    fn check(role: Role, key: Option<&str>, text: &str, expected: bool) {
        let query = Query { role, key: key.map(str::to_owned), text: text.into(), messages_max: 1 };
        assert_eq!(query.means(&published()), expected, "{query:?}");
    }

    #[test]
    fn a_message_is_meant_by_what_it_has_in_that_role() {
        let id = published().id.to_string();
        for text in [&id, &id.replace('-', ""), "m-1"] {
            check(Role::Message, None, text, true);
            check(Role::Any, None, text, true);
            check(Role::Correlation, None, text, false);
        }
        check(Role::Correlation, None, "c-1", true);
        check(Role::Trace, None, TRACE, true);
        check(Role::Trace, None, "c-1", false);
        check(Role::Business, None, "4711", true);
        check(Role::Business, Some("order"), "4711", true);
        check(Role::Business, Some("customer"), "4711", false);
        check(Role::Any, None, "4711", true);
        check(Role::Any, None, "4712", false);
    }
}
