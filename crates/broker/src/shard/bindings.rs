//! Making and removing bindings, and what they cost when one of their ends goes.

use std::collections::BTreeMap;

use smol_str::SmolStr;
use waystation_base::{
    EntityId,
    limits::{BINDINGS_MAX, ROUTING_KEY_BYTES_MAX},
};

use super::{
    Address, Ctx, HashMap, Shard,
    entry::{Bound, Entry},
    matching::HeaderMatch,
    routes::{Hand, Onward},
};
use crate::{
    Kind, Refusal,
    command::{Bind, Destination},
    effect::Declared,
    spec::{RouteKind, check_arguments},
    view::{Binding, BindingFilter},
};

/// Which routes lead to something, by which keys: once for each binding.
pub type Incoming = HashMap<EntityId, BTreeMap<EntityId, Vec<SmolStr>>>;

impl Shard {
    /// Lets a route hand on.
    pub(super) fn bind(&mut self, bind: Bind, ctx: &mut Ctx<'_>) -> Result<Declared, Refusal> {
        let bound = self.check_bind(bind)?;
        let route = &self.routes[&bound.route];
        if route.hand(bound.to, &bound.key, &bound.arguments).is_some() {
            return Ok(Declared::Unchanged);
        }
        if route.spec.kind == RouteKind::Headers {
            HeaderMatch::read(&bound.arguments)?;
        }
        if self.bindings >= BINDINGS_MAX {
            return Err(Refusal::Limit { what: "bindings", limit: BINDINGS_MAX as u64 });
        }
        self.apply_bind(bound.clone());
        Entry::Bind(bound).append(ctx.log);
        Ok(Declared::Created)
    }

    /// Takes a binding away; says how many there were of it.
    pub(super) fn unbind(&mut self, bind: Bind, ctx: &mut Ctx<'_>) -> Result<u64, Refusal> {
        let bound = self.check_bind(bind)?;
        let route = &self.routes[&bound.route];
        if route.hand(bound.to, &bound.key, &bound.arguments).is_none() {
            return Ok(0);
        }
        self.apply_unbind(&bound);
        let id = bound.route;
        Entry::Unbind(bound).append(ctx.log);
        self.remove_if_unbound(id, ctx);
        Ok(1)
    }

    fn check_bind(&self, bind: Bind) -> Result<Bound, Refusal> {
        let Bind { route, to, key, arguments } = bind;
        let route = self.route_id(&route)?;
        let to = match &to {
            Destination::Route(name) => self.route_id(name)?,
            Destination::Address(name) => {
                self.addresses.get(name).ok_or_else(|| super::publish::not_found(name))?.id()
            }
        };
        if key.len() > ROUTING_KEY_BYTES_MAX {
            let (count, limit) = (key.len() as u64, ROUTING_KEY_BYTES_MAX as u64);
            return Err(Refusal::TooLarge { what: "bytes of a binding's key", count, limit });
        }
        check_arguments(&arguments)?;
        Ok(Bound { route, to, key, arguments })
    }

    /// Takes over a binding, now or after a restart.
    pub(super) fn apply_bind(&mut self, bound: Bound) {
        let Bound { route: id, to, key, arguments } = bound;
        let onward = match self.address_by_id(to) {
            Some(address) => Onward::Address(address),
            None if self.routes.contains_key(&to) => Onward::Route(to),
            None => return,
        };
        let Some(route) = self.routes.get_mut(&id) else { return };
        self.binding_orders += 1;
        self.bindings += 1;
        self.routing += 1;
        self.incoming.entry(to).or_default().entry(id).or_default().push(key.clone());
        route.add(key, Hand::new(onward, self.binding_orders, arguments, route.spec.kind));
    }

    /// Forgets a binding, now or after a restart.
    pub(super) fn apply_unbind(&mut self, bound: &Bound) {
        let Some(route) = self.routes.get_mut(&bound.route) else { return };
        let removed = route.remove(&bound.key, |hand| hand.is(bound.to, &bound.arguments));
        if removed == 0 {
            return;
        }
        self.bindings -= removed;
        self.routing += 1;
        if let Some(routes) = self.incoming.get_mut(&bound.to)
            && let Some(keys) = routes.get_mut(&bound.route)
        {
            keys.iter().position(|key| *key == bound.key).map(|at| keys.swap_remove(at));
            if keys.is_empty() {
                routes.remove(&bound.route);
            }
            if routes.is_empty() {
                self.incoming.remove(&bound.to);
            }
        }
    }

    /// Something goes, and all bindings to it: returns the routes that they were of.
    pub(super) fn forget_bindings_to(&mut self, id: EntityId) -> Vec<EntityId> {
        let Some(routes) = self.incoming.remove(&id) else { return Vec::new() };
        self.routing += 1;
        for (route, keys) in &routes {
            let Some(route) = self.routes.get_mut(route) else { continue };
            for key in keys {
                self.bindings -= route.remove(key, |hand| hand.onward.id() == id);
            }
        }
        routes.into_keys().collect()
    }

    /// A route goes, and its own bindings with it.
    pub(super) fn forget_bindings_of(&mut self, id: EntityId, route: &super::routes::Route) {
        self.bindings -= route.bindings();
        self.routing += 1;
        for hand in route.hands().map(|(_, hand)| hand) {
            if let Some(routes) = self.incoming.get_mut(&hand.onward.id()) {
                routes.remove(&id);
                if routes.is_empty() {
                    self.incoming.remove(&hand.onward.id());
                }
            }
        }
    }

    /// A route that goes with its last binding.
    pub(super) fn remove_if_unbound(&mut self, id: EntityId, ctx: &mut Ctx<'_>) {
        let goes = |route: &super::routes::Route| route.spec.auto_delete && route.bindings() == 0;
        if self.routes.get(&id).is_some_and(|route| goes(route)) {
            self.remove(Kind::Route, id, ctx);
        }
    }

    pub(super) fn address_by_id(&self, id: EntityId) -> Option<Address> {
        if self.queues.contains_key(&id) {
            return Some(Address::Queue(id));
        }
        self.topics.contains_key(&id).then_some(Address::Topic(id))
    }

    /// Every binding as it is stored, in the order in which they were made.
    pub(super) fn bounds(&self) -> Vec<Bound> {
        let mut all: Vec<_> = self
            .routes
            .iter()
            .flat_map(|(id, route)| route.hands().map(move |(key, hand)| (hand.order, *id, key, hand)))
            .collect();
        all.sort_unstable_by_key(|(order, ..)| *order);
        let bound = |(_, route, key, hand): (u64, EntityId, &SmolStr, &Hand)| Bound {
            route,
            to: hand.onward.id(),
            key: key.clone(),
            arguments: hand.arguments().cloned().unwrap_or_default(),
        };
        all.into_iter().map(bound).collect()
    }

    /// Bindings, by route and in the order in which they were made.
    pub fn bindings(&self, filter: &BindingFilter) -> Vec<Binding> {
        let routes: Vec<EntityId> = match filter {
            BindingFilter::All => self.routes.keys().copied().collect(),
            BindingFilter::Of(route) => self.route_names.get(route).copied().into_iter().collect(),
            BindingFilter::To(to) => {
                let id = self.destination(to);
                let routes = id.and_then(|id| self.incoming.get(&id));
                routes.into_iter().flat_map(BTreeMap::keys).copied().collect()
            }
        };
        let mut routes: Vec<_> = routes.iter().filter_map(|id| self.routes.get(id)).collect();
        routes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut found = Vec::new();
        for route in routes {
            let mut hands: Vec<_> = route.hands().collect();
            hands.sort_unstable_by_key(|(_, hand)| hand.order);
            let all = hands.into_iter().filter_map(|(key, hand)| {
                let arguments = hand.arguments().cloned().unwrap_or_default();
                let to = self.destination_of(hand.onward)?;
                Some(Binding { route: route.name.clone(), to, key: key.clone(), arguments })
            });
            found.extend(all.filter(|binding| match filter {
                BindingFilter::To(to) => binding.to == *to,
                _ => true,
            }));
        }
        found
    }

    fn destination(&self, to: &Destination) -> Option<EntityId> {
        match to {
            Destination::Address(name) => self.addresses.get(name).map(Address::id),
            Destination::Route(name) => self.route_names.get(name).copied(),
        }
    }

    fn destination_of(&self, onward: Onward) -> Option<Destination> {
        Some(match onward {
            Onward::Address(Address::Queue(id)) => {
                Destination::Address(self.queues.get(&id)?.outlet.name.clone())
            }
            Onward::Address(Address::Topic(id)) => Destination::Address(self.topics.get(&id)?.name.clone()),
            Onward::Route(id) => Destination::Route(self.routes.get(&id)?.name.clone()),
        })
    }
}
