//! How is a JSON body read into plain data, with the place of what is wrong in it?

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};
use waystation_base::Message;

use super::{Error, line::Parsed, stamp::Stamp};

/// Reads a whole body, which must be an object.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    let Object(value) = serde_json::from_slice(body)?;
    Ok(value)
}

/// What is written as an object only. (A derived reader takes an array of the members' values just as well.)
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Object<T>, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Visitor(PhantomData))
    }
}

/// A transaction, borrowed from the input: [`crate::api::TransactionRequest`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transaction<'a> {
    #[serde(borrow, default)]
    pub publishes: Vec<Publish<'a>>,
    #[serde(default)]
    pub settlements: Vec<crate::api::TransactionSettle>,
}

/// One publish of a transaction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish<'a> {
    pub address: String,
    #[serde(default)]
    pub partition: Option<u32>,
    #[serde(borrow)]
    pub messages: Vec<Object<Parsed<'a>>>,
}

impl Publish<'_> {
    /// The messages, or the first one that is wrong and its place.
    pub fn messages(self, owner: &Bytes, stamp: &mut Stamp) -> Result<Vec<Message>, (usize, Error)> {
        let read = |(index, Object(line)): (usize, Object<Parsed<'_>>)| {
            line.into_message(owner, stamp).map_err(|error| (index, error))
        };
        self.messages.into_iter().enumerate().map(read).collect()
    }
}
