//! Routes: what they hand on to, and where a message goes that is published to one.
//!
//! A key that was looked up is remembered with what it led to, until a binding changes: a key that comes again costs one
//! lookup, whatever the number of bindings.

use std::sync::Arc;

use smallvec::SmallVec;
use smol_str::SmolStr;
use waystation_base::{EntityId, Headers, Name, name};

use super::{
    Address, HashMap, Shard,
    matching::{HeaderMatch, Patterns},
    unrouted::Untold,
};
use crate::{
    Kind, Refusal,
    spec::{Arguments, RouteKind, RouteSpec},
    view::{Binding, RouteInfo},
};

/// Keys that one route remembers; when there are more it begins anew.
const REMEMBERED_KEYS_MAX: usize = 4_096;

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// A queue or topic.
    Address(Address),
    /// Another route.
    Route(EntityId),
}

impl Onward {
    /// Its id.
    pub fn id(self) -> EntityId {
        match self {
            Onward::Address(address) => address.id(),
            Onward::Route(id) => id,
        }
    }
}

/// One binding, under its key.
#[derive(Clone, Debug)]
pub struct Hand {
    /// What it leads to.
    pub onward: Onward,
    /// Which it was among all that were made.
    pub order: u64,
    said: Option<Box<Said>>,
}

/// Arguments, and what a route by headers makes of them.
#[derive(Clone, Debug)]
struct Said {
    arguments: Arguments,
    headers: Option<HeaderMatch>,
}

impl Hand {
    /// A binding of a route of a kind.
    pub fn new(onward: Onward, order: u64, arguments: Arguments, kind: RouteKind) -> Hand {
        let headers = (kind == RouteKind::Headers).then(|| HeaderMatch::read(&arguments).ok()).flatten();
        let said =
            (headers.is_some() || !arguments.is_empty()).then(|| Box::new(Said { arguments, headers }));
        Hand { onward, order, said }
    }

    /// Its arguments, if it has any.
    pub fn arguments(&self) -> Option<&Arguments> {
        self.said.as_ref().map(|said| &said.arguments)
    }

    /// Whether it is the one that leads there with those arguments.
    pub fn is(&self, to: EntityId, arguments: &Arguments) -> bool {
        self.onward.id() == to && self.arguments().map_or(arguments.is_empty(), |have| have == arguments)
    }

    fn takes(&self, headers: &Headers) -> bool {
        let wanted = self.said.as_ref().and_then(|said| said.headers.as_ref());
        wanted.is_none_or(|wanted| wanted.matches(headers))
    }
}

/// Where messages go: every place once, in order of its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Towards {
    /// Nowhere.
    #[default]
    Nothing,
    /// To one place.
    One(Address),
    /// To several.
    Many(Arc<[Address]>),
}

impl Towards {
    /// These places, each once.
    pub fn of(mut all: SmallVec<[Address; 8]>) -> Towards {
        all.sort_unstable();
        all.dedup();
        match all.as_slice() {
            [] => Towards::Nothing,
            [one] => Towards::One(*one),
            many => Towards::Many(many.into()),
        }
    }

    /// All places.
    pub fn all(&self) -> &[Address] {
        match self {
            Towards::Nothing => &[],
            Towards::One(one) => std::slice::from_ref(one),
            Towards::Many(many) => many,
        }
    }
}

/// What lookups have led to, as long as no binding has changed.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// The state of [`Shard::routing`] that it holds for.
    routing: u64,
    /// Whatever the key.
    any: Option<Towards>,
    by_key: HashMap<SmolStr, Towards>,
}

/// A route as the shard holds it.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its id.
    pub id: EntityId,
    /// Its name.
    pub name: Name,
    /// How it is declared.
    pub spec: RouteSpec,
    /// Messages published to it since the start.
    pub published: u64,
    /// Those of them that nothing took.
    pub unrouted: u64,
    /// What the journal is told of them.
    pub untold: Untold,
    keys: HashMap<SmolStr, Vec<Hand>>,
    /// The keys again, if they are patterns.
    patterns: Patterns,
    bindings: usize,
    memory: Memory,
}

/// What was looked up, and what it depends on beside the bindings.
struct Found {
    towards: Towards,
    by_key: bool,
    by_headers: bool,
}

impl Route {
    /// A route without bindings.
    pub fn new(id: EntityId, name: Name, spec: RouteSpec) -> Route {
        Route {
            id,
            name,
            spec,
            published: 0,
            unrouted: 0,
            untold: Untold::default(),
            keys: HashMap::default(),
            patterns: Patterns::default(),
            bindings: 0,
            memory: Memory::default(),
        }
    }

    /// How many bindings it has.
    pub fn bindings(&self) -> usize {
        self.bindings
    }

    /// Its bindings with their keys, in no particular order.
    pub fn hands(&self) -> impl Iterator<Item = (&SmolStr, &Hand)> {
        self.keys.iter().flat_map(|(key, hands)| hands.iter().map(move |hand| (key, hand)))
    }

    /// The binding that leads there by that key with those arguments.
    pub fn hand(&self, to: EntityId, key: &str, arguments: &Arguments) -> Option<&Hand> {
        self.keys.get(key)?.iter().find(|hand| hand.is(to, arguments))
    }

    /// Adds a binding that is not there.
    pub fn add(&mut self, key: SmolStr, hand: Hand) {
        self.bindings += 1;
        let hands = self.keys.entry(key.clone()).or_default();
        if hands.is_empty() && self.spec.kind == RouteKind::Topic {
            self.patterns.insert(&key);
        }
        hands.push(hand);
    }

    /// Takes away what `goes` of a key; says how many bindings.
    pub fn remove(&mut self, key: &SmolStr, goes: impl Fn(&Hand) -> bool) -> usize {
        let Some(hands) = self.keys.get_mut(key) else { return 0 };
        let before = hands.len();
        hands.retain(|hand| !goes(hand));
        let removed = before - hands.len();
        if hands.is_empty() {
            self.keys.remove(key);
            self.patterns.remove(key);
        }
        self.bindings -= removed;
        removed
    }

    /// Gives everything that a message is handed on to.
    fn choose(&self, keys: &[SmolStr], headers: &Headers, mut to: impl FnMut(Onward)) {
        let mut each = |hands: &Vec<Hand>| hands.iter().for_each(|hand| to(hand.onward));
        match self.spec.kind {
            RouteKind::Fanout => self.keys.values().for_each(each),
            RouteKind::Direct => keys.iter().filter_map(|key| self.keys.get(key)).for_each(each),
            RouteKind::Topic => {
                for key in keys {
                    self.patterns
                        .matching(key, |pattern| self.keys.get(pattern).into_iter().for_each(&mut each));
                }
            }
            RouteKind::Headers => {
                let hands = self.keys.values().flatten().filter(|hand| hand.takes(headers));
                hands.for_each(|hand| to(hand.onward));
            }
        }
    }
}

impl Binding {
    /// Whether it takes a message that is published to its route, of that kind, under these keys.
    pub fn takes(&self, kind: RouteKind, keys: &[SmolStr], headers: &Headers) -> bool {
        match kind {
            RouteKind::Fanout => true,
            RouteKind::Direct => keys.contains(&self.key),
            RouteKind::Topic => keys.iter().any(|key| name::matches(&self.key, key)),
            RouteKind::Headers => {
                HeaderMatch::read(&self.arguments).is_ok_and(|wanted| wanted.matches(headers))
            }
        }
    }
}

impl Shard {
    pub(super) fn route_id(&self, name: &Name) -> Result<EntityId, Refusal> {
        let missing = || Refusal::NotFound { kind: Kind::Route, name: name.to_string() };
        self.route_names.get(name).copied().ok_or_else(missing)
    }

    /// Where a message goes that is published to a route under these keys, and whether one with other headers goes there too.
    pub(super) fn towards(&mut self, id: EntityId, keys: &[SmolStr], headers: &Headers) -> (Towards, bool) {
        const NO_KEY: &[SmolStr] = &[SmolStr::new_inline("")];
        let keys = if keys.is_empty() { NO_KEY } else { keys };
        let route = self.routes.get_mut(&id).expect("found");
        if route.memory.routing != self.routing {
            route.memory = Memory { routing: self.routing, ..Memory::default() };
        }
        if let Some(towards) = &route.memory.any {
            return (towards.clone(), true);
        }
        if let [key] = keys
            && let Some(towards) = route.memory.by_key.get(key)
        {
            return (towards.clone(), true);
        }
        let found = self.look_up(id, keys, headers);
        let memory = &mut self.routes.get_mut(&id).expect("found").memory;
        if !found.by_headers {
            if !found.by_key {
                memory.any = Some(found.towards.clone());
            } else if let [key] = keys {
                if memory.by_key.len() >= REMEMBERED_KEYS_MAX {
                    memory.by_key.clear();
                }
                memory.by_key.insert(key.clone(), found.towards.clone());
            }
        }
        (found.towards, !found.by_headers)
    }

    /// Follows bindings from route to route, each route once. A route of whose bindings none matches goes to its alternate.
    fn look_up(&self, id: EntityId, keys: &[SmolStr], headers: &Headers) -> Found {
        let mut places = SmallVec::new();
        let mut routes: SmallVec<[EntityId; 4]> = SmallVec::from_slice(&[id]);
        let (mut at, mut by_key, mut by_headers) = (0, false, false);
        while let Some(route) = routes.get(at).and_then(|id| self.routes.get(id)) {
            at += 1;
            by_key |= matches!(route.spec.kind, RouteKind::Direct | RouteKind::Topic);
            by_headers |= route.spec.kind == RouteKind::Headers;
            let mut matched = false;
            route.choose(keys, headers, |onward| {
                matched = true;
                match onward {
                    Onward::Address(address) => places.push(address),
                    Onward::Route(id) if !routes.contains(&id) => routes.push(id),
                    Onward::Route(_) => {}
                }
            });
            let alternate = route.spec.alternate.as_deref().filter(|_| !matched);
            if let Some(id) = alternate.and_then(|name| self.route_names.get(name))
                && !routes.contains(id)
            {
                routes.push(*id);
            }
        }
        Found { towards: Towards::of(places), by_key, by_headers }
    }

    /// A route as it is now.
    pub fn route(&self, name: &Name) -> Option<RouteInfo> {
        let route = self.routes.get(self.route_names.get(name)?)?;
        Some(RouteInfo {
            name: name.clone(),
            spec: route.spec.clone(),
            effective: None,
            bindings: route.bindings as u64,
            published: route.published,
            unrouted: route.unrouted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_remembers_no_more_than_remembered_keys_max() {
        let mut shard = Shard::new();
        let (id, name) = (EntityId(1), Name::new("r").expect("a name"));
        shard.routes.insert(id, Box::new(Route::new(id, name, RouteSpec::default())));
        for n in 0..REMEMBERED_KEYS_MAX {
            shard.towards(id, &[SmolStr::new(n.to_string())], &Headers::default());
        }
        assert_eq!(shard.routes[&id].memory.by_key.len(), REMEMBERED_KEYS_MAX);
        shard.towards(id, &["one more".into()], &Headers::default());
        assert_eq!(shard.routes[&id].memory.by_key.len(), 1);
    }
}
