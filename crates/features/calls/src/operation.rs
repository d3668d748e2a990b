//! What is an operation declared to be?

use serde::{Deserialize, Serialize};
use waystation_base::{Name, name};
use waystation_outbound::Invalid;

use crate::{
    Upstream,
    allow::Pattern,
    limits::{
        ATTEMPTS_MAX, BODY_BYTES_MAX, CALLBACK_PATTERNS_MAX, HANDED_HEADERS_MAX, OPERATION_NAME_BYTES_MAX,
        TIMEOUT_MS_MAX, WAIT_MS_MAX,
    },
};

/// What the call resource answers once the call has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Finished {
    /// `303 See Other`, to the result resource.
    #[default]
    Redirect,
    /// The result itself.
    Inline,
}

/// Something that can be called. All fields have defaults; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Operation {
    /// The queue that its requests go to, made if it is not there; none: the one of the operation's own name.
    pub queue: Option<String>,
    /// Milliseconds after which a call without an outcome expires.
    pub timeout_ms: u64,
    /// Milliseconds for which a finished call is kept with its result.
    pub retention_ms: u64,
    /// Most bytes of a request's body.
    pub body_bytes_max: u64,
    /// Milliseconds for which a request waits for the result if it says nothing about that (`Prefer`).
    pub default_wait_ms: u64,
    /// Attempts after which a failure that asks to be tried again fails the call.
    pub max_attempts: u32,
    /// What the call resource answers once the call has finished.
    pub finished: Finished,
    /// Where the outcome of calls goes that name no address of their own.
    pub callback: Option<String>,
    /// Patterns of the addresses that callbacks may go to; none: no callbacks.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub callback_allow: Vec<Pattern>,
    /// Request headers that workers see, besides content type, coding, trace context and `ws-header-…`.
    pub headers: Vec<String>,
    /// An HTTP service that serves its calls, besides whoever else works on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
}

impl Default for Operation {
    fn default() -> Operation {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Operation {
            queue: None,
            timeout_ms: DAY_MS,
            retention_ms: DAY_MS,
            body_bytes_max: 1 << 20,
            default_wait_ms: 0,
            max_attempts: 5,
            finished: Finished::default(),
            callback: None,
            callback_allow: Vec::new(),
            headers: Vec::new(),
            upstream: None,
        }
    }
}

/// Which field of a declaration is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field '{field}': {reason}")]
pub struct SpecError {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

fn error(field: &'static str, reason: impl ToString) -> SpecError {
    SpecError { field, reason: reason.to_string() }
}

fn check_range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), SpecError> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(error(field, format!("must lie between {min} and {max}, is {value}"))),
    }
}

/// What is wrong with an upstream, as an error of the operation's field.
pub(crate) fn upstream_error(invalid: Invalid) -> SpecError {
    error("upstream", invalid)
}

impl Operation {
    /// Checks the name and each field against its limits.
    pub fn check(&self, name: &Name) -> Result<(), SpecError> {
        if name.as_str().len() > OPERATION_NAME_BYTES_MAX || name.is_reserved() {
            return Err(error(
                "name",
                format!("may have {OPERATION_NAME_BYTES_MAX} bytes and no '$' before it"),
            ));
        }
        self.queue_name(name).map_err(|reason| error("queue", reason))?;
        check_range("timeout_ms", self.timeout_ms, 1, TIMEOUT_MS_MAX)?;
        check_range("retention_ms", self.retention_ms, 1, TIMEOUT_MS_MAX)?;
        check_range("body_bytes_max", self.body_bytes_max, 0, BODY_BYTES_MAX)?;
        check_range("default_wait_ms", self.default_wait_ms, 0, WAIT_MS_MAX)?;
        check_range("max_attempts", self.max_attempts.into(), 1, ATTEMPTS_MAX.into())?;
        check_range("callback_allow", self.callback_allow.len() as u64, 0, CALLBACK_PATTERNS_MAX as u64)?;
        check_range("headers", self.headers.len() as u64, 0, HANDED_HEADERS_MAX as u64)?;
        if let Some(upstream) = &self.upstream {
            upstream.check().map_err(upstream_error)?;
        }
        if let Some(url) = &self.callback {
            self.check_callback(url).map_err(|reason| error("callback", reason))?;
        }
        Ok(())
    }

    /// The queue that its requests go to.
    pub fn queue_name(&self, name: &Name) -> Result<Name, name::Error> {
        self.queue.as_deref().map_or_else(|| Ok(name.clone()), Name::new)
    }

    /// As it may be shown: without what is secret.
    pub fn shown(&self) -> Operation {
        Operation { upstream: self.upstream.as_ref().map(Upstream::shown), ..self.clone() }
    }

    /// Checks where a callback is to go; gives the address in normal form.
    pub fn check_callback(&self, url: &str) -> Result<String, String> {
        crate::allow::check(url, &self.callback_allow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Operation), field: Option<&str>) {
        let mut operation = Operation::default();
        change(&mut operation);
        let name = Name::new("orders").expect("a name");
        assert_eq!(operation.check(&name).map_err(|error| error.field).err(), field, "{operation:?}");
    }

    #[test]
    fn each_field_is_checked_at_its_bound_and_past_it() {
        check(|_| (), None);
        check(|o| o.queue = Some("a b".into()), Some("queue"));
        check(|o| o.queue = Some("$x".into()), Some("queue"));
        check(|o| o.timeout_ms = 0, Some("timeout_ms"));
        check(|o| o.timeout_ms = TIMEOUT_MS_MAX, None);
        check(|o| o.timeout_ms = TIMEOUT_MS_MAX + 1, Some("timeout_ms"));
        check(|o| o.retention_ms = TIMEOUT_MS_MAX + 1, Some("retention_ms"));
        check(|o| o.body_bytes_max = BODY_BYTES_MAX, None);
        check(|o| o.body_bytes_max = BODY_BYTES_MAX + 1, Some("body_bytes_max"));
        check(|o| o.default_wait_ms = WAIT_MS_MAX, None);
        check(|o| o.default_wait_ms = WAIT_MS_MAX + 1, Some("default_wait_ms"));
        check(|o| o.max_attempts = ATTEMPTS_MAX, None);
        check(|o| o.max_attempts = ATTEMPTS_MAX + 1, Some("max_attempts"));
        check(|o| o.max_attempts = 0, Some("max_attempts"));
        let pattern: Pattern = "https://a.example.com/*".parse().expect("a pattern");
        check(|o| o.callback_allow = vec![pattern.clone(); CALLBACK_PATTERNS_MAX], None);
        check(
            |o| o.callback_allow = vec![pattern.clone(); CALLBACK_PATTERNS_MAX + 1],
            Some("callback_allow"),
        );
        check(|o| o.callback = Some("https://a.example.com/x".into()), Some("callback"));
        check(|o| o.upstream = Some(Upstream { timeout_ms: 0, ..Upstream::default() }), Some("upstream"));
        check(|o| o.headers = vec!["x".into(); HANDED_HEADERS_MAX], None);
        check(|o| o.headers = vec!["x".into(); HANDED_HEADERS_MAX + 1], Some("headers"));
    }

    #[test]
    fn a_name_is_bounded_and_not_one_of_ours() {
        let operation = Operation::default();
        let long = |bytes: usize| Name::new("n".repeat(bytes)).expect("a name");
        assert!(operation.check(&long(OPERATION_NAME_BYTES_MAX)).is_ok());
        assert!(operation.check(&long(OPERATION_NAME_BYTES_MAX + 1)).is_err());
        assert!(operation.check(&Name::reserved("$x").expect("a name")).is_err());
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        assert!(serde_json::from_str::<Operation>(r#"{"timeout": 5}"#).is_err());
    }
}
