//! How is a JSON body read into plain data, with the place of what is wrong in it?

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use serde_json::Value;
use waystation_base::Message;

use super::{Error, line::Parsed, stamp::Stamp};

/// Reads a whole body, which must be an object.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    let Object(value) = serde_json::from_slice(body)?;
    Ok(value)
}

/// The same for what holds no bodies of messages. A number such as `312.0` says 312 (RFC 8259 §6), which many writers of JSON make of
/// it: it is taken where a whole number is meant.
pub fn parse_owned<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let error = match parse(body) {
        Err(error) if error.to_string().contains("floating point") => error,
        done => return done,
    };
    let Ok(mut value @ Value::Object(_)) = serde_json::from_slice(body) else { return Err(error) };
    make_whole(&mut value);
    serde_json::from_value(value).map_err(|_| error)
}

/// Numbers without a fraction as whole numbers.
pub fn make_whole(value: &mut Value) {
    /// Up to here each whole number has a floating one of its own.
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0);
            if let Some(float) = float.filter(|float| float.abs() <= EXACT_MAX) {
                *number = (float as i64).into();
            }
        }
        Value::Array(all) => all.iter_mut().for_each(make_whole),
        Value::Object(members) => members.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Spec {
        most: u64,
        #[serde(default)]
        least: Option<i8>,
        #[serde(default)]
        share: f64,
    }

    fn check(text: &str, expected: Result<(u64, Option<i8>, f64), &str>) {
        let found = parse_owned::<Spec>(text.as_bytes());
        let found = found.map(|it| (it.most, it.least, it.share)).map_err(|error| error.to_string());
        match expected {
            Ok(_) => assert_eq!(found.as_ref().ok(), expected.as_ref().ok(), "{text}: {found:?}"),
            Err(part) => {
                assert!(found.as_ref().is_err_and(|error| error.contains(part)), "{text}: {found:?}")
            }
        }
    }

    #[test]
    fn a_number_without_a_fraction_is_whole_and_any_other_is_none() {
        check(r#"{"most": 312.0}"#, Ok((312, None, 0.0)));
        check(r#"{"most": 3.12e2, "least": -7.0, "share": 1}"#, Ok((312, Some(-7), 1.0)));
        check(r#"{"most": 9007199254740992.0}"#, Ok((1 << 53, None, 0.0)));
        check(r#"{"most": 9007199254740994.0}"#, Err("floating point"));
        check(r#"{"most": 312.5}"#, Err("floating point"));
        check(r#"{"most": 1.0, "least": 128.0}"#, Err("floating point"));
        check(r#"{"most": -1.0}"#, Err("floating point"));
        check(r#"{"most": "1.0"}"#, Err("string"));
        check("[312.0]", Err("an object"));
    }
}
