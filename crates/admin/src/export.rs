//! How is a topology written to a file that says no more than needed and reads back the same?

use serde_json::{Map, Value};

use crate::{
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
    governed
}

/// The file's text; fields that have their defaults are left out.
pub fn write(topology: &Topology, format: Format) -> String {
    let document = document(topology);
    let written = match format {
        Format::Json => {
            serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(|error| error.to_string())
        }
        Format::Toml => toml::to_string(&document).map_err(|error| error.to_string()),
    };
    // Tables of texts, numbers and lists can be written in both.
    written.unwrap_or_else(|error| unreachable!("{error}"))
}

fn document(topology: &Topology) -> Map<String, Value> {
    let mut document = Map::new();
    for ((kind, name), spec) in topology.specs() {
        let fields: Map<String, Value> = said(&spec).into_iter().collect();
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
            let text = write(&topology, format);
            assert_eq!(Topology::read(text.as_bytes()), Ok(topology.clone()), "{text}");
        }
    }

    #[test]
    fn defaults_are_left_out() {
        let text = "[queues.a]\nmax_attempts = 3\n\n[topics.t]\n";
        let topology = Topology::read(text.as_bytes()).expect("a good file");
        assert_eq!(write(&topology, Format::Toml), text);
    }

    #[test]
    fn what_belongs_to_sessions_is_not_exported() {
        let topology = Topology::read(b"[queues.a]\nauto_delete = true\n[queues.b]\n").expect("a good file");
        assert_eq!(governed(&topology).queues.len(), 1);
    }
}
