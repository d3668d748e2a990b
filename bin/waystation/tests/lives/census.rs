//! Where is each message? Counted over all places at one moment in which nothing works.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use waystation_base::Message;
use waystation_host::Target;

use crate::server::{HOLD, HOLD_ASK, HOLD_LINE, Server, name};

/// Queues in which messages lie.
const QUEUES: [&str; 24] = [
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
    "look.dead",
    "bank.dead",
    "answers",
    "ask.dead",
    "sums",
    HOLD,
    HOLD_LINE,
    HOLD_ASK,
];
const TOPIC: &str = "news";
const SUBSCRIPTION: &str = "readers";

/// Whether each message there is of one that was sent: not so in the queues of steps, which have notes too.
pub fn is_place(name: &str) -> bool {
    let holds = [HOLD, HOLD_LINE, HOLD_ASK];
    name == TOPIC || name == SUBSCRIPTION || QUEUES.contains(&name) && !holds.contains(&name)
}

/// What a step's queue has beside messages: what it knows of them.
const NOTES: [&str; 3] = ["marker", "tried", "given_up"];

/// How often each number is in each place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// The numbers that a message in a place stands for, each with what place that counts as.
fn numbers(place: &str, message: &Message) -> Vec<(&'static str, u64)> {
    let mut places = QUEUES.into_iter().chain([TOPIC, SUBSCRIPTION]);
    let Some(place) = places.find(|known| *known == place) else { return Vec::new() };
    if [HOLD, HOLD_LINE, HOLD_ASK].contains(&place) && is_note(message) {
        return Vec::new();
    }
    let body = json(message);
    match place {
        "sums" => body.as_array().expect("a list").iter().map(|n| (place, number(n))).collect(),
        "answers" => {
            let n = number(&body["n"]);
            [(place, n)].into_iter().chain((0..number(&body["replies"])).map(|_| ("replies", n))).collect()
        }
        "ask.dead" if body["reply"] == true => vec![("late", number(&body["n"]))],
        _ => vec![(place, number(&body["n"]))],
    }
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
            let queues = QUEUES.into_iter().map(|place| (place, Target::Queue(name(place))));
            let topic = (TOPIC, Target::Topic(name(TOPIC)));
            let subscription = (SUBSCRIPTION, Target::Subscription(name(SUBSCRIPTION)));
            for (place, target) in queues.chain([topic, subscription]) {
                for message in server.lying(target).await {
                    census.come(place, &message);
                }
            }
        });
        census
    }

    /// A message lies in a place from now on. Returns the numbers in it.
    pub fn come(&mut self, place: &str, message: &Message) -> BTreeSet<u64> {
        let numbers = numbers(place, message);
        for (place, n) in &numbers {
            *self.places.entry(*n).or_default().entry(place).or_default() += 1;
        }
        if place == "ordered" {
            let body = json(message);
            self.ordered.entry(number(&body["group"])).or_default().push(number(&body["seq"]));
        }
        numbers.into_iter().map(|(_, n)| n).collect()
    }

    /// A message lies in a place no more. Returns the numbers in it.
    pub fn go(&mut self, place: &str, message: &Message) -> BTreeSet<u64> {
        let numbers = numbers(place, message);
        for (place, n) in &numbers {
            let count = self.places.get_mut(n).and_then(|places| places.get_mut(place));
            *count.unwrap_or_else(|| panic!("{n} leaves '{place}' and was not there")) -= 1;
        }
        numbers.into_iter().map(|(_, n)| n).collect()
    }

    /// How often a number is in a place.
    pub fn count(&self, n: u64, place: &str) -> u64 {
        self.places.get(&n).and_then(|places| places.get(place)).copied().unwrap_or_default()
    }

    /// How often a number is in several places together.
    pub fn sum(&self, n: u64, places: &[&str]) -> u64 {
        places.iter().map(|place| self.count(n, place)).sum()
    }

    /// Asserts that what has numbers left the resequencer in the order of these.
    pub fn check_order(&self) {
        for (group, numbers) in &self.ordered {
            let in_order = numbers.is_sorted_by(|before, after| before < after);
            assert!(in_order, "group {group} left as {numbers:?}");
        }
    }

    /// All numbers that are in a place.
    pub fn of(&self, place: &str) -> usize {
        self.places.values().filter(|places| places.get(place).is_some_and(|count| *count > 0)).count()
    }

    /// Where a number is.
    pub fn places(&self, n: u64) -> String {
        format!("{:?}", self.places.get(&n))
    }
}
