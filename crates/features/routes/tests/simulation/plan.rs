//! Which routes are there, and what does each message come to? Drawn from a seed, declared in the words of the product, and followed by a
//! model of its own, which knows nothing of how the engine does it.

use serde_json::{Value, json};
use waystation_broker::Kind;
use waystation_testkit::random::Random;

use crate::{
    doc::{Doc, KINDS, VALUES},
    hold::Hold,
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
/// The most routes behind them that hold messages.
const HOLDS_MAX: u64 = 2;
/// Of them, the most that divide messages.
const SPLITS_MAX: usize = 2;

/// How deep conditions are nested.
const NESTED_MAX: u32 = 3;

/// A place, and what lies there in the end.
pub type Unit = (String, Doc);

/// One route.
#[derive(Debug)]
pub struct Route {
    /// It takes from a topic, and not from a queue.
    pub takes_topic: bool,
    pub order: &'static str,
    pub record: bool,
    pub way: Way,
}

/// What it does.
#[derive(Debug)]
pub enum Way {
    /// Looks at each message alone.
    Steps(Vec<Step>),
    /// Holds messages until others have come or time has passed.
    Hold(Hold),
}

/// What lies in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Messages that the route of this number takes.
    Source(usize),
    /// What its step holds.
    Held(usize),
    /// What that lets go.
    Whole(usize),
    /// Its dead letters.
    Dead(usize),
    /// What is at the end of its way.
    Sink,
    /// Nothing that counts: copies in topics, records, bodies put aside.
    Other,
}

/// All of them; the first takes from `m0`, the second from `m1`, and each sends to those behind it alone.
#[derive(Debug)]
pub struct Plan {
    pub routes: Vec<Route>,
}

impl Plan {
    pub fn draw(random: &mut Random) -> Plan {
        let count = random.range(1, ROUTES_MAX) as usize;
        let holds: Vec<Hold> = (0..random.below(HOLDS_MAX + 1)).map(|_| Hold::draw(random)).collect();
        // What has numbers of its own cannot come from another route.
        let open = holds.iter().enumerate().filter(|(_, hold)| !hold.is_resequencer());
        let open: Vec<String> = open.map(|(number, _)| source(count + number)).collect();
        let (mut ways, mut splits) = (Vec::new(), 0);
        for number in 0..count {
            let mut targets: Vec<String> = (number + 1..count).map(source).chain(open.clone()).collect();
            targets.extend(["small", "out", TOPIC].map(str::to_owned));
            let steps = Step::draw_all(random, &targets, splits < SPLITS_MAX);
            splits += usize::from(steps.iter().any(Step::divides));
            ways.push(Way::Steps(steps));
        }
        ways.extend(holds.into_iter().map(Way::Hold));
        let mut route = |way| {
            let order = random.pick(&["source", "key", "none"]).copied().unwrap_or_default();
            let (takes_topic, record) = (random.one_in(3), random.one_in(2));
            Route { takes_topic, order, record, way }
        };
        Plan { routes: ways.into_iter().map(&mut route).collect() }
    }

    /// Where consumers take what is at the end of its way.
    pub fn sinks(&self) -> Vec<String> {
        let wholes = self.holds().map(|(number, _)| whole(number));
        SINKS.iter().map(|sink| (*sink).to_owned()).chain(wholes).collect()
    }

    /// Routes with steps that hold messages.
    pub fn holds(&self) -> impl Iterator<Item = (usize, &Hold)> {
        self.routes.iter().enumerate().filter_map(|(number, route)| Some((number, route.hold()?)))
    }

    /// What lies in a place of this name.
    pub fn place(kind: Kind, name: &str) -> Place {
        let number = |text: &str| text.parse::<usize>().ok();
        if kind == Kind::Topic {
            return Place::Other;
        }
        if SINKS.contains(&name) {
            return Place::Sink;
        }
        let own = || match name.strip_prefix("$routes.r")?.split_once('.') {
            None => number(name.strip_prefix("$routes.r")?).map(Place::Source),
            Some((of, _)) => number(of).map(Place::Held),
        };
        let source = || route_of(name).map(Place::Source);
        let whole = || number(name.strip_prefix("whole")?).map(Place::Whole);
        let dead = || number(name.strip_prefix('r')?.strip_suffix(".dead")?).map(Place::Dead);
        own().or_else(source).or_else(whole).or_else(dead).unwrap_or(Place::Other)
    }

    /// What a message comes to that is published to an address.
    pub fn comes_to(&self, address: &str, doc: &Doc) -> Vec<Unit> {
        let Some(number) = route_of(address) else {
            let sink = if address == TOPIC { "readers" } else { address };
            return vec![(sink.to_owned(), doc.clone())];
        };
        let steps = match &self.routes[number].way {
            Way::Steps(steps) => steps,
            Way::Hold(hold) if hold.takes(doc) => return vec![held(number, doc.clone())],
            Way::Hold(_) => return Vec::new(),
        };
        match follow(steps, doc) {
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

/// Where it sends what its step lets go.
pub fn whole(number: usize) -> String {
    format!("whole{number}")
}

/// What is held, put together or late, is one thing: which of them it is depends on what comes when.
pub fn held(number: usize, doc: Doc) -> Unit {
    (format!("held by r{number}"), doc.bare())
}

/// The route that takes from an address.
pub fn route_of(address: &str) -> Option<usize> {
    address.strip_prefix('m')?.parse().ok()
}

impl Route {
    /// Its step that holds messages.
    pub fn hold(&self) -> Option<&Hold> {
        match &self.way {
            Way::Hold(hold) => Some(hold),
            Way::Steps(_) => None,
        }
    }

    /// What is declared.
    pub fn declaration(&self, number: usize) -> Value {
        let from = if self.takes_topic { "topic" } else { "queue" };
        let steps = match &self.way {
            Way::Steps(steps) => declarations(steps),
            Way::Hold(hold) => hold.steps(&whole(number)),
        };
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
        Ask::nested(random, NESTED_MAX)
    }

    fn nested(random: &mut Random, depth: u32) -> Ask {
        match random.below(if depth > 0 { 8 } else { 6 }) {
            0 | 1 => Ask::Less(random.range(1, VALUES - 1)),
            2 | 3 => {
                let divisor = random.range(2, 4);
                Ask::Rest(divisor, random.below(divisor))
            }
            4 | 5 => {
                let form = random.pick(&[Form::Selector, Form::Filter, Form::Jq]);
                Ask::Kind(random.pick(&KINDS).expect("a kind"), *form.expect("a form"))
            }
            6 => Ask::Not(Box::new(Ask::nested(random, depth - 1))),
            _ => Ask::All(vec![Ask::nested(random, depth - 1), Ask::nested(random, depth - 1)]),
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
