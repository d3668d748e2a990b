//! Where is each message? Counted over all places at one moment in which nothing works.

use std::collections::BTreeMap;

use serde_json::Value;
use waystation_base::Message;
use waystation_host::Target;

use crate::server::{HOLD, HOLD_ASK, HOLD_LINE, Server, name};

/// Queues in which each message is one number.
const QUEUES: [&str; 16] = [
    "in",
    "left",
    "parts",
    "right",
    "right.dead",
    "readers.dead",
    "sort.dead",
    "sum.dead",
    "numbered",
    "ordered",
    "line.dead",
    "asks",
    "bank",
    "quotes",
    "lookups",
    "found",
];

/// What a step's queue has beside messages: what it knows of them.
const NOTES: [&str; 3] = ["marker", "tried", "given_up"];

/// How often each number is in each place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Census {
    places: BTreeMap<u64, BTreeMap<&'static str, u64>>,
    /// The numbers of each group that left the resequencer, as they lie.
    pub ordered: BTreeMap<u64, Vec<u64>>,
}

fn json(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap_or_else(|error| panic!("{error}: {:?}", message.body))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Whether a message on a step's queue says something of others.
fn is_note(message: &Message) -> bool {
    message.headers.text("ws-hold-role").is_some_and(|role| NOTES.contains(&role))
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
            for place in QUEUES.into_iter().chain(["look.dead", "bank.dead"]) {
                for message in server.lying(Target::Queue(name(place))).await {
                    let body = json(&message);
                    census.add(place, number(&body["n"]));
                    if place == "ordered" {
                        census.ordered.entry(number(&body["group"])).or_default().push(number(&body["seq"]));
                    }
                }
            }
            for message in server.lying(Target::Queue(name("answers"))).await {
                let body = json(&message);
                census.add("answers", number(&body["n"]));
                (0..number(&body["replies"])).for_each(|_| census.add("replies", number(&body["n"])));
            }
            for message in server.lying(Target::Queue(name("ask.dead"))).await {
                let body = json(&message);
                let place = if body["reply"] == true { "late" } else { "ask.dead" };
                census.add(place, number(&body["n"]));
            }
            for message in server.lying(Target::Queue(name("sums"))).await {
                json(&message).as_array().expect("a list").iter().for_each(|n| census.add("sums", number(n)));
            }
            for hold in [HOLD, HOLD_LINE, HOLD_ASK] {
                let held = server.lying(Target::Queue(name(hold))).await;
                for message in held.iter().filter(|message| !is_note(message)) {
                    census.add(hold, number(&json(message)["n"]));
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
        *self.places.entry(n).or_default().entry(place).or_default() += 1;
    }

    /// How often a number is in a place.
    pub fn count(&self, n: u64, place: &str) -> u64 {
        self.places.get(&n).and_then(|places| places.get(place)).copied().unwrap_or_default()
    }

    /// How often a number is in several places together.
    pub fn sum(&self, n: u64, places: &[&str]) -> u64 {
        places.iter().map(|place| self.count(n, place)).sum()
    }

    /// All numbers that are in a place.
    pub fn of(&self, place: &str) -> usize {
        self.places.values().filter(|places| places.contains_key(place)).count()
    }

    /// Where a number is.
    pub fn places(&self, n: u64) -> String {
        format!("{:?}", self.places.get(&n))
    }
}
