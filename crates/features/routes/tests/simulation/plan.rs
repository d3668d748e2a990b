//! Which routes are there, and what does each message come to? Drawn from a seed, declared in the words of the product, and followed by a
//! model of its own, which knows nothing of how the engine does it.

use serde_json::{Value, json};
use waystation_testkit::random::Random;

use crate::{
    doc::{Doc, KINDS, VALUES},
    step::{Step, declarations, follow},
};

/// Where messages leave, besides dead letters: two queues, of which the first is small, and a subscription.
pub const SINKS: [&str; 3] = ["small", "out", "readers"];
/// The topic of that subscription.
pub const TOPIC: &str = "news";
/// Where bodies are put aside.
pub const STORE: &str = "store";
/// The most routes of one plan.
const ROUTES_MAX: u64 = 5;
/// Of them, the most that divide messages.
const SPLITS_MAX: usize = 2;

/// A place, and what lies there in the end.
pub type Unit = (String, Doc);

/// One route.
#[derive(Debug)]
pub struct Route {
    /// It takes from a topic, and not from a queue.
    pub takes_topic: bool,
    pub order: &'static str,
    pub record: bool,
    pub steps: Vec<Step>,
}

/// All of them; the first takes from `m0`, the second from `m1`, and each sends to those behind it alone.
#[derive(Debug)]
pub struct Plan {
    pub routes: Vec<Route>,
}

impl Plan {
    pub fn draw(random: &mut Random) -> Plan {
        let (count, mut routes, mut splits) = (random.range(1, ROUTES_MAX) as usize, Vec::new(), 0);
        for number in 0..count {
            let mut targets: Vec<String> = (number + 1..count).map(source).collect();
            targets.extend(["small", "out", TOPIC].map(str::to_owned));
            let steps = Step::draw_all(random, &targets, splits < SPLITS_MAX);
            splits += usize::from(steps.iter().any(Step::divides));
            let order = random.pick(&["source", "key", "none"]).copied().unwrap_or_default();
            let (takes_topic, record) = (random.one_in(3), random.one_in(2));
            routes.push(Route { takes_topic, order, record, steps });
        }
        Plan { routes }
    }

    /// What a message comes to that is published to an address.
    pub fn comes_to(&self, address: &str, doc: &Doc) -> Vec<Unit> {
        let Some(number) = route_of(address) else {
            let sink = if address == TOPIC { "readers" } else { address };
            return vec![(sink.to_owned(), doc.clone())];
        };
        match follow(&self.routes[number].steps, doc) {
            Some(sent) => sent.iter().flat_map(|(to, doc)| self.comes_to(to, doc)).collect(),
            None => vec![(dead(number), doc.clone())],
        }
    }
}

/// The address that a route takes from.
pub fn source(number: usize) -> String {
    format!("m{number}")
}

/// Its name.
pub fn name(number: usize) -> String {
    format!("r{number}")
}

/// Its dead letters.
pub fn dead(number: usize) -> String {
    format!("r{number}.dead")
}

/// The route that takes from an address.
pub fn route_of(address: &str) -> Option<usize> {
    address.strip_prefix('m')?.parse().ok()
}

impl Route {
    /// What is declared.
    pub fn declaration(&self, number: usize) -> Value {
        let from = if self.takes_topic { "topic" } else { "queue" };
        let steps = declarations(&self.steps);
        json!({
            "from": {from: source(number)},
            "order": self.order,
            "record": self.record,
            "retry": {"first_ms": 5, "most_ms": 20, "jitter_percent": 30, "attempts_max": 4},
            "steps": steps,
        })
    }
}

/// What a step asks a message.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `a` is less.
    Less(u64),
    /// `a` leaves this rest when it is divided by that.
    Rest(u64, u64),
    /// The header says so: told by a selector, a filter, or jq.
    Kind(&'static str, Form),
    Not(Box<Ask>),
    All(Vec<Ask>),
}

/// In which language it is asked.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    Selector,
    Filter,
    Jq,
}

impl Ask {
    pub fn draw(random: &mut Random) -> Ask {
        match random.below(8) {
            0 | 1 => Ask::Less(random.range(1, VALUES - 1)),
            2 | 3 => {
                let divisor = random.range(2, 4);
                Ask::Rest(divisor, random.below(divisor))
            }
            4 | 5 => {
                let form = random.pick(&[Form::Selector, Form::Filter, Form::Jq]);
                Ask::Kind(random.pick(&KINDS).expect("a kind"), *form.expect("a form"))
            }
            6 => Ask::Not(Box::new(Ask::draw(random))),
            _ => Ask::All(vec![Ask::draw(random), Ask::draw(random)]),
        }
    }

    pub fn holds(&self, doc: &Doc) -> bool {
        match self {
            Ask::Less(than) => doc.a < *than,
            Ask::Rest(divisor, rest) => doc.a % divisor == *rest,
            Ask::Kind(kind, _) => doc.kind == *kind,
            Ask::Not(ask) => !ask.holds(doc),
            Ask::All(all) => all.iter().all(|ask| ask.holds(doc)),
        }
    }

    /// As a condition.
    pub fn condition(&self) -> Value {
        match self {
            Ask::Kind(kind, Form::Selector) => json!({"selector": format!("kind = '{kind}'")}),
            Ask::Kind(kind, Form::Filter) => json!({"filter": {"exact": {"kind": kind}}}),
            Ask::Not(ask) => json!({"not": ask.condition()}),
            Ask::All(all) => json!({"all": all.iter().map(Ask::condition).collect::<Vec<_>>()}),
            _ => json!(self.jq()),
        }
    }

    /// Within a program.
    pub fn jq(&self) -> String {
        match self {
            Ask::Less(than) => format!(".a < {than}"),
            Ask::Rest(divisor, rest) => format!(".a % {divisor} == {rest}"),
            Ask::Kind(kind, _) => format!("$headers.kind == \"{kind}\""),
            Ask::Not(ask) => format!("(({}) | not)", ask.jq()),
            Ask::All(all) => {
                all.iter().map(|ask| format!("({})", ask.jq())).collect::<Vec<_>>().join(" and ")
            }
        }
    }
}
