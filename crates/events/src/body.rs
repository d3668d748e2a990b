//! Is a body JSON, text or just bytes, and how does it look inside JSON?

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

/// What a media type says about the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`, `…+json`.
    Json,
    /// `text/…`, forms, XML.
    Text,
    /// Everything else, and nothing said.
    Bytes,
}

/// The type without its parameters, in lower case.
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Tells the kind by the media type alone.
pub fn kind(content_type: Option<&str>) -> Kind {
    let essence = essence(content_type.unwrap_or_default());
    match essence.as_str() {
        "application/json" | "text/json" => Kind::Json,
        "application/xml" | "application/x-www-form-urlencoded" => Kind::Text,
        other if other.ends_with("+json") => Kind::Json,
        other if other.starts_with("text/") || other.ends_with("+xml") => Kind::Text,
        _ => Kind::Bytes,
    }
}

/// A body as it can stand in JSON.
#[derive(Debug)]
pub enum Shown<'a> {
    /// Valid JSON, on one line.
    Json(Cow<'a, RawValue>),
    /// Text.
    Text(&'a str),
    /// Bytes, to be written in base 64.
    Bytes(&'a [u8]),
}

/// Tells how a body is shown: as its type says if the bytes bear it out, else the next simpler way.
pub fn show<'a>(content_type: Option<&str>, body: &'a [u8]) -> Shown<'a> {
    let kind = kind(content_type);
    if kind == Kind::Json
        && let Ok(raw) = serde_json::from_slice::<&RawValue>(body)
    {
        return Shown::Json(on_one_line(raw));
    }
    match std::str::from_utf8(body) {
        Ok(text) if kind != Kind::Bytes => Shown::Text(text),
        _ => Shown::Bytes(body),
    }
}

/// In valid JSON a line end is white space between tokens and nothing else, so that a space may stand for it.
fn on_one_line(raw: &RawValue) -> Cow<'_, RawValue> {
    if memchr::memchr2(b'\n', b'\r', raw.get().as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    let text = raw.get().replace(['\n', '\r'], " ");
    RawValue::from_string(text).map_or(Cow::Borrowed(raw), Cow::Owned)
}

impl Shown<'_> {
    /// Writes the body as a member, under the name that belongs to its form.
    pub fn put<M: SerializeMap>(
        &self,
        map: &mut M,
        json: &'static str,
        text: &'static str,
        bytes: &'static str,
    ) -> Result<(), M::Error> {
        match self {
            Shown::Json(raw) => map.serialize_entry(json, &**raw),
            Shown::Text(body) => map.serialize_entry(text, body),
            Shown::Bytes(body) => map.serialize_entry(bytes, &BASE64.encode(body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: Option<&str>, body: &[u8], expected: &str) {
        let found = match show(content_type, body) {
            Shown::Json(raw) => format!("json {}", raw.get()),
            Shown::Text(text) => format!("text {text}"),
            Shown::Bytes(bytes) => format!("bytes {}", bytes.len()),
        };
        assert_eq!(found, expected, "{content_type:?}");
    }

    #[test]
    fn a_body_is_shown_as_its_type_says_if_its_bytes_bear_it_out() {
        check(Some("application/json"), b"{\"a\":\n1}", "json {\"a\": 1}");
        check(Some("application/vnd.x+json; charset=utf-8"), b" 1 ", "json 1");
        check(Some("application/json"), b"{", "text {");
        check(Some("application/json"), b"{\xff", "bytes 2");
        check(Some("Text/Plain"), b"{}", "text {}");
        check(Some("text/plain"), b"\xff", "bytes 1");
        check(Some("application/octet-stream"), b"{}", "bytes 2");
        check(None, b"{}", "bytes 2");
    }
}
