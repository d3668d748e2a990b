//! Where a route's messages must go, found the long way: binding by binding, with nothing remembered.

use std::collections::{BTreeMap, BTreeSet};

use waystation_base::{
    EntityId, Message, Name,
    message::header::{DEATHS, ROUTING_KEY},
    name,
    value::Value,
};
use waystation_broker::{
    command::Target,
    entry::{Bound, Reason},
    spec::{Arguments, RouteKind, RouteSpec},
    view::BindingFilter,
};

use super::{Ledger, Outlet};

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: Name,
    /// How it is declared.
    pub spec: RouteSpec,
    /// What it hands on to.
    pub bindings: Vec<Bound>,
}

impl Ledger {
    /// A binding is new.
    pub(super) fn bind(&mut self, bound: Bound) {
        let route = self.routes.get_mut(&bound.route).expect("a route");
        assert!(!route.bindings.contains(&bound), "{bound:?} was there");
        route.bindings.push(bound);
    }

    /// A binding is gone.
    pub(super) fn unbind(&mut self, bound: &Bound) {
        let route = self.routes.get_mut(&bound.route).expect("a route");
        let at = route.bindings.iter().position(|have| have == bound);
        route.bindings.remove(at.unwrap_or_else(|| panic!("{bound:?} was not there")));
    }

    /// Something is gone, and what led to it.
    pub(super) fn forget_routing(&mut self, id: EntityId) {
        if let Some(route) = self.routes.remove(&id) {
            self.route_names.remove(&route.name);
        }
        for route in self.routes.values_mut() {
            route.bindings.retain(|bound| bound.to != id);
        }
    }

    /// Where a client's message goes; none if it may not be published so.
    pub(super) fn destinations(&self, to: &Target, message: &Message) -> Option<BTreeSet<EntityId>> {
        match to {
            Target::Address(name) => self.addresses.get(name).map(|id| [*id].into()),
            Target::Key { key, .. } => Some(self.addresses.get(key).into_iter().copied().collect()),
            Target::Route { route, keys, .. } => {
                let id = *self.route_names.get(route)?;
                let keys: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
                (!self.routes[&id].spec.internal).then(|| self.reached(id, &keys, message))
            }
        }
    }

    fn reached(&self, from: EntityId, keys: &[&str], message: &Message) -> BTreeSet<EntityId> {
        let (mut open, mut seen, mut reached) = (vec![from], BTreeSet::new(), BTreeSet::new());
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Some(route) = self.routes.get(&id) else {
                reached.insert(id);
                continue;
            };
            let keys = if keys.is_empty() { &[""] } else { keys };
            let matching = route.bindings.iter().filter(|bound| route.spec.kind.is_for(bound, keys, message));
            let onward: Vec<EntityId> = matching.map(|bound| bound.to).collect();
            let alternate = route.spec.alternate.as_deref().filter(|_| onward.is_empty());
            open.extend(alternate.and_then(|name| self.route_names.get(name)));
            open.extend(onward);
        }
        reached
    }

    /// Where a queue's dead letter goes by its route, those left out where it would go round.
    pub(super) fn burial(&self, from: &Outlet, message: &Message, reason: &str) -> BTreeSet<EntityId> {
        let Some(spec) = from.queue() else { return BTreeSet::new() };
        let own = message.headers.text(ROUTING_KEY).unwrap_or(from.name.as_str());
        let key = spec.dead_letter_key.as_deref().unwrap_or(own);
        let reached = match spec.dead_letter_route.as_deref() {
            Some("") => self.addresses.get(key).map(|id| [*id].into()).unwrap_or_default(),
            Some(route) => match self.route_names.get(route) {
                Some(id) => self.reached(*id, &[key], message),
                None => BTreeSet::new(),
            },
            None => BTreeSet::new(),
        };
        let deaths = deaths(message, from.name.as_str(), reason);
        let name = |id: &EntityId| match self.outlets.get(id) {
            Some(outlet) => outlet.name.clone(),
            None => self.topics[id].name.clone(),
        };
        let goes_round = |id: &EntityId| {
            let at = deaths.iter().position(|(queue, _)| *queue == name(id).as_str());
            at.is_some_and(|at| deaths[..=at].iter().all(|(_, reason)| reason != "rejected"))
        };
        reached.into_iter().filter(|id| !goes_round(id)).collect()
    }

    /// Asserts that the shard shows the routes, bindings and documents that there are.
    pub fn check_routing(&self, shard: &waystation_broker::Shard) {
        let bindings = shard.bindings(&BindingFilter::All).len();
        let expected: usize = self.routes.values().map(|route| route.bindings.len()).sum();
        assert_eq!(bindings, expected, "bindings in all");
        for route in self.routes.values() {
            let info = shard.route(&route.name).unwrap_or_else(|| panic!("there is no {route:?}"));
            assert_eq!((&info.spec, info.bindings as usize), (&route.spec, route.bindings.len()));
            let keys = |filter: &BindingFilter| {
                shard.bindings(filter).into_iter().map(|b| (b.key, b.arguments)).collect::<Vec<_>>()
            };
            let known: Vec<_> = route.bindings.iter().map(|b| (b.key.clone(), b.arguments.clone())).collect();
            assert_eq!(keys(&BindingFilter::Of(route.name.clone())), known, "bindings of {route:?}");
        }
        let documents: BTreeMap<Name, Vec<u8>> =
            shard.documents("").into_iter().map(|(name, body)| (name, body.to_vec())).collect();
        assert_eq!(documents, self.documents, "documents");
    }
}

/// Queue and reason of each death, this one included, newest first.
fn deaths(message: &Message, queue: &str, reason: &str) -> Vec<(String, String)> {
    let text = |death: &Value, field: &str| match death {
        Value::Map(fields) => {
            let value = fields.iter().find(|(name, _)| name == field).and_then(|(_, value)| value.as_str());
            value.expect("a text").to_owned()
        }
        other => panic!("{other:?} is no death"),
    };
    let before = match message.headers.get(DEATHS) {
        Some(Value::List(deaths)) => deaths.iter().map(|d| (text(d, "queue"), text(d, "reason"))).collect(),
        _ => Vec::new(),
    };
    let this = (queue.to_owned(), reason.to_owned());
    let others = before.into_iter().filter(|death| *death != this).collect::<Vec<_>>();
    [this].into_iter().chain(others).collect()
}

/// A reason as the list of deaths has it.
pub(super) fn told(reason: Reason) -> &'static str {
    match reason {
        Reason::Rejected => "rejected",
        Reason::Expired => "expired",
        Reason::Attempts | Reason::Age => "delivery_limit",
        Reason::Overflow => "maxlen",
        other => panic!("nothing dies of {other:?}"),
    }
}

/// Whether a route of that kind hands a message on by a binding.
trait IsFor {
    fn is_for(&self, bound: &Bound, keys: &[&str], message: &Message) -> bool;
}

impl IsFor for RouteKind {
    fn is_for(&self, bound: &Bound, keys: &[&str], message: &Message) -> bool {
        match self {
            RouteKind::Direct => keys.contains(&bound.key.as_str()),
            RouteKind::Fanout => true,
            RouteKind::Topic => keys.iter().any(|key| name::matches(&bound.key, key)),
            RouteKind::Headers => has_headers(&bound.arguments, message),
        }
    }
}

/// The headers of the simulation are texts.
fn has_headers(arguments: &Arguments, message: &Message) -> bool {
    let wanted: Vec<_> = arguments.iter().filter(|(name, _)| !name.starts_with("x-")).collect();
    let found = wanted.iter().filter(|(name, value)| {
        message.headers.text(name).is_some_and(|have| value.is_null() || value.as_str() == Some(have))
    });
    match arguments.get("x-match").and_then(|how| how.as_str()) {
        Some("any") => found.count() > 0,
        _ => found.count() == wanted.len(),
    }
}
