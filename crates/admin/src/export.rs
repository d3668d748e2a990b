//! How is a topology written to a file that says no more than needed and reads back the same?

use serde_json::{Map, Value};

use waystation_broker::Kind;

use crate::{
    bindings,
    document::Format,
    plan::{is_kept, said},
    topology::{Topology, table},
};

/// The part of a topology that a file governs: not what belongs to sessions, nor Waystation's own.
pub fn governed(topology: &Topology) -> Topology {
    let mut governed = Topology::default();
    for ((_, name), spec) in topology.specs().into_iter().filter(|((_, name), spec)| !is_kept(name, spec)) {
        governed.insert(name, spec);
    }
    governed.routes = bindings::governed(topology);
    governed
}

/// Why a topology cannot be written in a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this topology cannot be written so: {0}; arguments with null values can be written as JSON only")]
pub struct Unwritable(String);

impl Unwritable {
    /// For what the writer of a format said.
    pub fn new(said: impl ToString) -> Unwritable {
        Unwritable(said.to_string())
    }
}

/// The file's text; fields that have their defaults are left out.
pub fn write(topology: &Topology, format: Format) -> Result<String, Unwritable> {
    let document = document(topology);
    match format {
        Format::Json => serde_json::to_string_pretty(&document)
            .map(|text| text + "\n")
            .map_err(|error| Unwritable(error.to_string())),
        Format::Toml => toml::to_string(&document).map_err(|error| Unwritable(error.to_string())),
    }
}

fn document(topology: &Topology) -> Map<String, Value> {
    let mut document = Map::new();
    for ((kind, name), spec) in topology.specs() {
        let mut fields: Map<String, Value> = said(&spec).into_iter().collect();
        let route =
            topology.routes.get(&name).filter(|route| kind == Kind::Route && !route.bindings.is_empty());
        if let Some(bindings) = route.and_then(|route| serde_json::to_value(&route.bindings).ok()) {
            fields.insert("bindings".to_owned(), bindings);
        }
        let table = document.entry(table(kind)).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(declarations) = table {
            declarations.insert(name.to_string(), Value::Object(fields));
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_numbers_read_back_the_same() {
        let mut topology = Topology::default();
        let spec = waystation_broker::spec::QueueSpec { max_bytes: Some(u64::MAX), ..Default::default() };
        topology.queues.insert(waystation_base::Name::new("q").expect("a name"), spec);
        for format in [Format::Toml, Format::Json] {
            let text = write(&topology, format).expect("written");
            assert_eq!(Topology::read(text.as_bytes()), Ok(topology.clone()), "{text}");
        }
    }

    #[test]
    fn defaults_are_left_out() {
        let text = "[queues.a]\nmax_attempts = 3\n\n[topics.t]\n";
        let topology = Topology::read(text.as_bytes()).expect("a good file");
        assert_eq!(write(&topology, Format::Toml).as_deref(), Ok(text));
    }

    #[test]
    fn what_a_format_does_not_know_is_an_error_and_not_left_out() {
        let text = r#"{"queues": {"q": {}}, "routes": {"r": {"kind": "headers", "bindings": [
            {"to": "q", "arguments": {"region": null}}]}}}"#;
        let topology = Topology::read(text.as_bytes()).expect("a good file");
        assert!(write(&topology, Format::Toml).is_err());
        let json = write(&topology, Format::Json).expect("written");
        assert_eq!(Topology::read(json.as_bytes()), Ok(topology));
    }

    #[test]
    fn what_belongs_to_sessions_is_not_exported() {
        let topology = Topology::read(b"[queues.a]\nauto_delete = true\n[queues.b]\n").expect("a good file");
        assert_eq!(governed(&topology).queues.len(), 1);
    }
}
