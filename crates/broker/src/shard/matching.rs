//! Which bindings a routing key or a message's headers match.

use serde_json::Value as Json;
use smol_str::SmolStr;
use waystation_base::{
    Headers,
    message::header::{ESCAPED_PREFIX, is_escaped},
    name,
    value::Value,
};

use super::{HashMap, HashSet};
use crate::spec::{Arguments, Error};

/// Nodes of removed patterns that may lie about before the tree is built anew.
const DEAD_NODES_MAX: usize = 64;

/// Patterns by their words (`*` one word, `#` any number), so that a key is compared with what can still match only.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// The first is the root, if there is any.
    nodes: Vec<Node>,
    live: usize,
    dead: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    words: HashMap<SmolStr, u32>,
    /// The child for `*`; 0: none.
    star: u32,
    /// The child for `#`; 0: none.
    hash: u32,
    /// It is one for `#`: it takes further words.
    is_hash: bool,
    /// The pattern that ends here.
    pattern: Option<SmolStr>,
}

impl Patterns {
    /// Adds a pattern that is not there.
    pub fn insert(&mut self, pattern: &SmolStr) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for word in name::words(pattern) {
            let next = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let child = match word {
                "*" => &mut node.star,
                "#" => &mut node.hash,
                _ => node.words.entry(SmolStr::new(word)).or_insert(0),
            };
            if *child == 0 {
                *child = next;
                self.nodes.push(Node { is_hash: word == "#", ..Node::default() });
                at = next as usize;
            } else {
                at = *child as usize;
            }
        }
        self.nodes[at].pattern = Some(pattern.clone());
        self.live += 1;
    }

    /// Takes a pattern away.
    pub fn remove(&mut self, pattern: &str) {
        let Some(node) = self.nodes.iter_mut().find(|node| node.pattern.as_deref() == Some(pattern)) else {
            return;
        };
        node.pattern = None;
        self.live -= 1;
        self.dead += 1;
        if self.live == 0 || self.dead > self.live + DEAD_NODES_MAX {
            let left: Vec<SmolStr> = self.nodes.drain(..).filter_map(|node| node.pattern).collect();
            *self = Patterns::default();
            left.iter().for_each(|pattern| self.insert(pattern));
        }
    }

    /// Gives each pattern that matches a key, in no particular order.
    pub fn matching(&self, key: &str, mut found: impl FnMut(&SmolStr)) {
        if self.nodes.is_empty() {
            return;
        }
        let words: Vec<&str> = name::words(key).collect();
        // Where it has been it need not go again: many `#` would else cost exponential time.
        let mut seen = HashSet::default();
        let mut open = vec![(0_u32, 0_usize)];
        while let Some((at, taken)) = open.pop() {
            let node = &self.nodes[at as usize];
            if !seen.insert((at, taken)) {
                continue;
            }
            if node.hash != 0 {
                open.push((node.hash, taken));
            }
            let Some(word) = words.get(taken) else {
                node.pattern.iter().for_each(&mut found);
                continue;
            };
            if node.is_hash {
                open.push((at, taken + 1));
            }
            if node.star != 0 {
                open.push((node.star, taken + 1));
            }
            if let Some(child) = node.words.get(*word) {
                open.push((*child, taken + 1));
            }
        }
    }
}

/// What a message's headers must be.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatch {
    any: bool,
    /// Each name with its value; null: any value will do.
    wanted: Vec<(SmolStr, Json)>,
}

impl HeaderMatch {
    /// Reads the arguments of a binding: `x-match` says how, all others what. Those that begin with `x-` count only where
    /// `x-match` says so.
    pub fn read(arguments: &Arguments) -> Result<HeaderMatch, Error> {
        let how = arguments.get("x-match").map(|how| how.as_str().unwrap_or_default());
        let (any, with_x) = match how {
            None | Some("all") => (false, false),
            Some("any") => (true, false),
            Some("all-with-x") => (false, true),
            Some("any-with-x") => (true, true),
            Some(_) => {
                let reason = "x-match must be 'all', 'any', 'all-with-x' or 'any-with-x'".to_owned();
                return Err(Error { field: "arguments", reason });
            }
        };
        let counts = |name: &str| name != "x-match" && (with_x || !name.starts_with("x-"));
        let wanted = arguments.iter().filter(|(name, _)| counts(name));
        Ok(HeaderMatch { any, wanted: wanted.map(|(name, value)| (name.into(), value.clone())).collect() })
    }

    /// Whether a message's headers are so.
    pub fn matches(&self, headers: &Headers) -> bool {
        let is_so = |(name, wanted): &(SmolStr, Json)| {
            let found = header(headers, name);
            found.is_some_and(|value| wanted.is_null() || same(value, wanted))
        };
        if self.any { self.wanted.iter().any(is_so) } else { self.wanted.iter().all(is_so) }
    }
}

/// A header by the name that its sender gave it.
fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a Value> {
    let escaped = |have: &str| have.strip_prefix(ESCAPED_PREFIX) == Some(name);
    let escaped = is_escaped(name).then(|| headers.0.iter().find(|(have, _)| escaped(have))).flatten();
    escaped.map(|(_, value)| value).or_else(|| headers.get(name))
}

/// Whether a typed value says the same as a JSON one: numbers, texts and truth values are compared as such.
fn same(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(value), Json::Bool(json)) => value == json,
        (Value::String(value), Json::String(json)) => value == json,
        (Value::Bytes(value), Json::String(json)) => value == json.as_bytes(),
        (Value::F32(value), Json::Number(json)) => json.as_f64() == Some((*value).into()),
        (Value::F64(value), Json::Number(json)) => json.as_f64() == Some(*value),
        (Value::Decimal { scale, unscaled }, Json::Number(json)) => {
            json.as_f64() == Some(f64::from(*unscaled) / 10_f64.powi((*scale).into()))
        }
        (Value::U64(value), Json::Number(json)) if json.is_u64() => json.as_u64() == Some(*value),
        (value, Json::Number(json)) => match (value.as_i64(), json.as_i64()) {
            (Some(value), Some(json)) => value == json,
            (Some(value), None) => json.as_f64() == Some(value as f64),
            (None, _) => false,
        },
        (Value::List(values), Json::Array(items)) => {
            values.len() == items.len() && values.iter().zip(items).all(|(value, item)| same(value, item))
        }
        (Value::Map(values), Json::Object(items)) => {
            values.len() == items.len()
                && values.iter().all(|(name, value)| items.get(name.as_str()).is_some_and(|i| same(value, i)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(patterns: &Patterns, key: &str) -> Vec<SmolStr> {
        let mut found = Vec::new();
        patterns.matching(key, |pattern| found.push(pattern.clone()));
        found.sort_unstable();
        found
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof!["a", "b", "", "\\*", "#"], 0..6)
            .prop_map(|words| words.join("."))
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_comparing_one_by_one_finds(
            inserted in proptest::collection::btree_set(text(), 0..12),
            removed in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
            key in "[ab]?(\\.[ab]?){0,5}",
        ) {
            let mut patterns = Patterns::default();
            let mut left: Vec<SmolStr> = inserted.iter().map(SmolStr::new).collect();
            left.iter().for_each(|pattern| patterns.insert(pattern));
            for index in removed {
                if !left.is_empty() {
                    patterns.remove(&left.remove(index.index(left.len())));
                }
            }
            let mut expected: Vec<SmolStr> =
                left.into_iter().filter(|pattern| name::matches(pattern, &key)).collect();
            expected.sort_unstable();
            prop_assert_eq!(found(&patterns, &key), expected);
        }
    }

    #[test]
    fn many_patterns_that_come_and_go_leave_nothing_behind() {
        let mut patterns = Patterns::default();
        patterns.insert(&"kept.#".into());
        for n in 0..10 * DEAD_NODES_MAX {
            let pattern = SmolStr::new(format!("p{n}.*"));
            patterns.insert(&pattern);
            patterns.remove(&pattern);
        }
        assert!(patterns.nodes.len() < 4 * DEAD_NODES_MAX, "{}", patterns.nodes.len());
        assert_eq!(found(&patterns, "kept.x"), ["kept.#"]);
    }

    #[test]
    fn many_wildcards_do_not_cost_exponential_time() {
        let mut patterns = Patterns::default();
        patterns.insert(&["#.a"; 80].join(".").into());
        assert!(found(&patterns, &["a"; 500].join(".").replace('a', "a.b")).is_empty());
    }

    fn matches(arguments: &str, headers: &[(&str, Value)]) -> bool {
        let arguments: Arguments = serde_json::from_str(arguments).expect("JSON");
        let headers = headers.iter().map(|(name, value)| (SmolStr::new(name), value.clone())).collect();
        HeaderMatch::read(&arguments).expect("good arguments").matches(&Headers(headers))
    }

    #[test]
    fn headers_match_all_or_any_of_what_is_wanted() {
        let eu = [("region", Value::from("eu")), ("size", Value::I32(3))];
        for (arguments, expected) in [
            (r#"{"region": "eu"}"#, true),
            (r#"{"region": "eu", "size": 3}"#, true),
            (r#"{"region": "eu", "size": 4}"#, false),
            (r#"{"x-match": "any", "region": "eu", "size": 4}"#, true),
            (r#"{"x-match": "any", "region": "us", "size": 4}"#, false),
            (r#"{"x-match": "all", "region": null}"#, true),
            (r#"{"x-match": "all", "other": null}"#, false),
            (r#"{}"#, true),
            (r#"{"x-match": "any"}"#, false),
            (r#"{"x-unknown": 1, "region": "eu"}"#, true),
            (r#"{"x-match": "all-with-x", "x-unknown": 1, "region": "eu"}"#, false),
            (r#"{"x-match": "any-with-x", "x-unknown": 1, "region": "eu"}"#, true),
        ] {
            assert_eq!(matches(arguments, &eu), expected, "{arguments}");
        }
        assert!(HeaderMatch::read(&serde_json::from_str(r#"{"x-match": "some"}"#).expect("JSON")).is_err());
        assert!(HeaderMatch::read(&serde_json::from_str(r#"{"x-match": 1}"#).expect("JSON")).is_err());
    }

    #[test]
    fn values_are_compared_by_what_they_say_and_not_by_their_width() {
        for (value, json, expected) in [
            (Value::U8(3), "3", true),
            (Value::I64(-3), "-3", true),
            (Value::U64(u64::MAX), "18446744073709551615", true),
            (Value::I64(3), "3.0", true),
            (Value::F64(0.5), "0.5", true),
            (Value::F32(0.5), "0.5", true),
            (Value::Decimal { scale: 1, unscaled: 5 }, "0.5", true),
            (Value::I8(3), "\"3\"", false),
            (Value::from("3"), "3", false),
            (Value::Bool(true), "true", true),
            (Value::Bool(true), "1", false),
            (Value::Bytes("eu".into()), "\"eu\"", true),
            (Value::List(vec![1.into(), "a".into()]), "[1, \"a\"]", true),
            (Value::List(vec![1.into()]), "[1, 2]", false),
            (Value::Map(vec![("a".into(), 1.into())]), "{\"a\": 1}", true),
            (Value::Map(vec![("a".into(), 1.into())]), "{\"b\": 1}", false),
        ] {
            assert_eq!(
                matches(&format!("{{\"h\": {json}}}"), &[("h", value.clone())]),
                expected,
                "{value:?} {json}"
            );
        }
    }

    #[test]
    fn a_header_that_had_to_be_renamed_is_found_by_its_own_name() {
        let renamed = SmolStr::new(format!("{ESCAPED_PREFIX}type"));
        let headers = Headers(vec![("type".into(), "event".into()), (renamed, "order".into())]);
        let wants = |text: &str| HeaderMatch::read(&serde_json::from_str(text).expect("JSON")).expect("good");
        assert!(wants(r#"{"type": "order"}"#).matches(&headers));
        assert!(!wants(r#"{"type": "event"}"#).matches(&headers));
    }
}
