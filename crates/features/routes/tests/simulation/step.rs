//! The steps that look at one message alone: drawn, declared, and done by the model.

use serde_json::{Value, json};
use waystation_testkit::random::Random;

use crate::{
    doc::{Doc, VALUES},
    plan::{Ask, STORE},
};

/// What is sent, and where to.
type Sent = Vec<(String, Doc)>;

#[derive(Clone, Debug)]
pub enum Step {
    /// What it does not hold for goes there, or ends.
    Filter(Ask, Option<String>),
    /// What it does not hold for fails.
    Validate(Ask),
    /// Adds to `a`; fails where this holds.
    Transform {
        add: u64,
        fails: Option<Ask>,
    },
    /// As many parts as `a` says, up to three.
    Split,
    Tap(String),
    /// Puts the body aside, looks at what is kept, and fetches it again.
    Aside(Ask),
    /// More steps for those for which it holds.
    Branch(Ask, Vec<Step>),
    /// The first that holds; none: it fails.
    Choose(Vec<(Ask, String)>, Option<String>),
    /// Who is named by the message; nobody that is not allowed.
    Recipients {
        ask: Ask,
        one: String,
        other: Option<String>,
    },
    To(Vec<String>),
}

impl Step {
    /// The steps of a route; `targets`: where it may send.
    pub fn draw_all(random: &mut Random, targets: &[String], may_split: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..random.below(4) {
            let may_split = may_split && !steps.iter().any(Step::divides);
            steps.push(Step::draw(random, targets, may_split));
        }
        let target = |random: &mut Random| random.pick(targets).expect("a target").clone();
        steps.push(match random.below(4) {
            0 => {
                let cases = (0..random.range(1, 3)).map(|_| (Ask::draw(random), target(random))).collect();
                Step::Choose(cases, random.maybe(75, target))
            }
            1 => {
                let (ask, one) = (Ask::draw(random), target(random));
                Step::Recipients { ask, one, other: random.maybe(75, target) }
            }
            _ => {
                let mut all: Vec<String> = (0..random.range(1, 2)).map(|_| target(random)).collect();
                all.dedup();
                Step::To(all)
            }
        });
        steps
    }

    fn draw(random: &mut Random, targets: &[String], may_split: bool) -> Step {
        let target = |random: &mut Random| random.pick(targets).expect("a target").clone();
        match random.below(9) {
            0 => Step::Filter(Ask::draw(random), random.maybe(50, target)),
            1 => Step::Validate(Ask::Not(Box::new(Ask::All(vec![Ask::draw(random), Ask::draw(random)])))),
            2 | 3 => {
                let fails = random.maybe(30, Ask::draw);
                Step::Transform { add: random.below(VALUES), fails }
            }
            4 if may_split => Step::Split,
            // Sinks alone, so that messages do not become many times as many.
            5 => Step::Tap(targets.last().expect("a target").clone()),
            6 => Step::Aside(Ask::draw(random)),
            _ => {
                let (ask, add) = (Ask::draw(random), random.below(VALUES));
                Step::Branch(ask, vec![Step::Transform { add, fails: None }])
            }
        }
    }

    /// Whether more come out of it than go in.
    pub fn divides(&self) -> bool {
        matches!(self, Step::Split)
    }

    /// What is declared.
    pub fn declaration(&self) -> Value {
        match self {
            Step::Filter(ask, None) => json!({"filter": ask.condition()}),
            Step::Filter(ask, Some(other)) => json!({"filter": ask.condition(), "else": other}),
            Step::Validate(ask) => json!({"validate": ask.condition()}),
            Step::Transform { add, fails } => {
                let change = format!(".a = (.a + {add}) % {VALUES} | .way += \"t{add}\"");
                let body = match fails {
                    Some(ask) => format!("if {} then error(\"no good\") else {change} end", ask.jq()),
                    None => change,
                };
                json!({"transform": {"body": body}})
            }
            Step::Split => {
                let parts = format!(
                    ". as $it | range(.a % 3 + 1) | . as $i | $it | .a = (.a + $i) % {VALUES} | .way += \"s\\($i)\""
                );
                json!({"split": parts})
            }
            Step::Tap(to) => json!({"tap": to}),
            Step::Aside(_) => unreachable!("it is several"),
            Step::Branch(ask, steps) => json!({
                "choose": [{"when": ask.condition(), "steps": declarations(steps)}],
                "otherwise": {"steps": []},
            }),
            Step::Choose(cases, otherwise) => {
                let cases: Vec<Value> =
                    cases.iter().map(|(ask, to)| json!({"when": ask.condition(), "to": to})).collect();
                match otherwise {
                    Some(to) => json!({"choose": cases, "otherwise": to}),
                    None => json!({"choose": cases}),
                }
            }
            Step::Recipients { ask, one, other } => {
                let (other, allowed) = match other {
                    Some(other) => (other.as_str(), vec![one.as_str(), other]),
                    None => ("nowhere", vec![one.as_str()]),
                };
                let text = format!("if {} then \"{one}\" else [\"{other}\", \"{one}\"] end", ask.jq());
                json!({"recipients": text, "allowed": allowed})
            }
            Step::To(all) => json!({"to": all}),
        }
    }
}

/// What is declared for all of them.
pub fn declarations(steps: &[Step]) -> Vec<Value> {
    let each = |step: &Step| match step {
        Step::Aside(ask) => vec![
            json!({"claim": {"store": STORE, "keep": "{a}"}}),
            json!({"choose": [{"when": ask.condition(), "steps": [{"transform": {"body": ".a += 100"}}]}], "otherwise": {"steps": []}}),
            json!({"redeem": STORE}),
        ],
        step => vec![step.declaration()],
    };
    steps.iter().flat_map(each).collect()
}

/// What is sent of a message; none: it fails.
pub fn follow(steps: &[Step], doc: &Doc) -> Option<Sent> {
    let mut sent = Vec::new();
    go(steps, doc, &mut sent).map(|()| sent)
}

fn go(steps: &[Step], doc: &Doc, sent: &mut Sent) -> Option<()> {
    let (step, rest) = steps.split_first()?;
    let mut send = |to: &String| sent.push((to.clone(), doc.clone()));
    match step {
        Step::Filter(ask, other) if !ask.holds(doc) => {
            other.iter().for_each(send);
            Some(())
        }
        Step::Validate(ask) if !ask.holds(doc) => None,
        Step::Transform { fails: Some(ask), .. } if ask.holds(doc) => None,
        Step::Filter(..) | Step::Validate(_) | Step::Aside(_) => go(rest, doc, sent),
        Step::Transform { add, .. } => go(rest, &doc.moved(*add, &format!("t{add}")), sent),
        Step::Split => (0..doc.a % 3 + 1).try_for_each(|i| go(rest, &doc.moved(i, &format!("s{i}")), sent)),
        Step::Tap(to) => {
            send(to);
            go(rest, doc, sent)
        }
        Step::Branch(ask, steps) if ask.holds(doc) => go(&[&steps[..], rest].concat(), doc, sent),
        Step::Branch(..) => go(rest, doc, sent),
        Step::Choose(cases, otherwise) => {
            let way = cases.iter().find(|(ask, _)| ask.holds(doc)).map(|(_, to)| to);
            send(way.or(otherwise.as_ref())?);
            Some(())
        }
        Step::Recipients { ask, one, other } => {
            match (ask.holds(doc), other) {
                (true, _) => {}
                (false, None) => return None,
                (false, Some(other)) if other == one => {}
                (false, Some(other)) => send(other),
            }
            send(one);
            Some(())
        }
        Step::To(all) => {
            all.iter().for_each(send);
            Some(())
        }
    }
}
