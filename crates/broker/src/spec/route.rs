//! What a route is declared to be: something that is published to, stores nothing, and hands on by its bindings.

use serde::{Deserialize, Serialize};
use waystation_base::{
    Name,
    limits::{ARGUMENTS_BYTES_MAX, HEADER_NAME_BYTES_MAX},
};

use super::{
    Error,
    business::{self, BusinessKeys},
    check_address, error,
};

/// What the declaring door was given beside what is understood here: kept and shown, not interpreted.
pub type Arguments = serde_json::Map<String, serde_json::Value>;

/// How a route chooses among its bindings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// Bindings whose key is the message's.
    #[default]
    Direct,
    /// All of them.
    Fanout,
    /// Bindings whose key, a pattern (`*` one word, `#` any number of words, words parted by dots), matches the message's.
    Topic,
    /// Bindings whose arguments match the message's headers (`x-match`: `all`, `any`, `all-with-x`, `any-with-x`).
    Headers,
}

/// A route. All fields have defaults; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RouteSpec {
    /// How it chooses among its bindings.
    pub kind: RouteKind,
    /// Whether it is there after a restart.
    pub durable: bool,
    /// It goes when its last binding has gone.
    pub auto_delete: bool,
    /// Only other routes may bring messages to it.
    pub internal: bool,
    /// The route for messages that nothing takes; none: they are counted, and gone.
    pub alternate: Option<String>,
    /// The header that holds a message's delay in milliseconds; none: routes do not delay.
    pub delay_header: Option<String>,
    /// Business keys of what is published to it, by their names: each as `{"header": NAME}` or `{"jq": PATH}`. Those of the queue or
    /// topic that takes a message come before them.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub business: Option<Box<BusinessKeys>>,
    /// What the declaring door was given; kept, not interpreted.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub arguments: Arguments,
}

impl Default for RouteSpec {
    fn default() -> RouteSpec {
        RouteSpec {
            kind: RouteKind::default(),
            durable: true,
            auto_delete: false,
            internal: false,
            alternate: None,
            delay_header: None,
            business: None,
            arguments: Arguments::new(),
        }
    }
}

impl RouteSpec {
    /// A route of a kind, with defaults for all else.
    pub fn new(kind: RouteKind) -> RouteSpec {
        RouteSpec { kind, ..RouteSpec::default() }
    }

    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Error> {
        check_address("alternate", self.alternate.as_deref())?;
        if let Some(header) = &self.delay_header
            && (header.is_empty() || header.len() > HEADER_NAME_BYTES_MAX)
        {
            return Err(error("delay_header", format!("must have 1 to {HEADER_NAME_BYTES_MAX} bytes")));
        }
        business::check(self.business.as_deref())?;
        check_arguments(&self.arguments)
    }

    /// The route for messages that nothing takes.
    pub fn alternate_name(&self) -> Option<Name> {
        self.alternate.as_deref().and_then(|name| Name::new(name).ok())
    }
}

/// Checks that arguments are small enough to be kept.
pub fn check_arguments(arguments: &Arguments) -> Result<(), Error> {
    if arguments.is_empty() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(arguments).map_or(usize::MAX, |text| text.len());
    if bytes > ARGUMENTS_BYTES_MAX {
        let reason = format!("may have {ARGUMENTS_BYTES_MAX} bytes of JSON, these have {bytes}");
        return Err(error("arguments", reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut RouteSpec), field: Option<&str>) {
        let mut spec = RouteSpec::default();
        change(&mut spec);
        assert_eq!(spec.check().map_err(|error| error.field).err(), field, "{spec:?}");
    }

    #[test]
    fn each_field_is_checked_at_its_bound_and_past_it() {
        check(|_| (), None);
        check(|s| s.alternate = Some("a b".into()), Some("alternate"));
        check(|s| s.alternate = Some("rest".into()), None);
        check(|s| s.delay_header = Some(String::new()), Some("delay_header"));
        check(|s| s.delay_header = Some("x".repeat(HEADER_NAME_BYTES_MAX)), None);
        check(|s| s.delay_header = Some("x".repeat(HEADER_NAME_BYTES_MAX + 1)), Some("delay_header"));
        let keys = |text: &str| Some(Box::new(serde_json::from_str(text).expect("keys")));
        check(|s| s.business = keys(r#"{"order": {"jq": ".order"}}"#), None);
        check(|s| s.business = keys(r#"{"a:b": {"jq": ".order"}}"#), Some("business"));
        // {"x":"..."} has eight characters of its own.
        let text = |bytes: usize| [("x".to_owned(), "y".repeat(bytes - 8).into())].into_iter().collect();
        check(|s| s.arguments = text(ARGUMENTS_BYTES_MAX), None);
        check(|s| s.arguments = text(ARGUMENTS_BYTES_MAX + 1), Some("arguments"));
    }
}
