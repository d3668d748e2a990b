//! What a name in a selector may stand for, as far as selectors tell values apart.

use std::borrow::Cow;

use waystation_base::value::Value as Header;

/// A value in a selector.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'m> {
    /// True or false.
    Bool(bool),
    /// A whole number, computed with exactly.
    Exact(i64),
    /// A number with a point or an exponent, computed with as a double.
    Approximate(f64),
    /// Text.
    Text(Cow<'m, str>),
}

impl<'m> Value<'m> {
    /// What a header's value is in a selector; `None` for what selectors do not know (bytes, lists, maps), which is like
    /// a header that is not there (JMS 2.0 §3.8.1.1).
    pub fn of(header: &'m Header) -> Option<Value<'m>> {
        Some(match header {
            Header::Bool(flag) => Value::Bool(*flag),
            Header::String(text) => Value::Text(Cow::Borrowed(text)),
            Header::F32(number) => Value::Approximate((*number).into()),
            Header::F64(number) => Value::Approximate(*number),
            Header::Decimal { scale, unscaled } => {
                Value::Approximate(f64::from(*unscaled) / 10f64.powi(i32::from(*scale)))
            }
            // Past what is exact in 64 bits with a sign.
            Header::U64(number) => match i64::try_from(*number) {
                Ok(number) => Value::Exact(number),
                Err(_) => Value::Approximate(*number as f64),
            },
            other => Value::Exact(other.as_i64()?),
        })
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Bool(flag)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Exact(number)
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Value::Approximate(number)
    }
}

impl<'m> From<&'m str> for Value<'m> {
    fn from(text: &'m str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}
