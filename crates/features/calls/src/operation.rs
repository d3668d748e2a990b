//! What is an operation declared to be?

use serde::{Deserialize, Serialize};
use waystation_base::{Name, limits::NAME_BYTES_MAX, name};
use waystation_outbound::{Hidden, Invalid};

use crate::{
    Upstream,
    allow::Pattern,
    limits::{
        ATTEMPTS_MAX, BODY_BYTES_MAX, CALLBACK_PATTERNS_MAX, CALLBACK_SECRETS_MAX, HANDED_HEADERS_MAX,
        OPERATION_NAME_BYTES_MAX, REPLY_PATTERNS_MAX, TIMEOUT_MS_MAX, WAIT_MS_MAX,
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
    /// A queue whose messages become calls, made if it is not there.
    pub intake: Option<String>,
    /// Queues that the outcome of such calls may go to besides exclusive ones and direct reply-to: names in the virtual host of
    /// the intake; a `*` at the end stands for anything.
    pub reply_allow: Vec<String>,
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
    /// Requests are kept as long as their calls, unless those succeed, so that they can be tried anew.
    pub keep_requests: bool,
    /// What the call resource answers once the call has finished.
    pub finished: Finished,
    /// Where the outcome of calls goes that name no address of their own.
    pub callback: Option<String>,
    /// Patterns of the addresses that callbacks may go to; none: no callbacks.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub callback_allow: Vec<Pattern>,
    /// What signs callbacks of this operation, several while one takes another's place; none: what signs all others. Written and never
    /// shown; left out in a change: as they were.
    #[serde(skip_serializing)]
    #[cfg_attr(feature = "openapi", schema(write_only, value_type = Option<Vec<String>>))]
    pub callback_secrets: Option<Vec<Hidden>>,
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
            intake: None,
            reply_allow: Vec::new(),
            timeout_ms: DAY_MS,
            retention_ms: DAY_MS,
            body_bytes_max: 1 << 20,
            default_wait_ms: 0,
            max_attempts: 5,
            keep_requests: true,
            finished: Finished::default(),
            callback: None,
            callback_allow: Vec::new(),
            callback_secrets: None,
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
        let intake = self.intake_name().map_err(|reason| error("intake", reason))?;
        if intake.is_some_and(|intake| self.queue_name(name).is_ok_and(|queue| queue == intake)) {
            return Err(error("intake", "must be another queue than the one that requests go to"));
        }
        check_range("reply_allow", self.reply_allow.len() as u64, 0, REPLY_PATTERNS_MAX as u64)?;
        if self.reply_allow.iter().any(|pattern| !(1..=NAME_BYTES_MAX).contains(&pattern.len())) {
            return Err(error("reply_allow", format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        check_range("timeout_ms", self.timeout_ms, 1, TIMEOUT_MS_MAX)?;
        check_range("retention_ms", self.retention_ms, 1, TIMEOUT_MS_MAX)?;
        check_range("body_bytes_max", self.body_bytes_max, 0, BODY_BYTES_MAX)?;
        check_range("default_wait_ms", self.default_wait_ms, 0, WAIT_MS_MAX)?;
        check_range("max_attempts", self.max_attempts.into(), 1, ATTEMPTS_MAX.into())?;
        check_range("callback_allow", self.callback_allow.len() as u64, 0, CALLBACK_PATTERNS_MAX as u64)?;
        let secrets = self.secrets().len() as u64;
        check_range("callback_secrets", secrets, 0, CALLBACK_SECRETS_MAX as u64)?;
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

    /// The queue whose messages become calls.
    pub fn intake_name(&self) -> Result<Option<Name>, name::Error> {
        self.intake.as_deref().map(Name::new).transpose()
    }

    /// Whether outcomes may go to a queue because of its name.
    pub fn may_reply_to(&self, queue: &str) -> bool {
        self.reply_allow.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => queue.starts_with(beginning),
            None => queue == pattern,
        })
    }

    /// What signs its callbacks.
    pub fn secrets(&self) -> &[Hidden] {
        self.callback_secrets.as_deref().unwrap_or_default()
    }

    /// Whether outcomes may be sent anywhere.
    pub fn calls_back(&self) -> bool {
        !self.callback_allow.is_empty()
    }

    /// The same with the secrets of an earlier declaration, if it says nothing of them.
    pub(crate) fn with_secrets_of(mut self, earlier: Option<&Operation>) -> Operation {
        let secrets = self.callback_secrets.take();
        let secrets = secrets.or_else(|| earlier.and_then(|earlier| earlier.callback_secrets.clone()));
        self.callback_secrets = secrets.filter(|secrets| !secrets.is_empty());
        self
    }

    /// As it may be shown: without what is secret.
    pub fn shown(&self) -> Operation {
        let upstream = self.upstream.as_ref().map(Upstream::shown);
        Operation { upstream, callback_secrets: None, ..self.clone() }
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
        check(|o| o.intake = Some("orders.requests".into()), None);
        check(|o| o.intake = Some("orders".into()), Some("intake"));
        check(|o| o.intake = Some("$calls".into()), Some("intake"));
        check(|o| o.reply_allow = vec!["a*".into(); REPLY_PATTERNS_MAX], None);
        check(|o| o.reply_allow = vec!["a*".into(); REPLY_PATTERNS_MAX + 1], Some("reply_allow"));
        check(|o| o.reply_allow = vec!["a".repeat(NAME_BYTES_MAX + 1)], Some("reply_allow"));
        check(|o| o.reply_allow = vec![String::new()], Some("reply_allow"));
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
        let secrets = |count: usize| Some(vec![Hidden("s".into()); count]);
        check(|o| o.callback_secrets = secrets(CALLBACK_SECRETS_MAX), None);
        check(|o| o.callback_secrets = secrets(CALLBACK_SECRETS_MAX + 1), Some("callback_secrets"));
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
    fn outcomes_go_to_queues_that_are_named_or_begin_as_is_said() {
        let reply_allow = vec!["shop.replies".into(), "erp.*".into()];
        let operation = Operation { reply_allow, ..Operation::default() };
        let may =
            ["shop.replies", "erp.a", "shop.replies2", "erp", "x"].map(|queue| operation.may_reply_to(queue));
        assert_eq!(may, [true, true, false, false, false]);
        assert!(!Operation::default().may_reply_to("x"));
    }

    #[test]
    fn secrets_are_never_shown_and_stay_when_a_change_leaves_them_out() {
        let secrets = Some(vec![Hidden("hunter2".into())]);
        let operation = Operation { callback_secrets: secrets, ..Operation::default() };
        let shown = format!("{operation:?} {}", serde_json::to_string(&operation).expect("JSON"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(operation.shown().callback_secrets, None);
        let silent = Operation::default().with_secrets_of(Some(&operation));
        assert_eq!(silent.secrets(), operation.secrets());
        let none = Operation { callback_secrets: Some(Vec::new()), ..Operation::default() };
        assert!(none.with_secrets_of(Some(&operation)).secrets().is_empty());
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        assert!(serde_json::from_str::<Operation>(r#"{"timeout": 5}"#).is_err());
    }
}
