//! How are names, parameters and the caller taken from a request, with errors that say what to mend?

use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, Method, header, request::Parts},
};
use serde::de::DeserializeOwned;
use waystation_base::{Name, filter::Filter, name};

use crate::{
    auth::Caller,
    door::Door,
    failure::{Failure, Kind},
    incoming::{self, Whole},
    limits::CONTROL_BYTES_MAX,
    wire::{self, body::essence},
};

/// The name in the path, checked.
pub(crate) struct Named(pub Name);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, Failure> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::new(Kind::Malformed, error.body_text()))?;
        // Waystation's own can be looked at, and no more; but for the queue that workers reply to.
        let is_reply = parts.method == Method::POST
            && text == name::CALL_REPLIES
            && parts.uri.path().ends_with("/messages");
        match Name::reserved(&text) {
            Ok(name) if parts.method == Method::GET || is_reply => Ok(Named(name)),
            _ => name("name", &text).map(Named),
        }
    }
}

/// A name from anywhere in a request.
pub(crate) fn name(field: &'static str, text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::field(field, error))
}

/// The parameters; one that is unknown is an error.
pub(crate) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Params<T>, Failure> {
        let Query(value) = Query::try_from_uri(&parts.uri)
            .map_err(|error| Failure::new(Kind::Malformed, format!("parameters: {}", reason(&error))))?;
        Ok(Params(value))
    }
}

/// What the reader of parameters said, without what the framework puts before it.
fn reason(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), reason)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, Failure> {
        let unknown = || Failure::internal("a request without a caller");
        parts.extensions.get::<Caller>().cloned().ok_or_else(unknown)
    }
}

/// Refuses a number past its bound.
pub(crate) fn at_most<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<T, Failure> {
    if value < min || value > max {
        return Err(Failure::field(field, format_args!("must lie between {min} and {max}, is {value}")));
    }
    Ok(value)
}

/// A filter given as JSON in a parameter.
pub(crate) fn filter(text: Option<&str>) -> Result<Option<Filter>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let filter: Filter = serde_json::from_str(text).map_err(|error| Failure::field("filter", error))?;
    filter.check().map_err(|error| Failure::field("filter", error))?;
    Ok(Some(filter))
}

/// The media type of the request's body, without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    essence(headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default())
}

/// Whether the client asks for this media type by name.
pub(crate) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let named = |value: &axum::http::HeaderValue| {
        value.to_str().is_ok_and(|text| text.split(',').any(|part| essence(part) == media))
    };
    headers.get_all(header::ACCEPT).iter().any(named)
}

/// Refuses a body of JSON that says to be something else. No type at all is taken for JSON.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Failure> {
    let given = content_type(headers);
    let is_fine = matches!(given.as_str(), "" | "application/json" | "application/merge-patch+json")
        // What curl says of its own accord.
        || given == "application/x-www-form-urlencoded";
    let detail = format!("the body must be application/json, not {given}");
    if is_fine { Ok(()) } else { Err(Failure::new(Kind::UnsupportedType, detail)) }
}

/// A body of JSON as it came, for who reads it in two ways.
pub(crate) async fn body(door: &Door, headers: &HeaderMap, body: Body) -> Result<Whole, Failure> {
    require_json(headers)?;
    incoming::whole(door, headers, body, "the body", CONTROL_BYTES_MAX).await
}

/// What a body of JSON says.
pub(crate) async fn json<T: DeserializeOwned>(
    door: &Door,
    headers: &HeaderMap,
    request: Body,
) -> Result<T, Failure> {
    Ok(wire::json::parse_owned(&body(door, headers, request).await?.bytes)?)
}

/// The same where none at all asks for all defaults.
pub(crate) async fn json_or_defaults<T: DeserializeOwned>(
    door: &Door,
    headers: &HeaderMap,
    request: Body,
) -> Result<T, Failure> {
    let whole = body(door, headers, request).await?;
    let text = if whole.bytes.is_empty() { &b"{}"[..] } else { &whole.bytes };
    Ok(wire::json::parse_owned(text)?)
}
