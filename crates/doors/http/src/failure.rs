//! Which status and which problem does each refusal become?

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use waystation_broker::Refusal;

use crate::{
    api::{Problem, media},
    wire,
};

/// Seconds after which a caller that met a limit may try again.
const RETRY_SOON_S: u64 = 1;
/// Seconds after which a condition of the whole machine may have changed.
const RETRY_LATER_S: u64 = 30;

/// The kinds of problem. Their names are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Malformed,
    Unauthenticated,
    Forbidden,
    ForeignOrigin,
    NotFound,
    MethodNotAllowed,
    Timeout,
    Exists,
    InUse,
    NotHeld,
    Limit,
    Exclusive,
    Closed,
    NotReady,
    NotKept,
    WrongState,
    Gone,
    TooLarge,
    UnsupportedType,
    Invalid,
    Full,
    Busy,
    Damaged,
    Internal,
    Stopped,
    Draining,
    Overloaded,
    DiskLow,
    MemoryLow,
}

impl Kind {
    /// Name, title, status.
    fn parts(self) -> (&'static str, &'static str, u16) {
        match self {
            Kind::Malformed => ("malformed", "The request cannot be read", 400),
            Kind::Unauthenticated => ("unauthenticated", "A valid token is needed", 401),
            Kind::Forbidden => ("forbidden", "The token lacks a permission", 403),
            Kind::ForeignOrigin => ("foreign-origin", "The request came from a foreign web page", 403),
            Kind::NotFound => ("not-found", "There is no such thing", 404),
            Kind::MethodNotAllowed => ("method-not-allowed", "The method does not apply here", 405),
            Kind::Timeout => ("timeout", "The request took too long to come", 408),
            Kind::Exists => ("exists", "The name is taken by something that differs", 409),
            Kind::InUse => ("in-use", "A condition of the request does not hold", 409),
            Kind::NotHeld => ("not-held", "The message is not held", 409),
            Kind::Limit => ("limit", "A limit of the server is reached", 409),
            Kind::Exclusive => ("exclusive", "Somebody else has it for himself", 409),
            Kind::Closed => ("call-closed", "The call has its outcome already", 409),
            Kind::NotReady => ("not-ready", "The call has no outcome yet", 409),
            Kind::NotKept => ("call-not-kept", "The call's request is not kept", 409),
            Kind::WrongState => ("wrong-state", "It is in no state for that", 409),
            Kind::Gone => ("gone", "It was removed meanwhile", 410),
            Kind::TooLarge => ("too-large", "The request is too large", 413),
            Kind::UnsupportedType => ("unsupported-type", "The content type does not apply here", 415),
            Kind::Invalid => ("invalid", "A value is not allowed", 422),
            Kind::Full => ("full", "The queue is full", 429),
            Kind::Busy => ("busy", "Too many requests at once", 429),
            Kind::Damaged => ("damaged", "Stored data cannot be read", 500),
            Kind::Internal => ("internal", "The server failed", 500),
            Kind::Stopped => ("stopped", "The server has stopped accepting writes", 503),
            Kind::Draining => ("draining", "The server is shutting down", 503),
            Kind::Overloaded => ("overloaded", "The server is at one of its limits", 503),
            // Not 507: what got that must not be repeated unless somebody asks for it again (RFC 4918 §11.5), and a publisher is to come
            // back by itself (RFC 9110 §15.6.4).
            Kind::DiskLow => ("disk-low", "Disk space is low", 503),
            Kind::MemoryLow => ("memory-low", "Memory is low", 503),
        }
    }

    fn retry_after_s(self) -> Option<u64> {
        match self {
            Kind::NotReady | Kind::Full | Kind::Busy | Kind::Overloaded | Kind::Draining => {
                Some(RETRY_SOON_S)
            }
            Kind::DiskLow | Kind::MemoryLow => Some(RETRY_LATER_S),
            _ => None,
        }
    }
}

/// A request that is answered with a problem.
#[derive(Clone, Debug)]
pub(crate) struct Failure(pub Box<Problem>);

impl Failure {
    pub fn new(kind: Kind, detail: impl ToString) -> Failure {
        let (name, title, status) = kind.parts();
        Failure(Box::new(Problem {
            kind: format!("urn:waystation:problem:{name}"),
            title: title.to_owned(),
            status,
            detail: detail.to_string(),
            retry_after_s: kind.retry_after_s(),
            ..Problem::default()
        }))
    }

    /// Changes the problem.
    pub fn with(mut self, change: impl FnOnce(&mut Problem)) -> Failure {
        change(&mut self.0);
        self
    }

    /// A parameter, header or member that cannot be.
    pub fn field(field: impl ToString, reason: impl std::fmt::Display) -> Failure {
        let field = field.to_string();
        let detail = format!("{field}: {reason}");
        Failure::new(Kind::Invalid, detail).with(|problem| problem.field = Some(field))
    }

    /// Something past its bound.
    pub fn too_large(what: &str, limit: usize) -> Failure {
        let detail = format!("{what} may have {limit} bytes");
        Failure::new(Kind::TooLarge, detail).with(|problem| problem.limit = Some(limit as u64))
    }

    /// A door's own error, not the caller's.
    pub fn internal(detail: impl ToString) -> Failure {
        Failure::new(Kind::Internal, detail)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let kind = match &refusal {
            Refusal::NotFound { .. } => Kind::NotFound,
            Refusal::Exists { .. } => Kind::Exists,
            Refusal::Spec(_) | Refusal::Batch(_) | Refusal::Undelayable { .. } => Kind::Invalid,
            Refusal::Message { error, .. } => kind_of_message(error),
            Refusal::Full { .. } => Kind::Full,
            Refusal::Limit { .. } | Refusal::VhostFull { .. } => Kind::Limit,
            Refusal::NotHeld { .. } | Refusal::NotWaiting { .. } => Kind::NotHeld,
            Refusal::NotAttached => Kind::Gone,
            Refusal::Exclusive { .. } | Refusal::Internal { .. } => Kind::Exclusive,
            Refusal::InUse { .. } => Kind::InUse,
            Refusal::TooLarge { .. } => Kind::TooLarge,
            Refusal::Damaged(_) => Kind::Damaged,
            Refusal::DiskLow => Kind::DiskLow,
            Refusal::MemoryLow => Kind::MemoryLow,
            Refusal::Draining => Kind::Draining,
            Refusal::Busy => Kind::Busy,
            Refusal::Stopped(_) => Kind::Stopped,
        };
        Failure::new(kind, &refusal).with(|problem| match &refusal {
            Refusal::Exists { field, .. } => problem.field = Some(field.clone()),
            Refusal::Spec(error) => problem.field = Some(error.field.to_owned()),
            Refusal::Undelayable { .. } => problem.field = Some("deliver_at".to_owned()),
            Refusal::Message { index, .. } => problem.index = Some(*index as u64),
            Refusal::Limit { limit, .. } | Refusal::TooLarge { limit, .. } => problem.limit = Some(*limit),
            Refusal::VhostFull { limit, .. } => problem.limit = Some((*limit).into()),
            _ => {}
        })
    }
}

impl From<waystation_calls::Error> for Failure {
    fn from(error: waystation_calls::Error) -> Failure {
        use waystation_calls::Error;
        let kind = match error {
            Error::Refused(refusal) => return refusal.into(),
            Error::NoOperation(_) | Error::NoCall => Kind::NotFound,
            Error::Differs(_) => Kind::Exists,
            Error::Gone => Kind::Gone,
            Error::Closed(_) | Error::Succeeded => Kind::Closed,
            Error::Open(_) => Kind::NotReady,
            Error::NoRequest => Kind::NotKept,
            Error::NotHeld(_) => Kind::NotHeld,
            Error::Spec(_) | Error::KeyReused | Error::BadKey(_) | Error::Callback(_) | Error::ReplyTo(_) => {
                Kind::Invalid
            }
            Error::TooLarge { .. } => Kind::TooLarge,
            Error::Limit { .. } => Kind::Busy,
            Error::Damaged(_) => Kind::Damaged,
            Error::Ended => Kind::Draining,
        };
        Failure::new(kind, &error).with(|problem| match &error {
            Error::Spec(error) => problem.field = Some(error.field.to_owned()),
            Error::KeyReused | Error::BadKey(_) => problem.field = Some("idempotency-key".into()),
            Error::Callback(_) => problem.field = Some("ws-callback-url".into()),
            Error::TooLarge { limit } | Error::Limit { limit, .. } => problem.limit = Some(*limit),
            _ => {}
        })
    }
}

fn kind_of_message(error: &waystation_base::message::Error) -> Kind {
    use waystation_base::message::Error;
    match error {
        Error::TooLarge(_) => Kind::TooLarge,
        Error::KeyTooLong(_) | Error::TooManyHeaders(_) | Error::HeaderName(_) | Error::HeaderDepth(_) => {
            Kind::Invalid
        }
    }
}

impl From<wire::Error> for Failure {
    fn from(error: wire::Error) -> Failure {
        match error {
            wire::Error::Json { line, column, reason } => {
                let detail = format!("line {line}, column {column}: {reason}");
                Failure::new(Kind::Malformed, detail).with(|problem| {
                    problem.line = Some(line);
                    problem.column = Some(column);
                })
            }
            wire::Error::Field { field, reason } => Failure::field(field, reason),
            wire::Error::Message(error) => Failure::new(kind_of_message(&error), error),
            wire::Error::TooLarge { what, limit } => Failure::too_large(what, limit),
        }
    }
}

impl IntoResponse for Failure {
    /// The body is written later, by [`render`], where the path is known.
    fn into_response(self) -> Response {
        let mut response = StatusCode::from_u16(self.0.status).unwrap_or_default().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of a response that carries a [`Failure`].
pub(crate) fn render(response: Response, path: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let Some(Failure(mut problem)) = parts.extensions.remove::<Failure>() else {
        return Response::from_parts(parts, body);
    };
    problem.instance = path.chars().take(1024).collect();
    let headers = &mut parts.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media::PROBLEM));
    headers.remove(header::CONTENT_LENGTH);
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if problem.status == 401 {
        let challenge = HeaderValue::from_static("Bearer realm=\"waystation\"");
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    Response::from_parts(parts, to_json(&problem).into())
}

/// A problem has texts and numbers only, which JSON always takes.
pub(crate) fn to_json(problem: &Problem) -> String {
    serde_json::to_string(problem).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use waystation_base::{Attempt, Name, Tag, message};
    use waystation_broker::Kind as Thing;

    use super::*;

    fn check(refusal: Refusal, status: u16, retry: bool) {
        let Failure(problem) = Failure::from(refusal.clone());
        assert_eq!((problem.status, problem.retry_after_s.is_some()), (status, retry), "{refusal}");
        assert_eq!(problem.detail, refusal.to_string());
    }

    #[test]
    fn each_refusal_has_its_status_and_says_whether_to_try_again() {
        let name = Name::new("orders").expect("a name");
        let kind = Thing::Queue;
        check(Refusal::NotFound { kind, name: "x".into() }, 404, false);
        check(Refusal::Exists { kind, name: name.clone(), field: "lease_ms".into() }, 409, false);
        check(Refusal::Message { index: 3, error: message::Error::TooLarge(9) }, 413, false);
        check(Refusal::Message { index: 3, error: message::Error::HeaderName(0) }, 422, false);
        check(Refusal::Full { name: name.clone(), limit: "1 message".into() }, 429, true);
        check(Refusal::Limit { what: "queues", limit: 5 }, 409, false);
        check(Refusal::NotHeld { tag: Tag(1), attempt: Attempt(1) }, 409, false);
        check(Refusal::Undelayable { name: name.clone() }, 422, false);
        check(Refusal::NotAttached, 410, false);
        check(Refusal::Exclusive { kind, name: name.clone() }, 409, false);
        check(Refusal::InUse { kind, name, state: "in use" }, 409, false);
        check(Refusal::TooLarge { what: "messages", count: 2, limit: 1 }, 413, false);
        check(Refusal::Damaged("x".into()), 500, false);
        check(Refusal::DiskLow, 503, true);
        check(Refusal::MemoryLow, 503, true);
        check(Refusal::Draining, 503, true);
        check(Refusal::Busy, 429, true);
        check(Refusal::Stopped("x".into()), 503, false);
    }

    #[test]
    fn a_problem_names_the_path_and_says_when_to_come_back() {
        let response = render(Failure::from(Refusal::Busy).into_response(), "/v1/queues");
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], media::PROBLEM);
    }
}
