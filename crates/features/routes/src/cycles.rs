//! Do routes go round? A route that is declared must not bring messages back to its own source by what is declared; what goes
//! round by what messages say is ended by the limit of hops.

use std::collections::{BTreeMap, HashMap, HashSet};

use waystation_base::{Name, name};
use waystation_broker::{command::Destination as End, view::BindingFilter};
use waystation_host::View;

use crate::spec::{Destination, RouteSteps, Taken};

/// What one route does, for this question.
struct Way {
    /// The queue, topic or pattern that it takes from.
    from: String,
    is_pattern: bool,
    targets: Vec<Destination>,
}

/// The names of what comes after each other, the first route's source first and last, if the route goes round.
pub(crate) fn find(
    view: &View<'_>,
    name: &Name,
    spec: &RouteSteps,
    others: &BTreeMap<Name, RouteSteps>,
) -> Option<Vec<String>> {
    let own = way(view, name, spec)?;
    let others = others.iter().filter(|(other, _)| *other != name);
    let ways: Vec<(&Name, Way)> =
        others.filter_map(|(name, spec)| Some((name, way(view, name, spec)?))).collect();
    let mut search = Search {
        view,
        own: &own,
        by_source: HashMap::new(),
        patterns: Vec::new(),
        ways: &ways,
        seen: HashSet::new(),
    };
    for (index, (_, way)) in ways.iter().enumerate() {
        match way.is_pattern {
            true => search.patterns.push(index),
            false => search.by_source.entry(&way.from).or_default().push(index),
        }
    }
    let mut path = vec![format!("route {name}")];
    search.follow(&own.targets, &mut path).then_some(path)
}

fn way(view: &View<'_>, name: &Name, spec: &RouteSteps) -> Option<Way> {
    let from = match spec.from.taken(name).ok()? {
        Taken::Queue(queue) => queue.to_string(),
        Taken::Subscription(subscription) => view.subscription(&subscription)?.spec.topic,
        Taken::Own { topic, .. } => topic,
    };
    Some(Way { is_pattern: name::is_pattern(&from), from, targets: spec.sends().targets })
}

impl Way {
    fn takes(&self, address: &str) -> bool {
        if self.is_pattern { name::matches(&self.from, address) } else { self.from == address }
    }
}

struct Search<'a> {
    view: &'a View<'a>,
    own: &'a Way,
    by_source: HashMap<&'a str, Vec<usize>>,
    patterns: Vec<usize>,
    ways: &'a [(&'a Name, Way)],
    seen: HashSet<String>,
}

impl Search<'_> {
    /// Follows what these targets lead to; the path is what was passed.
    fn follow(&mut self, targets: &[Destination], path: &mut Vec<String>) -> bool {
        targets.iter().any(|target| match target {
            Destination::Address(name) => self.address(name, path),
            Destination::Route(name, _) => self.route(name, path),
        })
    }

    fn address(&mut self, address: &Name, path: &mut Vec<String>) -> bool {
        if !self.seen.insert(address.to_string()) {
            return false;
        }
        path.push(address.to_string());
        if self.own.takes(address.as_str()) {
            return true;
        }
        let mut next = self.by_source.get(address.as_str()).cloned().unwrap_or_default();
        next.extend(self.patterns.iter().filter(|index| self.ways[**index].1.takes(address.as_str())));
        let ways = self.ways;
        for index in next {
            let (name, way) = &ways[index];
            path.push(format!("route {name}"));
            if self.follow(&way.targets, path) {
                return true;
            }
            path.pop();
        }
        path.pop();
        false
    }

    fn route(&mut self, route: &Name, path: &mut Vec<String>) -> bool {
        // A route and a queue may have one name.
        if !self.seen.insert(format!("route {route}")) {
            return false;
        }
        path.push(format!("route {route}"));
        let mut ends: Vec<End> = self
            .view
            .bindings(&BindingFilter::Of(route.clone()))
            .into_iter()
            .map(|binding| binding.to)
            .collect();
        ends.extend(self.view.route(route).and_then(|it| it.spec.alternate_name()).map(End::Route));
        for end in ends {
            let found = match end {
                End::Address(name) => self.address(&name, path),
                End::Route(name) => self.route(&name, path),
            };
            if found {
                return true;
            }
        }
        path.pop();
        false
    }
}
