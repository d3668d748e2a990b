//! JSON with its order kept and its numbers as they were written.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{DEPTH_MAX, Error, write::put};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Refuses what is not JSON (RFC 8259), and gives the rest as it is.
pub fn check(text: &str) -> Result<Bytes, Error> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Err(cause) => Err(Error::Invalid(format!("the body is not JSON: {cause}"))),
    }
}

impl Json {
    /// Reads it.
    pub fn read(bytes: &[u8]) -> Result<Json, Error> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let json = Part { depth: 0 }.deserialize(&mut reader).and_then(|json| reader.end().map(|()| json));
        json.map_err(|cause| Error::Invalid(format!("not JSON: {cause}")))
    }

    /// Writes it.
    pub fn write(&self) -> Result<Bytes, Error> {
        let mut out = String::new();
        self.put(&mut out)?;
        Ok(out.into())
    }

    fn put(&self, out: &mut String) -> Result<(), Error> {
        match self {
            Json::Null => put(out, "null"),
            Json::Bool(flag) => put(out, if *flag { "true" } else { "false" }),
            Json::Number(number) => put(out, number),
            Json::Text(text) => put_text(text, out),
            Json::List(items) => {
                put(out, "[")?;
                for (index, item) in items.iter().enumerate() {
                    put(out, if index > 0 { "," } else { "" })?;
                    item.put(out)?;
                }
                put(out, "]")
            }
            Json::Object(items) => {
                put(out, "{")?;
                for (index, (name, item)) in items.iter().enumerate() {
                    put(out, if index > 0 { "," } else { "" })?;
                    put_text(name, out)?;
                    put(out, ":")?;
                    item.put(out)?;
                }
                put(out, "}")
            }
        }
    }

    /// The text of a plain value, empty for null; lists and objects have none.
    pub fn plain(&self, place: &str) -> Result<Cow<'_, str>, Error> {
        match self {
            Json::Null => Ok("".into()),
            Json::Bool(flag) => Ok(flag.to_string().into()),
            Json::Number(number) => Ok(number.into()),
            Json::Text(text) => Ok(text.into()),
            Json::List(_) => Err(Error::Invalid(format!("{place} cannot hold a list"))),
            Json::Object(_) => Err(Error::Invalid(format!("{place} cannot hold an object"))),
        }
    }

    /// Appends a value under a name: a name that comes again makes a list of its values.
    pub fn add(items: &mut Vec<(String, Json)>, index: &mut Names, name: String, value: Json) {
        match index.get(&name) {
            None => {
                index.insert(name.clone(), (items.len(), false));
                items.push((name, value));
            }
            Some(&(at, true)) => {
                if let Json::List(list) = &mut items[at].1 {
                    list.push(value);
                }
            }
            Some(&(at, false)) => {
                index.insert(name, (at, true));
                let first = std::mem::replace(&mut items[at].1, Json::Null);
                items[at].1 = Json::List(vec![first, value]);
            }
        }
    }
}

/// Where each name of an object stands, and whether it has come again.
pub type Names = std::collections::HashMap<String, (usize, bool)>;

fn put_text(text: &str, out: &mut String) -> Result<(), Error> {
    // A text can always be written as JSON.
    put(out, &serde_json::to_string(text).unwrap_or_default())
}

/// Reads one value at a depth.
struct Part {
    depth: usize,
}

impl Part {
    fn deeper<E: de::Error>(&self) -> Result<Part, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(Part { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        // Only as raw text does a number keep its digits.
        let raw = <&RawValue as serde::Deserialize>::deserialize(reader)?.get();
        let custom = |cause: serde_json::Error| de::Error::custom(cause);
        let mut inner = serde_json::Deserializer::from_str(raw);
        match raw.as_bytes().first() {
            Some(b'{') => inner.deserialize_map(Object(self.deeper()?)).map_err(custom),
            Some(b'[') => inner.deserialize_seq(List(self.deeper()?)).map_err(custom),
            Some(b'"') => serde_json::from_str(raw).map(Json::Text).map_err(custom),
            Some(b't') => Ok(Json::Bool(true)),
            Some(b'f') => Ok(Json::Bool(false)),
            Some(b'n') => Ok(Json::Null),
            _ => Ok(Json::Number(raw.to_owned())),
        }
    }
}

struct List(Part);

impl<'de> Visitor<'de> for List {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Part { depth: self.0.depth })? {
            list.push(item);
        }
        Ok(Json::List(list))
    }
}

struct Object(Part);

impl<'de> Visitor<'de> for Object {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(name) = items.next_key::<String>()? {
            list.push((name, items.next_value_seed(Part { depth: self.0.depth })?));
        }
        Ok(Json::Object(list))
    }
}
