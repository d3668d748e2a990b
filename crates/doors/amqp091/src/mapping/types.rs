//! What is a table as JSON, what does RabbitMQ call the type of a value, and how does it print one?

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Number, Value as Json};
use smol_str::SmolStr;
use waystation_base::{Millis, value::Value};
use waystation_broker::spec::Arguments;

use crate::wire::Table;

/// Whole seconds of a moment.
pub(crate) fn seconds(at: Millis) -> u64 {
    at.0 / 1000
}

/// A table as JSON, as the management API shows it. What JSON has no type for becomes text or a number; times are seconds.
pub fn to_json(table: &Table) -> Arguments {
    table.0.iter().map(|(name, value)| (name.to_string(), json(value))).collect()
}

/// One value as JSON.
pub fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(v) => Json::Bool(*v),
        Value::U64(v) => Json::from(*v),
        Value::F32(v) => float(f64::from(*v)),
        Value::F64(v) => float(*v),
        Value::Decimal { scale, unscaled } => float(f64::from(*unscaled) / 10f64.powi((*scale).into())),
        Value::Timestamp(at) => Json::from(seconds(*at)),
        Value::String(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) | Value::RawText(bytes) => Json::from(STANDARD.encode(bytes)),
        Value::List(values) => values.iter().map(json).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(name, value)| (name.to_string(), json(value))).collect())
        }
        whole => whole.as_i64().map_or(Json::Null, Json::from),
    }
}

fn float(number: f64) -> Json {
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

/// JSON as a table. Whole numbers take the smaller of `I` and `l` that holds them, as most clients send them.
pub fn from_json(arguments: &Arguments) -> Table {
    arguments.iter().map(|(name, json)| (SmolStr::new(name), value(json))).collect()
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(v) => Value::Bool(*v),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => i32::try_from(whole).map_or(Value::I64(whole), Value::I32),
            None => Value::F64(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(values) => Value::List(values.iter().map(value).collect()),
        Json::Object(entries) => {
            Value::Map(entries.iter().map(|(name, json)| (SmolStr::new(name), value(json))).collect())
        }
    }
}

/// What RabbitMQ calls the type of a value in its errors.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "void",
        Value::Bool(_) => "bool",
        Value::I8(_) => "byte",
        Value::U8(_) => "unsignedbyte",
        Value::I16(_) => "short",
        Value::U16(_) => "unsignedshort",
        Value::I32(_) => "signedint",
        Value::U32(_) => "unsignedint",
        Value::I64(_) | Value::U64(_) => "long",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::Timestamp(_) => "timestamp",
        Value::String(_) | Value::RawText(_) => "longstr",
        Value::Bytes(_) => "binary",
        Value::List(_) => "array",
        Value::Map(_) => "table",
    }
}

/// A plain value as it stands in an error text.
pub(crate) fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        other => json(other).to_string(),
    }
}
