//! Where is each message? Counted over all places at one moment in which nothing works.

use std::collections::BTreeMap;

use serde_json::Value;
use waystation_base::Message;
use waystation_host::Target;

use crate::server::{HOLD, Server, name};

/// How often each number is in each place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Census(BTreeMap<u64, BTreeMap<&'static str, u64>>);

fn json(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap_or_else(|error| panic!("{error}: {:?}", message.body))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

impl Census {
    /// Looks everywhere, until two looks show the same: what was held when the broker died may still go to its dead letters by itself.
    pub fn take(server: &Server) -> Census {
        let mut seen = Census::look(server);
        loop {
            let again = Census::look(server);
            if again == seen {
                return seen;
            }
            seen = again;
        }
    }

    fn look(server: &Server) -> Census {
        let mut census = Census::default();
        server.runtime.block_on(async {
            for place in
                ["in", "left", "parts", "right", "right.dead", "readers.dead", "sort.dead", "sum.dead"]
            {
                for message in server.lying(Target::Queue(name(place))).await {
                    census.add(place, number(&json(&message)["n"]));
                }
            }
            for message in server.lying(Target::Queue(name("sums"))).await {
                json(&message).as_array().expect("a list").iter().for_each(|n| census.add("sums", number(n)));
            }
            for message in server.lying(Target::Queue(name(HOLD))).await {
                if message.headers.text("ws-hold-role") != Some("marker") {
                    census.add(HOLD, number(&json(&message)["n"]));
                }
            }
            for message in server.lying(Target::Topic(name("news"))).await {
                census.add("news", number(&json(&message)["n"]));
            }
            for message in server.lying(Target::Subscription(name("readers"))).await {
                census.add("readers", number(&json(&message)["n"]));
            }
        });
        census
    }

    fn add(&mut self, place: &'static str, n: u64) {
        *self.0.entry(n).or_default().entry(place).or_default() += 1;
    }

    /// How often a number is in a place.
    pub fn count(&self, n: u64, place: &str) -> u64 {
        self.0.get(&n).and_then(|places| places.get(place)).copied().unwrap_or_default()
    }

    /// How often a number is in several places together.
    pub fn sum(&self, n: u64, places: &[&str]) -> u64 {
        places.iter().map(|place| self.count(n, place)).sum()
    }

    /// All numbers that are in a place.
    pub fn of(&self, place: &str) -> usize {
        self.0.values().filter(|places| places.contains_key(place)).count()
    }

    /// Where a number is.
    pub fn places(&self, n: u64) -> String {
        format!("{:?}", self.0.get(&n))
    }
}
