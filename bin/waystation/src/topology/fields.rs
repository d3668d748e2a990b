//! In which fields does one declaration differ from another, down into its tables?

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use waystation_admin::plan::Difference;

/// What is not as it would be if nothing was said.
pub fn said(silent: &Value, said_so: &Value) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in said_so.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match silent.get(name) {
            Some(same) if same == value => {}
            Some(other) if other.is_object() && value.is_object() => {
                fields.insert(name.clone(), Value::Object(said(other, value)));
            }
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    fields
}

/// Where `to` differs; a field of a table is called `table.field`.
pub fn differences(from: &Value, to: &Value) -> Vec<Difference> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten("", from, &mut old);
    flatten("", to, &mut new);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |of: &BTreeMap<String, Value>, name| of.get(name).cloned().unwrap_or_default();
    let all = names.into_iter().map(|name| Difference {
        field: name.clone(),
        from: value(&old, name),
        to: value(&new, name),
    });
    all.filter(|it| it.from != it.to).collect()
}

fn flatten(within: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = format!("{within}{name}");
        match value {
            Value::Object(_) => flatten(&format!("{name}."), value, into),
            _ => drop(into.insert(name, value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_within_a_table_is_named_by_its_path() {
        let (from, to) =
            (json!({"a": 1, "t": {"x": 1, "y": 2}}), json!({"a": 1, "t": {"x": 3, "y": 2}, "n": 4}));
        let told: Vec<_> = differences(&from, &to).into_iter().map(|it| (it.field, it.from, it.to)).collect();
        assert_eq!(told, [("n".into(), json!(null), json!(4)), ("t.x".into(), json!(1), json!(3))]);
        assert_eq!(differences(&to, &to), []);
    }

    #[test]
    fn what_was_not_said_is_left_out_of_tables_too() {
        let (silent, full) =
            (json!({"a": 1, "t": {"x": 1, "y": 2}}), json!({"a": 1, "t": {"x": 3, "y": 2}, "n": null}));
        assert_eq!(Value::Object(said(&silent, &full)), json!({"t": {"x": 3}}));
    }
}
