//! Bytes to characters and back, by the name of an encoding (the Encoding Standard's labels).

use std::borrow::Cow;

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};

use crate::Error;

/// The encoding of that label; UTF-8 without one.
fn encoding(label: Option<&str>) -> Result<&'static Encoding, Error> {
    let Some(label) = label else { return Ok(UTF_8) };
    Encoding::for_label(label.as_bytes()).ok_or_else(|| Error::Charset(label.chars().take(40).collect()))
}

/// Whether it can be read and written.
pub fn check(label: Option<&str>) -> Result<(), Error> {
    let encoding = encoding(label)?;
    // UTF-16 can be read only: the standard has no encoder for it.
    if encoding.output_encoding() == encoding {
        Ok(())
    } else {
        Err(Error::Charset(encoding.name().to_ascii_lowercase()))
    }
}

/// The characters of a body. A byte order mark wins over the label, and goes.
pub fn decode<'a>(label: Option<&str>, body: &'a [u8]) -> Result<Cow<'a, str>, Error> {
    let (text, used, malformed) = encoding(label)?.decode(body);
    if malformed {
        return Err(Error::Invalid(format!("the body is not {}", used.name())));
    }
    Ok(text)
}

/// The same for XML, which may name its encoding in its declaration (XML 1.0 §4.3.3).
pub fn decode_xml<'a>(label: Option<&str>, body: &'a [u8]) -> Result<Cow<'a, str>, Error> {
    let declared = if label.is_none() { declared(body) } else { None };
    decode(label.or(declared.as_deref()), body)
}

/// What stands behind `encoding=` in an XML declaration at the front.
fn declared(body: &[u8]) -> Option<String> {
    let head = &body[..body.len().min(200)];
    let head = String::from_utf8_lossy(head);
    let declaration = head.strip_prefix("<?xml")?.split_once("?>")?.0.split_once("encoding")?.1;
    let value = declaration.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|it| matches!(it, '"' | '\''))?;
    value[1..].split_once(quote).map(|(label, _)| label.to_ascii_lowercase())
}

/// The bytes of a text.
pub fn encode(label: Option<&str>, text: Bytes) -> Result<Bytes, Error> {
    let encoding = encoding(label)?;
    if encoding == UTF_8 {
        return Ok(text);
    }
    check(label)?;
    let text = std::str::from_utf8(&text).map_err(|cause| Error::Invalid(cause.to_string()))?;
    let (bytes, _, unmappable) = encoding.encode(text);
    if unmappable {
        return Err(Error::Invalid(format!("a character does not exist in {}", encoding.name())));
    }
    Ok(bytes.into_owned().into())
}
