//! Paths into JSON as jq writes them (jq manual, "Object Identifier-Index", "Array Index"): `.order.id`, `.lines[0]."item no"`.
//!
//! Only paths that lead to one place: no iteration, no filters. They are looked up in this process, and cannot run long.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

/// Steps of one path.
pub const STEPS_MAX: usize = 32;

/// A path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(SmolStr),
    Index(i64),
}

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Path, String> {
        let steps = parse(&text).map_err(|(column, why)| {
            format!("'{text}' is no path: {why} at column {column}; write it like .order.id or .lines[0].\"item no\"")
        })?;
        Ok(Path { text, steps })
    }
}

impl From<Path> for String {
    fn from(path: Path) -> String {
        path.text
    }
}

impl Path {
    /// What stands there, as text: text as it is, numbers and truth values as JSON writes them; nothing else has any.
    pub fn value(&self, json: &Value) -> Option<SmolStr> {
        let found = self.steps.iter().try_fold(json, |value, step| match step {
            Step::Member(name) => value.get(name.as_str()),
            Step::Index(index) => {
                let items = value.as_array()?;
                let index = if *index < 0 { *index + items.len() as i64 } else { *index };
                items.get(usize::try_from(index).ok()?)
            }
        })?;
        match found {
            Value::String(text) => Some(text.into()),
            Value::Number(number) => Some(SmolStr::new(number.to_string())),
            Value::Bool(truth) => Some(SmolStr::new(truth.to_string())),
            _ => None,
        }
    }
}

type Wrong = (usize, &'static str);

fn parse(text: &str) -> Result<Vec<Step>, Wrong> {
    let mut rest = text;
    let mut steps = Vec::new();
    let column = |rest: &str| text.len() - rest.len() + 1;
    if !rest.starts_with('.') {
        return Err((1, "it must begin with a dot"));
    }
    while !rest.is_empty() {
        if steps.len() == STEPS_MAX {
            return Err((column(rest), "there are too many steps"));
        }
        let after_dot = rest.strip_prefix('.');
        let body = after_dot.unwrap_or(rest);
        let (step, left) = if let Some(inner) = body.strip_prefix('[') {
            bracket(inner).ok_or((column(body), "an index in brackets must be a number or a quoted name"))?
        } else if body.starts_with('"') && after_dot.is_some() {
            quoted(body)
                .map(|(name, left)| (Step::Member(name), left))
                .ok_or((column(body), "a quote is not closed"))?
        } else if after_dot.is_some() {
            let end = body.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(body.len());
            if end == 0 || body.starts_with(|c: char| c.is_ascii_digit()) {
                return Err((column(body), "a name is missing"));
            }
            (Step::Member(body[..end].into()), &body[end..])
        } else {
            return Err((column(rest), "a dot or a bracket is missing"));
        };
        steps.push(step);
        rest = left;
    }
    Ok(steps)
}

fn bracket(inner: &str) -> Option<(Step, &str)> {
    if inner.starts_with('"') {
        let (name, left) = quoted(inner)?;
        return Some((Step::Member(name), left.strip_prefix(']')?));
    }
    let (number, left) = inner.split_once(']')?;
    Some((Step::Index(number.trim().parse().ok()?), left))
}

fn quoted(text: &str) -> Option<(SmolStr, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let name = values.next()?.ok()?;
    Some((name.into(), &text[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        let json = json!({"order": {"id": 4711, "no": "A-1", "item no": true, "lines": [{"sku": "x"}, {"sku": "y"}]}});
        let path = Path::try_from(path.to_owned()).expect("a path");
        assert_eq!(path.value(&json).as_deref(), expected);
    }

    #[test]
    fn a_path_leads_to_text_numbers_and_truth_values() {
        check(".order.id", Some("4711"));
        check(".order.no", Some("A-1"));
        check(".order.\"item no\"", Some("true"));
        check(".order[\"item no\"]", Some("true"));
        check(".order.lines[1].sku", Some("y"));
        check(".order.lines.[-2].sku", Some("x"));
        check(".order.lines[2].sku", None);
        check(".order.lines", None);
        check(".customer.id", None);
    }

    #[test]
    fn what_is_no_path_is_refused_with_the_column() {
        for (text, column) in
            [("order", 1), (".", 2), (".a b", 3), (".a[]", 3), (".a.\"b", 4), (".a.0", 4), ("", 1)]
        {
            let error = Path::try_from(text.to_owned()).expect_err(text);
            assert!(error.contains(&format!("column {column};")), "{text}: {error}");
        }
        assert!(Path::try_from(".a".repeat(STEPS_MAX)).is_ok());
        assert!(Path::try_from(".a".repeat(STEPS_MAX + 1)).is_err());
    }
}
