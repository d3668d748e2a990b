//! What does a refused request hear? RabbitMQ's error bodies: `{"error": …, "reason": …}`.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use waystation_broker::Refusal;
use waystation_catalog as catalog;

use crate::{mapping::Invalid, wire::ReplyCode};

/// A request that is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub status: StatusCode,
    pub error: &'static str,
    pub reason: Value,
    /// What the broker said, if it was that.
    pub refusal: Option<Box<Refusal>>,
}

impl Failure {
    fn new(status: StatusCode, error: &'static str, reason: impl Into<Value>) -> Failure {
        Failure { status, error, reason: reason.into(), refusal: None }
    }

    /// What is wrong with several things in one answer: as the broker said it, if it said the same of each of them.
    pub fn of_several(reason: String, each: &[Failure]) -> Failure {
        let said = |failure: &Failure| failure.refusal.as_deref().map(std::mem::discriminant);
        match each.first() {
            Some(first) if first.refusal.is_some() && each.iter().all(|other| said(other) == said(first)) => {
                Failure { reason: reason.into(), ..first.clone() }
            }
            _ => Failure::bad_request(reason),
        }
    }

    /// The path names something that is not there.
    pub fn not_found() -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// Something else that is not there.
    pub fn missing(reason: impl Into<Value>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    pub fn bad_request(reason: impl Into<Value>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    pub fn page_out_of_range(reason: String) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "page_out_of_range", reason)
    }

    /// Known, but it lacks a tag or a permission.
    pub fn not_authorised(reason: &str) -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// Name and password do not fit together.
    pub fn login_failed(reason: &str) -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, "not_authorized", reason)
    }

    /// What the broker refuses a user by the door of this protocol.
    pub fn access_refused() -> Failure {
        Failure::not_authorised("Access refused.")
    }

    pub fn too_large(bytes: usize) -> Failure {
        let reason = format!("a body may have {bytes} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", reason)
    }

    /// Try again later.
    pub fn busy(reason: impl Into<Value>) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", reason)
    }

    pub fn internal(reason: impl ToString) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", reason.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let failure = match &refusal {
            Refusal::NotFound { .. } | Refusal::NotAttached => Failure::not_found(),
            Refusal::Draining
            | Refusal::Stopped(_)
            | Refusal::DiskLow
            | Refusal::MemoryLow
            | Refusal::Busy => Failure::busy(refusal.to_string()),
            Refusal::Damaged(_) => Failure::internal(&refusal),
            _ => Failure::bad_request(refusal.to_string()),
        };
        Failure { refusal: Some(Box::new(refusal)), ..failure }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Failure {
        match invalid.code {
            ReplyCode::AccessRefused => Failure::access_refused(),
            // RabbitMQ says it so here, and "unknown" by its own protocol.
            _ => Failure::bad_request(invalid.text.replace("unknown exchange type", "invalid exchange type")),
        }
    }
}

impl From<waystation_access::Error> for Failure {
    fn from(error: waystation_access::Error) -> Failure {
        use waystation_access::Error;
        match error {
            Error::Unknown(_) => Failure::bad_request("vhost_or_user_not_found"),
            Error::Refused(refusal) => refusal.into(),
            Error::Busy => Failure::busy(error.to_string()),
            Error::Expression { field, reason } => {
                Failure::bad_request(json!(["invalid_regexp", field, reason]))
            }
            other => Failure::bad_request(other.to_string()),
        }
    }
}

impl From<catalog::Error> for Failure {
    fn from(error: catalog::Error) -> Failure {
        match error {
            catalog::Error::NoVhost(_) => Failure::missing("vhost_not_found"),
            catalog::Error::Access(error) => error.into(),
            catalog::Error::Refused(refusal) => refusal.into(),
            other => Failure::bad_request(other.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "reason": self.reason}).to_string();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if self.status == StatusCode::UNAUTHORIZED && self.error == "not_authorized" {
            let challenge = "Basic realm=\"Waystation Management\"";
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(challenge));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_are_told_as_the_broker_told_each_if_that_is_the_same() {
        let full = |limit| Failure::from(Refusal::VhostFull { vhost: "v".into(), limit });
        let low = || Failure::from(Refusal::DiskLow);
        let check = |each: &[Failure], status, refusal: Option<Refusal>| {
            let told = Failure::of_several("all".to_owned(), each);
            assert_eq!((told.status.as_u16(), told.refusal.as_deref()), (status, refusal.as_ref()));
            assert_eq!(told.reason, "all");
        };
        check(&[low(), low()], 503, Some(Refusal::DiskLow));
        check(&[full(1), full(2)], 400, Some(Refusal::VhostFull { vhost: "v".into(), limit: 1 }));
        check(&[low(), full(1)], 400, None);
        check(&[low(), Failure::bad_request("no")], 400, None);
        check(&[Failure::busy("no")], 400, None);
    }
}
