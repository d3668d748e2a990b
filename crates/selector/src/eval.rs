//! What a selector says of a message: true, false, or unknown where something is missing (JMS 2.0 §3.8.1.2).

use crate::{
    tree::{Expression, Operator},
    value::Value,
};

type Lookup<'a, 'm> = &'a dyn Fn(&str) -> Option<Value<'m>>;

/// True, false or unknown.
pub fn truth(expression: &Expression, lookup: Lookup<'_, '_>) -> Option<bool> {
    match expression {
        Expression::Any(parts) => quantify(parts, true, lookup),
        Expression::All(parts) => quantify(parts, false, lookup),
        Expression::Not(inner) => truth(inner, lookup).map(|it| !it),
        Expression::Binary(left, operator, right) if !operator.is_arithmetic() => {
            Some(compare(&value(left, lookup)?, *operator, &value(right, lookup)?))
        }
        Expression::Between { value: of, low, high, negated } => {
            between(of, low, high, lookup).map(|it| it != *negated)
        }
        Expression::In { name, items, negated } => lookup(name).map(|value| {
            let found = matches!(&value, Value::Text(text) if items.iter().any(|item| item == text));
            found != *negated
        }),
        Expression::Like { name, pattern, negated } => lookup(name).map(|value| {
            let found = matches!(&value, Value::Text(text) if pattern.matches(text));
            found != *negated
        }),
        Expression::IsNull { name, negated } => Some(lookup(name).is_none() != *negated),
        other => match value(other, lookup)? {
            Value::Bool(flag) => Some(flag),
            _ => None,
        },
    }
}

/// OR is true as soon as one part is, AND is false as soon as one part is; else unknown if one part is.
fn quantify(parts: &[Expression], decisive: bool, lookup: Lookup<'_, '_>) -> Option<bool> {
    let mut result = Some(!decisive);
    for part in parts {
        match truth(part, lookup) {
            Some(it) if it == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

/// `low <= value AND value <= high`, which the specification gives as its meaning.
fn between(of: &Expression, low: &Expression, high: &Expression, lookup: Lookup<'_, '_>) -> Option<bool> {
    let of = value(of, lookup);
    let side = |bound: &Expression, operator: Operator| {
        Some(compare(of.as_ref()?, operator, &value(bound, lookup)?))
    };
    match (side(low, Operator::GreaterOrEqual), side(high, Operator::LessOrEqual)) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// A value, or `None` for NULL: what is missing, or cannot be computed.
fn value<'m>(expression: &Expression, lookup: Lookup<'_, 'm>) -> Option<Value<'m>> {
    match expression {
        Expression::Bool(flag) => Some(Value::Bool(*flag)),
        Expression::Exact(number) => Some(Value::Exact(*number)),
        Expression::Approximate(number) => Some(Value::Approximate(*number)),
        Expression::Text(text) => Some(Value::Text(text.clone().into())),
        Expression::Name(name) => lookup(name),
        Expression::Positive(inner) => {
            value(inner, lookup).filter(|it| matches!(it, Value::Exact(_) | Value::Approximate(_)))
        }
        Expression::Negative(inner) => match value(inner, lookup)? {
            Value::Exact(number) => number.checked_neg().map(Value::Exact),
            Value::Approximate(number) => Some(Value::Approximate(-number)),
            _ => None,
        },
        Expression::Binary(left, operator, right) if operator.is_arithmetic() => {
            compute(&value(left, lookup)?, *operator, &value(right, lookup)?)
        }
        condition => truth(condition, lookup).map(Value::Bool),
    }
}

/// Values that are not of like type are neither equal nor unequal nor in order: the comparison is false (JMS 2.0 §3.8.1.2).
fn compare(left: &Value<'_>, operator: Operator, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => equality(left == right, operator),
        (Value::Bool(left), Value::Bool(right)) => equality(left == right, operator),
        (Value::Exact(left), Value::Exact(right)) => ordering(left, operator, right),
        _ => match (approximate(left), approximate(right)) {
            (Some(left), Some(right)) => ordering(&left, operator, &right),
            _ => false,
        },
    }
}

fn equality(equal: bool, operator: Operator) -> bool {
    match operator {
        Operator::Equal => equal,
        Operator::NotEqual => !equal,
        _ => false,
    }
}

fn ordering<T: PartialOrd>(left: &T, operator: Operator, right: &T) -> bool {
    match operator {
        Operator::Equal => left == right,
        Operator::NotEqual => left != right,
        Operator::Less => left < right,
        Operator::LessOrEqual => left <= right,
        Operator::Greater => left > right,
        Operator::GreaterOrEqual => left >= right,
        _ => false,
    }
}

/// As a double (the numeric promotion of Java, JLS §5.6.2), if it is a number.
fn approximate(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Exact(number) => Some(*number as f64),
        Value::Approximate(number) => Some(*number),
        _ => None,
    }
}

/// Whole numbers stay whole; past 64 bits, and divided by zero, nothing is known.
fn compute<'m>(left: &Value<'_>, operator: Operator, right: &Value<'_>) -> Option<Value<'m>> {
    if let (Value::Exact(left), Value::Exact(right)) = (left, right) {
        return match operator {
            Operator::Add => left.checked_add(*right),
            Operator::Subtract => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Divide => left.checked_div(*right),
            _ => None,
        }
        .map(Value::Exact);
    }
    let (left, right) = (approximate(left)?, approximate(right)?);
    Some(Value::Approximate(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        _ => return None,
    }))
}
