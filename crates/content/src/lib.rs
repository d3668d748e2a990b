//! Bodies of other forms as JSON, and back: by media type, for programs that read JSON only.
//!
//! | media type | as JSON |
//! |---|---|
//! | `application/json`, `text/json`, `…+json`, none | as it is |
//! | `text/csv`, `text/tab-separated-values` | a list of objects by the names in the first line; with `header=absent` a list of lists |
//! | `application/xml`, `text/xml`, `…+xml` | an object with the root: attributes `@name`, text `#text`, repeated elements as lists |
//! | `application/x-www-form-urlencoded` | an object, repeated names as lists |
//! | `text/plain` | text |
//!
//! What these forms do not tell apart comes back as text: numbers, truth values. A `charset` is obeyed.
//!
//! This crate refuses to know messages, and what is done with a body.

pub mod aside;
mod charset;
mod form;
mod json;
mod media;
mod table;
mod write;
mod xml;

use bytes::Bytes;

use json::Json;
use media::{Form, Media};

/// How deep JSON or XML may be nested.
pub const DEPTH_MAX: usize = 128;
/// How long what is made of a body may be: names are repeated in JSON, so a short body can become a long one.
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// How many columns a table may have.
pub const COLUMNS_MAX: usize = 4096;

/// Why a body has no JSON, or JSON no such body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no form of this media type.
    #[error(
        "{0} cannot be read as JSON or written from it: there are JSON, XML, CSV, TSV, forms and plain text"
    )]
    Unknown(String),
    /// No such encoding of characters, or none that can be written.
    #[error("the charset {0} is not known, or cannot be written")]
    Charset(String),
    /// The body or the JSON is not what its type says, or does not fit into it.
    #[error("{0}")]
    Invalid(String),
    /// What is made would be longer than [`OUTPUT_BYTES_MAX`].
    #[error("the result would be longer than {OUTPUT_BYTES_MAX} bytes")]
    Size,
}

/// Whether bodies of this type can be read and written: for checking a declaration.
pub fn check(content_type: Option<&str>) -> Result<(), Error> {
    let media = Media::parse(content_type)?;
    charset::check(media.charset.as_deref())
}

/// The body as JSON. Without a content type it is taken for JSON.
pub fn to_json(content_type: Option<&str>, body: &[u8]) -> Result<Bytes, Error> {
    let media = Media::parse(content_type)?;
    let label = media.charset.as_deref();
    let json = match media.form {
        Form::Json => return json::check(&charset::decode(label, body)?),
        Form::Plain => Json::Text(charset::decode(label, body)?.into_owned()),
        Form::Table { separator, header } => table::read(&charset::decode(label, body)?, separator, header)?,
        Form::Urlencoded => form::read(&charset::decode(label, body)?),
        Form::Xml => xml::read(&charset::decode_xml(label, body)?)?,
    };
    json.write()
}

/// JSON as a body of the given type.
pub fn from_json(content_type: Option<&str>, json: &[u8]) -> Result<Bytes, Error> {
    let media = Media::parse(content_type)?;
    let label = media.charset.as_deref();
    if media.form == Form::Json {
        let text = json::check(&charset::decode(None, json)?)?;
        return charset::encode(label, text);
    }
    let json = Json::read(json)?;
    let text = match media.form {
        Form::Json | Form::Plain => json.plain("a body of plain text")?.into_owned(),
        Form::Table { separator, header } => table::write(&json, separator, header)?,
        Form::Urlencoded => form::write(&json)?,
        Form::Xml => xml::write(&json, label)?,
    };
    charset::encode(label, text.into())
}

#[cfg(test)]
mod tests;
