//! How does a typed header value look in JSON? What JSON has no type for is an object with one member: `{"$base64": "…"}`,
//! `{"$time_ms": …}`, `{"$decimal": "1234e-2"}`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess},
    ser::{SerializeMap as _, SerializeSeq as _},
};
use smol_str::SmolStr;
use waystation_base::{Headers, Millis, Value, message::header};

const BYTES: &str = "$base64";
const TIME: &str = "$time_ms";
const DECIMAL: &str = "$decimal";
/// The stored type of a decimal.
const DECIMAL_TYPE: u8 = 12;

/// A value to be written.
pub struct Written<'a>(pub &'a Value);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => to.serialize_unit(),
            Value::Bool(v) => to.serialize_bool(*v),
            Value::I8(v) => to.serialize_i8(*v),
            Value::U8(v) => to.serialize_u8(*v),
            Value::I16(v) => to.serialize_i16(*v),
            Value::U16(v) => to.serialize_u16(*v),
            Value::I32(v) => to.serialize_i32(*v),
            Value::U32(v) => to.serialize_u32(*v),
            Value::I64(v) => to.serialize_i64(*v),
            Value::U64(v) => to.serialize_u64(*v),
            // JSON has no infinities and no NaN: as text they are at least not lost.
            Value::F32(v) if !v.is_finite() => to.collect_str(v),
            Value::F64(v) if !v.is_finite() => to.collect_str(v),
            Value::F32(v) => to.serialize_f32(*v),
            Value::F64(v) => to.serialize_f64(*v),
            Value::Decimal { scale, unscaled } => single(to, DECIMAL, &format!("{unscaled}e-{scale}")),
            Value::Timestamp(at) => single(to, TIME, &at.0),
            Value::String(text) => to.serialize_str(text),
            Value::Bytes(bytes) | Value::RawText(bytes) => single(to, BYTES, &BASE64.encode(bytes)),
            Value::List(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&Written(item)))?;
                list.end()
            }
            Value::Map(items) => {
                let mut map = to.serialize_map(Some(items.len()))?;
                items.iter().try_for_each(|(name, item)| map.serialize_entry(name, &Written(item)))?;
                map.end()
            }
        }
    }
}

fn single<S: Serializer>(to: S, name: &str, value: &(impl Serialize + ?Sized)) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(1))?;
    map.serialize_entry(name, value)?;
    map.end()
}

/// A value that was read.
pub struct Read(pub Value);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Read, D::Error> {
        from.deserialize_any(Visitor).map(Read)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::I64(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(i64::try_from(v).map_or(Value::U64(v), Value::I64))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::F64(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Read(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut items: Vec<(SmolStr, Value)> = Vec::new();
        while let Some((name, Read(value))) = map.next_entry()? {
            items.push((name, value));
        }
        match &items[..] {
            [(name, value)] if name.starts_with('$') => special(name, value).map_err(de::Error::custom),
            _ => Ok(Value::Map(items)),
        }
    }
}

fn special(name: &str, value: &Value) -> Result<Value, String> {
    match (name, value) {
        (BYTES, Value::String(text)) => BASE64
            .decode(text.as_str())
            .map(|bytes| Value::Bytes(Bytes::from(bytes)))
            .map_err(|e| e.to_string()),
        (TIME, Value::I64(ms)) if *ms >= 0 => Ok(Value::Timestamp(Millis(*ms as u64))),
        (TIME, Value::U64(ms)) => Ok(Value::Timestamp(Millis(*ms))),
        (DECIMAL, Value::String(text)) => {
            Value::from_plain(DECIMAL_TYPE, text.as_bytes()).map_err(|e| e.to_string())
        }
        _ => Err(format!("an object with the one member {name:?} must be {BYTES}, {TIME} or {DECIMAL}")),
    }
}

/// Headers that were read, in their order; a name given twice is refused.
#[derive(Debug, Default)]
pub struct ReadHeaders(pub Headers);

impl<'de> Deserialize<'de> for ReadHeaders {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ReadHeaders, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ReadHeaders;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers")
            }

            fn visit_unit<E>(self) -> Result<ReadHeaders, E> {
                Ok(ReadHeaders::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ReadHeaders, A::Error> {
                let mut headers = Headers::default();
                while let Some((name, Read(value))) = map.next_entry()? {
                    let name = header::stored_name(name);
                    if headers.get(&name).is_some() {
                        return Err(de::Error::custom(format!("header {name:?} is given twice")));
                    }
                    // Read on past the limit would be quadratic work for a message that is refused anyway.
                    if headers.0.len() > waystation_base::limits::HEADERS_MAX {
                        let have = headers.0.len();
                        return Err(de::Error::custom(waystation_base::message::Error::TooManyHeaders(have)));
                    }
                    headers.0.push((name, value));
                }
                Ok(ReadHeaders(headers))
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: Value, json: &str) {
        assert_eq!(serde_json::to_string(&Written(&value)).expect("written"), json);
        assert_eq!(serde_json::from_str::<Read>(json).expect("read").0, value, "{json}");
    }

    #[test]
    fn values_come_back_from_json_with_their_type() {
        check(Value::Null, "null");
        check(Value::Bool(true), "true");
        check(Value::I64(-3), "-3");
        check(Value::U64(u64::MAX), "18446744073709551615");
        check(Value::F64(1.5), "1.5");
        check("ä".into(), "\"ä\"");
        check(Value::Bytes(Bytes::from_static(&[0, 255])), r#"{"$base64":"AP8="}"#);
        check(Value::Timestamp(Millis(7)), r#"{"$time_ms":7}"#);
        check(Value::Decimal { scale: 2, unscaled: -1250 }, r#"{"$decimal":"-1250e-2"}"#);
        check(Value::List(vec![1.into(), Value::Map(vec![("a".into(), 2.into())])]), r#"[1,{"a":2}]"#);
    }

    #[test]
    fn what_looks_special_and_is_not_is_refused() {
        for json in [r#"{"$base64":7}"#, r#"{"$base64":"="}"#, r#"{"$time_ms":-1}"#, r#"{"$other":1}"#] {
            assert!(serde_json::from_str::<Read>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_header_given_twice_is_refused_by_name() {
        let error = serde_json::from_str::<ReadHeaders>(r#"{"a":1,"a":2}"#).expect_err("twice");
        assert!(error.to_string().contains("\"a\""), "{error}");
    }
}
