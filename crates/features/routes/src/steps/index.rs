//! Which cases can hold at all for a message? Those that want one of some values of one attribute are found by the value.

use std::collections::HashMap;

use waystation_base::filter::Filter;

use super::condition::Condition;
use crate::packet::Packet;

/// Cases by what they want.
#[derive(Debug, Default)]
pub(crate) struct Index {
    count: usize,
    /// Per attribute, the cases that want this value of it.
    by_value: Vec<(Attribute, HashMap<String, Vec<u32>>)>,
    /// Those that have to be asked.
    rest: Vec<u32>,
}

/// What may be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Attribute {
    Address,
    RoutingKey,
    /// A header, the key or the priority, as [`Filter`] names them.
    Named(String),
    /// Whatever a selector calls so.
    Property(String),
}

/// What a condition demands at least: one attribute with one value. More may be demanded besides.
fn demand(condition: &Condition) -> Option<(Attribute, String)> {
    let plain = |pattern: &String| (!waystation_base::name::is_pattern(pattern)).then(|| pattern.clone());
    match condition {
        Condition::Address(pattern) => Some((Attribute::Address, plain(pattern)?)),
        Condition::RoutingKey(pattern) => Some((Attribute::RoutingKey, plain(pattern)?)),
        Condition::Filter(filter) => of_filter(filter),
        Condition::Selector(selector) => of_selector(selector.text()),
        Condition::All(parts) => parts.iter().find_map(demand),
        _ => None,
    }
}

fn of_filter(filter: &Filter) -> Option<(Attribute, String)> {
    match filter {
        Filter::Exact(texts) => {
            let (name, text) = texts.first_key_value()?;
            Some((Attribute::Named(name.clone()), text.clone()))
        }
        Filter::All(parts) => parts.iter().find_map(of_filter),
        _ => None,
    }
}

/// The plainest of selectors, `region = 'eu'`; all others are asked.
fn of_selector(text: &str) -> Option<(Attribute, String)> {
    let (name, literal) = text.split_once('=')?;
    let name = name.trim();
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let inner = literal.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    // A quote within the text is written twice.
    let is_whole = !inner.replace("''", "").contains('\'');
    (is_name && is_whole).then(|| (Attribute::Property(name.to_owned()), inner.replace("''", "'")))
}

impl Index {
    pub fn new<'c>(conditions: impl Iterator<Item = &'c Condition>) -> Index {
        let mut index = Index::default();
        for condition in conditions {
            let number = index.count as u32;
            index.count += 1;
            match demand(condition) {
                Some((attribute, value)) => index.add(attribute, value, number),
                None => index.rest.push(number),
            }
        }
        index
    }

    fn add(&mut self, attribute: Attribute, value: String, number: u32) {
        let at = self.by_value.iter().position(|(have, _)| *have == attribute).unwrap_or_else(|| {
            self.by_value.push((attribute, HashMap::new()));
            self.by_value.len() - 1
        });
        self.by_value[at].1.entry(value).or_default().push(number);
    }

    /// All cases, in order.
    pub fn all(&self) -> Vec<usize> {
        (0..self.count).collect()
    }

    /// Cases that may hold, in order; all others do not.
    pub fn candidates(&self, packet: &Packet) -> Vec<usize> {
        let mut numbers = self.rest.clone();
        for (attribute, values) in &self.by_value {
            if let Some(value) = value_of(attribute, packet) {
                numbers.extend(values.get(&value).into_iter().flatten());
            }
        }
        numbers.sort_unstable();
        numbers.into_iter().map(|number| number as usize).collect()
    }
}

fn value_of(attribute: &Attribute, packet: &Packet) -> Option<String> {
    match attribute {
        Attribute::Address => Some(packet.address.to_string()),
        Attribute::RoutingKey => Some(packet.routing_key().unwrap_or_default().to_owned()),
        Attribute::Property(name) => match packet.property(name)? {
            waystation_selector::Value::Text(text) => Some(text.into_owned()),
            _ => None,
        },
        Attribute::Named(name) => {
            waystation_base::filter::attribute(packet.address.as_str(), &packet.message, name)
        }
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::{Message, Name};

    use super::*;
    use crate::spec;

    fn index(conditions: &[serde_json::Value]) -> (Index, Vec<Condition>) {
        let read = |json: &serde_json::Value| {
            let spec: spec::Condition = serde_json::from_value(json.clone()).expect("a condition");
            Condition::compile("when", &spec).expect("it compiles")
        };
        let conditions: Vec<Condition> = conditions.iter().map(read).collect();
        (Index::new(conditions.iter()), conditions)
    }

    fn check(headers: &[(&str, &str)], expected: &[usize]) {
        let conditions = [
            serde_json::json!({"filter": {"exact": {"region": "eu"}}}),
            serde_json::json!({"selector": "region = 'us'"}),
            serde_json::json!({"selector": "region = 'us' OR region = 'eu'"}),
            serde_json::json!({"address": "in"}),
            serde_json::json!({"address": "in.*"}),
            serde_json::json!({"all": [{"filter": {"exact": {"region": "eu", "kind": "a"}}}, {"selector": "n > 1"}]}),
            serde_json::json!({"selector": "who = 'o''hara'"}),
            serde_json::json!({"routing_key": "k"}),
            serde_json::json!({"not": {"filter": {"exact": {"region": "eu"}}}}),
        ];
        let mut message = Message::default();
        headers.iter().for_each(|(name, value)| message.headers.set(*name, *value));
        let packet = Packet::new(Name::new("in").expect("a name"), message);
        assert_eq!(index(&conditions).0.candidates(&packet), expected, "{headers:?}");
    }

    #[test]
    fn only_cases_that_may_hold_are_asked_in_their_order() {
        // What demands no one value is always asked: 2, 4, 8. The address is the same each time.
        check(&[], &[2, 3, 4, 8]);
        check(&[("region", "eu")], &[0, 2, 3, 4, 8]);
        check(&[("region", "us")], &[1, 2, 3, 4, 8]);
        check(&[("region", "eu"), ("kind", "a")], &[0, 2, 3, 4, 5, 8]);
        check(&[("who", "o'hara"), ("ws-routing-key", "k")], &[2, 3, 4, 6, 7, 8]);
    }
}
