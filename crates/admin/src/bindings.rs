//! What is a binding in the file, and which bindings are to be made and removed?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waystation_base::Name;
use waystation_broker::{
    Kind,
    command::Destination,
    spec::{Arguments, BusinessKeys, RouteKind, RouteSpec},
};

use crate::{
    plan::{Action, Note, Plan, Step, Target, is_kept},
    topology::Topology,
};

/// A route with what it hands on to: the fields of its declaration, and `bindings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub struct Route {
    /// How it is declared.
    pub spec: RouteSpec,
    /// What it hands on to.
    pub bindings: Vec<Binding>,
}

/// The same as it stands in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    kind: RouteKind,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    alternate: Option<String>,
    delay_header: Option<String>,
    business: Option<Box<BusinessKeys>>,
    arguments: Arguments,
    bindings: Vec<Binding>,
}

impl Default for Fields {
    fn default() -> Fields {
        Route::default().into()
    }
}

impl From<Fields> for Route {
    fn from(fields: Fields) -> Route {
        let Fields { kind, durable, auto_delete, internal, alternate, delay_header, business, .. } = fields;
        let arguments = fields.arguments;
        let spec =
            RouteSpec { kind, durable, auto_delete, internal, alternate, delay_header, business, arguments };
        Route { spec, bindings: fields.bindings }
    }
}

impl From<Route> for Fields {
    fn from(Route { spec, bindings }: Route) -> Fields {
        let RouteSpec { kind, durable, auto_delete, internal, alternate, delay_header, business, arguments } =
            spec;
        Fields {
            kind,
            durable,
            auto_delete,
            internal,
            alternate,
            delay_header,
            business,
            arguments,
            bindings,
        }
    }
}

/// A binding of a route: `to` a queue or topic, or `to_route`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BindingFields", into = "BindingFields")]
pub struct Binding {
    /// What the route hands on to.
    pub to: Destination,
    /// What the route's kind makes of it.
    pub key: String,
    /// For a route by headers: what they must be.
    pub arguments: Arguments,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to_route: Option<Name>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(default, skip_serializing_if = "Arguments::is_empty")]
    arguments: Arguments,
}

impl TryFrom<BindingFields> for Binding {
    type Error = String;

    fn try_from(fields: BindingFields) -> Result<Binding, String> {
        let to = match (fields.to, fields.to_route) {
            (Some(to), None) => Destination::Address(to),
            (None, Some(route)) => Destination::Route(route),
            _ => return Err("a binding has either 'to', a queue or topic, or 'to_route'".to_owned()),
        };
        Ok(Binding { to, key: fields.key, arguments: fields.arguments })
    }
}

impl From<Binding> for BindingFields {
    fn from(Binding { to, key, arguments }: Binding) -> BindingFields {
        let (to, to_route) = match to {
            Destination::Address(name) => (Some(name), None),
            Destination::Route(name) => (None, Some(name)),
        };
        BindingFields { to, to_route, key, arguments }
    }
}

impl From<waystation_broker::view::Binding> for Binding {
    fn from(binding: waystation_broker::view::Binding) -> Binding {
        Binding { to: binding.to, key: binding.key.to_string(), arguments: binding.arguments }
    }
}

/// Whether a route is there without anybody's doing, and comes back if it is removed.
pub fn is_predeclared(name: &Name) -> bool {
    let own = name.as_str().rsplit("::").next().unwrap_or_default();
    own.starts_with("amq.")
}

/// Whether a file governs a binding: not one to what belongs to sessions. Of two topologies the first that knows it decides.
pub fn is_governed(topologies: &[&Topology], binding: &Binding) -> bool {
    let of = |kind, name: &Name| {
        let spec = topologies.iter().find_map(|topology| topology.spec(kind, name));
        spec.is_some_and(|spec| is_kept(name, &spec))
    };
    match &binding.to {
        Destination::Address(name) => !of(Kind::Queue, name) && !of(Kind::Topic, name),
        Destination::Route(name) => is_predeclared(name) || !of(Kind::Route, name),
    }
}

/// Whether what a binding leads to will be there.
fn leads_somewhere(binding: &Binding, current: &Topology, wanted: &Topology, plan: &Plan) -> bool {
    let goes = |kinds: &[Kind], name: &Name| {
        let deleted = |step: &Step| {
            step.action == Action::Delete && step.target.name == *name && kinds.contains(&step.target.kind)
        };
        plan.steps.iter().any(deleted)
    };
    match &binding.to {
        Destination::Address(name) => {
            let kinds = [Kind::Queue, Kind::Topic];
            wanted.address(name.as_str()).is_some()
                || current.address(name.as_str()).is_some() && !goes(&kinds, name)
        }
        Destination::Route(name) => {
            wanted.routes.contains_key(name)
                || current.routes.contains_key(name) && !goes(&[Kind::Route], name)
        }
    }
}

/// Adds to a plan what makes the bindings those that are wanted: new ones behind what they name, others before that goes.
pub fn plan(current: &Topology, wanted: &Topology, prune: bool, plan: &mut Plan) {
    let (mut binds, mut unbinds) = (Vec::new(), Vec::new());
    let none = Route::default();
    // What is there by itself stays, and is not left out of pruning.
    let stays =
        current.routes.keys().filter(|name| is_predeclared(name) && !wanted.routes.contains_key(*name));
    let stays = stays.map(|name| (name, &none));
    for (name, route) in wanted.routes.iter().chain(stays) {
        let target = Target { kind: Kind::Route, name: name.clone() };
        let have = current.routes.get(name).map_or(&none.bindings, |route| &route.bindings);
        for binding in &route.bindings {
            if leads_somewhere(binding, current, wanted, plan) {
                let action = Action::Bind { binding: binding.clone() };
                binds.extend((!have.contains(binding)).then(|| Step { target: target.clone(), action }));
            } else {
                let to = binding.to.name();
                let text = format!("it hands on to '{to}', which is neither declared here nor there");
                plan.conflicts.push(Note { target: target.clone(), text });
            }
        }
        let more = have.iter().filter(|binding| !route.bindings.contains(binding));
        for binding in more.filter(|binding| is_governed(&[wanted, current], binding)) {
            if !leads_somewhere(binding, current, wanted, plan) {
                // It goes with what it leads to.
                continue;
            }
            match prune {
                true => {
                    let action = Action::Unbind { binding: binding.clone() };
                    unbinds.push(Step { target: target.clone(), action });
                }
                false => plan.left.push(target.clone()),
            }
        }
    }
    let deletions = plan.steps.iter().position(|step| step.action == Action::Delete);
    let at = deletions.unwrap_or(plan.steps.len());
    plan.steps.splice(at..at, binds.into_iter().chain(unbinds));
}

/// Bindings of the routes that a file governs.
pub fn governed(topology: &Topology) -> BTreeMap<Name, Route> {
    let mut governed = BTreeMap::new();
    for (name, route) in &topology.routes {
        let mut route = route.clone();
        route.bindings.retain(|binding| is_governed(&[topology], binding));
        let spec = waystation_broker::spec::Spec::Route(route.spec.clone());
        if !is_kept(name, &spec) || is_predeclared(name) && !route.bindings.is_empty() {
            governed.insert(name.clone(), route);
        }
    }
    governed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Topology {
        Topology::read(text.as_bytes()).expect("a good file")
    }

    fn check(current: &str, wanted: &str, prune: bool, expected: &str) {
        let plan = crate::plan(&read(current), &read(wanted), prune);
        assert_eq!(crate::render::plan(&plan).trim_end(), expected, "from {current} to {wanted}");
    }

    const ROUTE: &str = "[queues.q]\n[routes.r]\nkind = 'topic'\nbindings = [{ to = 'q', key = 'a.#' }]\n";

    #[test]
    fn a_route_is_made_before_it_is_bound() {
        check(
            "",
            ROUTE,
            false,
            "+ queue q\n+ route r\n    kind: topic\n+ binding of route r to q by 'a.#'\n\
             2 to create, 0 to change, 0 to delete, 0 unchanged, 1 to bind",
        );
        check(ROUTE, ROUTE, true, "0 to create, 0 to change, 0 to delete, 2 unchanged");
    }

    #[test]
    fn a_binding_that_is_not_wanted_goes_only_with_pruning_and_with_its_queue() {
        let without = "[queues.q]\n[routes.r]\nkind = 'topic'\n";
        check(
            ROUTE,
            without,
            false,
            "0 to create, 0 to change, 0 to delete, 2 unchanged, 1 not in the file (kept; --prune deletes)",
        );
        check(
            ROUTE,
            without,
            true,
            "- binding of route r to q by 'a.#'\n0 to create, 0 to change, 0 to delete, 2 unchanged, 1 to unbind",
        );
        check(
            ROUTE,
            "[routes.r]\nkind = 'topic'\n",
            true,
            "- queue q (with what it holds)\n0 to create, 0 to change, 1 to delete, 1 unchanged",
        );
    }

    #[test]
    fn what_a_binding_leads_to_must_be_there() {
        check(
            "",
            "[routes.r]\nbindings = [{ to = 'none' }, { to_route = 'r' }]\n",
            false,
            "+ route r\n+ binding of route r to route r by ''\n\
             ! route r: it hands on to 'none', which is neither declared here nor there\n\
             1 to create, 0 to change, 0 to delete, 0 unchanged, 1 to bind, 1 that cannot be",
        );
    }

    #[test]
    fn what_is_there_by_itself_or_passes_is_neither_pruned_nor_exported() {
        let passing = "[queues.p]\nauto_delete = true\n";
        let current = read(&format!(
            "{passing}[routes.'v::amq.topic']\nkind='topic'\n[routes.'amq.direct']\nbindings=[{{to='p',key='k'}}]\n\
             [routes.r]\nbindings=[{{to='p'}}]\n"
        ));
        let plan = crate::plan(&current, &Topology::default(), true);
        let deleted: Vec<_> = plan.steps.iter().map(|step| step.target.name.as_str()).collect();
        assert_eq!(deleted, ["r"]);
        let exported = crate::export::governed(&current);
        assert_eq!((exported.queues.len(), exported.routes.len()), (0, 1));
        assert_eq!(exported.routes["r"].bindings, []);
        // What somebody bound to one that is there by itself is his.
        let bound = read("[queues.q]\n[routes.'amq.topic']\nkind='topic'\nbindings=[{to='q',key='k'}]\n");
        assert_eq!(crate::export::governed(&bound), bound);
    }

    #[test]
    fn a_binding_has_one_end() {
        for text in ["{ key = 'k' }", "{ to = 'q', to_route = 'r' }", "{ to = 'q', kex = 'k' }"] {
            let text = format!("[routes.r]\nbindings = [{text}]\n");
            assert!(Topology::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
