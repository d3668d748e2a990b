//! How is a retry policy said in one word of the command line?

use serde_json::{Map, Value};
use waystation_broker::spec::RetryPolicy;

use crate::units;

/// What a part of the policy is called here, in its declaration, and how its value is read.
const PARTS: [(&str, &str, fn(&str) -> Result<Value, String>); 8] = [
    ("backoff", "backoff", word),
    ("first", "first_ms", duration),
    ("factor", "factor", number),
    ("most", "most_ms", duration),
    ("jitter", "jitter_percent", percent),
    ("attempts", "attempts_max", number),
    ("age", "age_ms_max", duration),
    ("give_up", "give_up", flag),
];

const EXAMPLE: &str =
    "exponential,first=1s,most=10m,jitter=50%,attempts=8,age=1d,busy.first=1m,invalid.give_up";

/// A policy as its declaration's fields: `exponential,first=1s,attempts=8`, and `CLASS.first=1m` for what is different for errors
/// of a class. What is not said is left out.
pub fn retry(text: &str) -> Result<Value, String> {
    let mut policy = Map::new();
    for part in text.split(',') {
        put(&mut policy, part.trim()).map_err(|why| format!("{why}; write it like {EXAMPLE}"))?;
    }
    let policy = Value::Object(policy);
    // Whether the numbers fit each other depends on what is there already: the server looks at the whole.
    serde_json::from_value::<RetryPolicy>(policy.clone()).map_err(|error| error.to_string())?;
    Ok(policy)
}

fn put(policy: &mut Map<String, Value>, part: &str) -> Result<(), String> {
    let (place, value) = match part.split_once('=') {
        Some((place, value)) => (place, value),
        None if part.ends_with(".give_up") => (part, "true"),
        None => ("backoff", part),
    };
    let (class, name) = match place.rsplit_once('.') {
        Some((class, name)) => (Some(class), name),
        None => (None, place),
    };
    let known = PARTS.iter().find(|(said, ..)| *said == name);
    let (_, field, read) = known.ok_or_else(|| format!("'{name}' is no part of a retry policy"))?;
    let value = read(value).map_err(|why| format!("'{part}': {why}"))?;
    members(policy, class).insert((*field).to_owned(), value);
    Ok(())
}

/// The fields of the policy, or of a class in it.
fn members<'a>(policy: &'a mut Map<String, Value>, class: Option<&str>) -> &'a mut Map<String, Value> {
    let Some(class) = class else { return policy };
    let empty = || Value::Object(Map::new());
    let classes = policy.entry("classes").or_insert_with(empty);
    let own = classes.as_object_mut().expect("made so").entry(class).or_insert_with(empty);
    own.as_object_mut().expect("made so")
}

fn word(text: &str) -> Result<Value, String> {
    match text {
        "constant" | "linear" | "exponential" => Ok(text.into()),
        _ => Err("a backoff is constant, linear or exponential".to_owned()),
    }
}

fn duration(text: &str) -> Result<Value, String> {
    units::duration_ms(text).map(Value::from)
}

fn number(text: &str) -> Result<Value, String> {
    text.parse::<u32>().map(Value::from).map_err(|_| format!("'{text}' is not a whole number in range"))
}

fn percent(text: &str) -> Result<Value, String> {
    number(text.strip_suffix('%').unwrap_or(text))
}

fn flag(text: &str) -> Result<Value, String> {
    text.parse::<bool>().map(Value::from).map_err(|_| "give_up is true or false".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_said_in_one_word() {
        assert_eq!(retry("linear"), Ok(json!({"backoff": "linear"})));
        assert_eq!(
            retry("first=1s, most=10m,factor=3,jitter=20%,attempts=8,age=1d"),
            Ok(json!({"first_ms": 1_000, "most_ms": 600_000, "factor": 3, "jitter_percent": 20,
                "attempts_max": 8, "age_ms_max": 86_400_000}))
        );
        assert_eq!(
            retry("busy.first=1m,invalid.give_up"),
            Ok(json!({"classes": {"busy": {"first_ms": 60_000}, "invalid": {"give_up": true}}}))
        );
        assert!(retry(EXAMPLE).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_with_an_example() {
        for (text, expected) in [
            ("", "a backoff is constant, linear or exponential"),
            ("soon=1s", "'soon' is no part of a retry policy"),
            ("first=1", "'first=1': '1' is not a duration"),
            ("attempts=many", "'many' is not a whole number"),
            ("busy.give_up=perhaps", "give_up is true or false"),
        ] {
            let error = retry(text).expect_err(text);
            assert!(error.contains(expected) && error.contains(EXAMPLE), "{error}");
        }
        assert!(retry("give_up=true").expect_err("of a class only").contains("give_up"));
    }
}
