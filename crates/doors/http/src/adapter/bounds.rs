//! What bounds does the description tell, besides the types? Those of names, of numbers, and which bodies may be left out: a
//! client that generates requests from the description should not be refused for what it could have known.

use serde_json::{Map, Value, json};
use waystation_base::limits::{DELAY_MS_MAX, LEASE_MS_MAX, NAME_BYTES_MAX};
use waystation_calls::limits::{PAGE_CALLS_MAX, RECEIVE_MAX, WAIT_MS_MAX};

use crate::limits::{PAGE_ENTITIES_MAX, PAGE_MESSAGES_MAX, WINDOW_MAX};

/// Things whose names are checked by [`waystation_base::Name`].
const NAMED: [&str; 6] = ["queues", "topics", "subscriptions", "routes", "pushes", "operations"];
/// The characters of a name, in parts between slashes.
const NAME: &str = r"[A-Za-z0-9._:@%+=~,!\-]+(/[A-Za-z0-9._:@%+=~,!\-]+)*";

/// The least and the most of a parameter.
fn parameter(path: &str, name: &str) -> Option<(u64, u64)> {
    let of_operation = path.starts_with("/v1/operations/") || path.starts_with("/v1/calls");
    let most = match name {
        "limit" if path.ends_with("/messages") => u64::from(PAGE_MESSAGES_MAX),
        "limit" if path == "/v1/calls" => PAGE_CALLS_MAX as u64,
        "limit" => PAGE_ENTITIES_MAX as u64,
        "max" if of_operation => u64::from(RECEIVE_MAX),
        "max" => u64::from(PAGE_MESSAGES_MAX),
        "window" => u64::from(WINDOW_MAX),
        "lease_ms" => LEASE_MS_MAX,
        "wait_ms" => return Some((0, WAIT_MS_MAX)),
        "wait" if of_operation => return Some((0, WAIT_MS_MAX / 1000)),
        "status" if of_operation => return Some((200, 599)),
        _ => return None,
    };
    Some((1, most))
}

/// The same of a member of a body that is declared or reported.
fn member(name: &str) -> Option<(u64, u64)> {
    match name {
        "ttl_ms" | "delay_ms" | "tombstone_retention_ms" => Some((0, DELAY_MS_MAX)),
        "deduplication_ms" | "idle_expiry_ms" | "retention_ms" | "timeout_ms" => Some((1, DELAY_MS_MAX)),
        "lease_ms" => Some((1, LEASE_MS_MAX)),
        "default_wait_ms" => Some((0, WAIT_MS_MAX)),
        "max_priority" => Some((0, u64::from(u8::MAX))),
        "percent" => Some((0, 100)),
        _ => None,
    }
}

/// Adds the bounds to a description.
pub(super) fn tell(description: &mut Value) {
    if let Some(schemas) = description.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.values_mut().for_each(schema);
    }
    let mut patches = Map::new();
    let schemas = description.pointer("/components/schemas").cloned().unwrap_or_default();
    let paths = description["paths"].as_object_mut().into_iter().flatten();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            let parameters = operation["parameters"].as_array_mut().into_iter().flatten();
            parameters.for_each(|one| bound(path, method, one));
            if matches!(method.as_str(), "put" | "patch") {
                let patched = body(method == "patch", &mut operation["requestBody"], &schemas);
                patches.extend(patched);
            }
            for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
                // A worker's result may be anything: it has a type, and no schema.
                if let Some(anything) = response.pointer_mut("/content/*~1*") {
                    *anything = json!({});
                }
            }
            // Indexing makes members that were not there.
            if let Some(operation) = operation.as_object_mut() {
                operation.retain(|_, value| !value.is_null());
            }
        }
    }
    if let Some(schemas) = description.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.extend(patches);
    }
}

fn bound(path: &str, method: &str, described: &mut Value) {
    let word = |what: &str| described[what].as_str().unwrap_or_default().to_owned();
    let (name, place) = (word("name"), word("in"));
    schema(&mut described["schema"]);
    let is_named = NAMED.iter().any(|what| path.starts_with(&format!("/v1/{what}/")));
    let is_called = path == "/v1/calls/{id}" && method == "post";
    if place == "path" && ((name == "name" && is_named) || (name == "id" && is_called)) {
        // Waystation's own can be looked at.
        let own = if method == "get" { r"\$?" } else { "" };
        described["schema"]["pattern"] = format!("^{own}{NAME}$").into();
        described["schema"]["maxLength"] = NAME_BYTES_MAX.into();
    } else if let (Some(bounds), "query") = (parameter(path, &name), place.as_str()) {
        put(&mut described["schema"], bounds);
    }
}

fn put(schema: &mut Value, (least, most): (u64, u64)) {
    schema["minimum"] = least.into();
    schema["maximum"] = most.into();
}

/// Bounds of the members of a schema, and of what is within.
fn schema(value: &mut Value) {
    // An unsigned number goes further than what its signed format says.
    for (signed, unsigned, most) in [("int32", "uint32", u64::from(u32::MAX)), ("int64", "uint64", u64::MAX)]
    {
        if value["format"] == signed && value["minimum"] == 0 {
            value["format"] = unsigned.into();
            value["maximum"] = most.into();
        }
    }
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(schema);
        }
        Value::Array(items) => items.iter_mut().for_each(schema),
        _ => {}
    }
    if let Some(members) = value.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, one) in members {
            if let Some(bounds) = member(name).filter(|_| one["type"].to_string().contains("integer")) {
                put(one, bounds);
            }
        }
    }
}

/// A declaration without required members may be left out. In a change (RFC 7396) null takes a member back to its default: gives
/// the schema that says so.
fn body(is_change: bool, request: &mut Value, schemas: &Value) -> Option<(String, Value)> {
    let reference = request.pointer_mut("/content/application~1json/schema/$ref")?;
    let name = reference.as_str()?.rsplit('/').next()?.to_owned();
    let declared = schemas.get(&name)?;
    let mut patched = None;
    if is_change {
        let changed = format!("{name}Change");
        *reference = format!("#/components/schemas/{changed}").into();
        patched = Some((changed, nullable(declared)));
    }
    let needs_nothing = declared["required"].as_array().is_none_or(Vec::is_empty);
    if is_change || needs_nothing {
        request["required"] = false.into();
    }
    patched
}

fn nullable(declared: &Value) -> Value {
    let mut change = declared.clone();
    if let Some(change) = change.as_object_mut() {
        change.remove("required");
    }
    for one in change["properties"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        let kept = one.take();
        *one = json!({"anyOf": [kept, {"type": "null"}]});
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_tells_bounds_of_names_numbers_and_bodies() {
        let description: Value = serde_json::from_str(&super::super::description()).expect("JSON");
        let at = |path: &str| description.pointer(path).unwrap_or_else(|| panic!("no {path}")).clone();
        let parameter = |path: &str, method: &str, name: &str| {
            let all = at(&format!("/paths/{}/{method}/parameters", path.replace('/', "~1")));
            let found = all.as_array().and_then(|all| all.iter().find(|one| one["name"] == name).cloned());
            found.unwrap_or_else(|| panic!("no {name} in {all}"))["schema"].clone()
        };
        assert_eq!(parameter("/v1/calls", "get", "limit")["maximum"], PAGE_CALLS_MAX);
        assert_eq!(parameter("/v1/operations/{name}/receive", "post", "max")["maximum"], RECEIVE_MAX);
        assert_eq!(parameter("/v1/calls/{id}/complete", "post", "status")["minimum"], 200);
        assert_eq!(parameter("/v1/queues/{name}", "put", "name")["maxLength"], NAME_BYTES_MAX);
        assert_eq!(parameter("/v1/queues/{name}", "get", "name")["pattern"], format!(r"^\$?{NAME}$"));
        assert_eq!(parameter("/v1/calls/{id}", "post", "id")["pattern"], format!("^{NAME}$"));
        assert_eq!(parameter("/v1/calls/{id}", "get", "id")["pattern"], Value::Null);
        assert_eq!(at("/components/schemas/QueueSpec/properties/max_priority/maximum"), 255);
        assert_eq!(at("/components/schemas/QueueSpec/properties/lease_ms/maximum"), LEASE_MS_MAX);
        assert_eq!(at("/paths/~1v1~1queues~1{name}/put/requestBody/required"), false);
        let change = "#/components/schemas/QueueSpecChange";
        let body = "/paths/~1v1~1queues~1{name}/patch/requestBody/content/application~1json/schema/$ref";
        assert_eq!(at(body), change);
        assert_eq!(at("/components/schemas/QueueSpecChange/properties/lease_ms/anyOf/1/type"), "null");
        // A subscription must say of what topic.
        assert_eq!(at("/paths/~1v1~1subscriptions~1{name}/put/requestBody/required"), true);
    }
}
