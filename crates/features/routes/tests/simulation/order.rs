//! Does what leaves a route keep the order that the route promises? Told by the causes of what arrives: each is a message of the source.

use std::{collections::BTreeMap, sync::Arc};

use waystation_base::message::header;
use waystation_testkit::model::Lying;

use crate::plan::{Place, Plan};

/// See the module.
pub struct Orders {
    plan: Arc<Plan>,
    /// Nothing is tried again, so that nothing takes another place.
    is_calm: bool,
    /// Where each message stood among those of its route's source, and its key, but for those that wait for their time.
    stood: BTreeMap<String, (u64, Option<Vec<u8>>)>,
    arrived: u64,
    /// Of each route: to each place and, if so it is declared, of each key, the last that arrived.
    last: BTreeMap<(usize, String, Option<Vec<u8>>), u64>,
}

impl Orders {
    pub fn new(plan: Arc<Plan>, is_calm: bool) -> Orders {
        Orders { plan, is_calm, stood: BTreeMap::new(), arrived: 0, last: BTreeMap::new() }
    }

    /// A message lies in a place from now on.
    pub fn come(&mut self, lying: &Lying) {
        let (name, message) = (lying.name.as_str(), &lying.stored.message);
        // A dead letter has the cause that it came with; what a step lets go is looked at by itself.
        let place = Plan::place(lying.kind, name);
        if !self.is_calm || matches!(place, Place::Dead(_) | Place::Whole(_) | Place::Other) {
            return;
        }
        let number = message.headers.text("ws-route").and_then(|name| name.strip_prefix('r')?.parse().ok());
        let cause = message.headers.text(header::CAUSE).unwrap_or_default();
        if let (Some(number), Some((stood, key))) = (number, self.stood.get(cause).cloned()) {
            self.check(number, name, stood, key);
        }
        if matches!(place, Place::Source(_)) {
            self.arrived += 1;
            if message.deliver_at.is_none() {
                let key = message.key.as_ref().map(|key| key.to_vec());
                self.stood.insert(message.id.to_string(), (self.arrived, key));
            }
        }
    }

    fn check(&mut self, number: usize, place: &str, stood: u64, key: Option<Vec<u8>>) {
        let lane = match (self.plan.routes[number].order, key) {
            ("source", _) => None,
            ("key", Some(key)) => Some(key),
            _ => return,
        };
        let last = self.last.entry((number, place.to_owned(), lane)).or_default();
        assert!(
            *last <= stood,
            "route r{number} sent to '{place}' message {stood} of its source after {last}"
        );
        *last = stood;
    }
}
