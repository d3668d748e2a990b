//! Does a condition hold for a message, and why?

use std::fmt;

use waystation_base::{filter::Filter, name};
use waystation_selector::Selector;

use crate::{
    Fault, Invalid,
    limits::{CONDITION_DEPTH_MAX, CONDITION_PARTS_MAX},
    packet::Packet,
    program::{check_length, invalid, jq},
    run::Run,
    spec,
};

/// A condition that can be asked.
#[derive(Debug)]
pub(crate) enum Condition {
    Jq(waystation_jq::Program),
    Selector(Selector),
    Address(String),
    RoutingKey(String),
    Filter(Filter),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

/// What came of asking.
pub(crate) struct Found {
    pub holds: bool,
    /// In words, if somebody wants to know.
    pub why: Option<String>,
}

impl Condition {
    pub fn compile(field: &str, spec: &spec::Condition) -> Result<Condition, Invalid> {
        compile(field, spec, 1)
    }

    /// Asks it of a message.
    pub async fn find(&self, run: &Run<'_>, packet: &mut Packet) -> Result<Found, Fault> {
        let (holds, why) = match self {
            Condition::Jq(program) => {
                let body = packet.json().await?;
                let outputs = run.tools.jq(program, packet, body, run.limits).await?;
                let first = outputs.first().map(|output| &output[..]);
                let holds = !matches!(first, None | Some(b"false" | b"null"));
                (holds, run.level.why.then(|| format!("jq {} gave {}", program.text(), excerpt(first))))
            }
            Condition::Selector(selector) => {
                let truth = selector.evaluate(&|name| packet.property(name));
                // Unknown is not a match (JMS 2.0 §3.8.1.2).
                let word = match truth {
                    None => "is unknown: a property is not there, or of another type",
                    Some(holds) => word(holds),
                };
                (truth == Some(true), run.level.why.then(|| format!("selector {} {word}", selector.text())))
            }
            Condition::Address(pattern) => named(pattern, packet.address.as_str(), "address", run.level.why),
            Condition::RoutingKey(pattern) => {
                named(pattern, packet.routing_key().unwrap_or_default(), "routing key", run.level.why)
            }
            Condition::Filter(filter) => {
                let holds = filter.matches(packet.address.as_str(), &packet.message);
                (holds, run.level.why.then(|| format!("{self} {}", word(holds))))
            }
            Condition::All(parts) => return each(parts, false, run, packet).await,
            Condition::Any(parts) => return each(parts, true, run, packet).await,
            Condition::Not(part) => {
                let found = Box::pin(part.find(run, packet)).await?;
                return Ok(Found { holds: !found.holds, why: found.why.map(|why| format!("not ({why})")) });
            }
        };
        Ok(Found { holds, why })
    }
}

/// Asks parts until one decides: the first that is `decisive`.
async fn each(
    parts: &[Condition],
    decisive: bool,
    run: &Run<'_>,
    packet: &mut Packet,
) -> Result<Found, Fault> {
    let mut reasons = Vec::new();
    for part in parts {
        let found = Box::pin(part.find(run, packet)).await?;
        if found.holds == decisive {
            return Ok(found);
        }
        reasons.extend(found.why);
    }
    Ok(Found { holds: !decisive, why: run.level.why.then(|| reasons.join("; ")) })
}

fn named(pattern: &str, have: &str, what: &str, verbose: bool) -> (bool, Option<String>) {
    let holds = name::matches(pattern, have);
    let how = if holds { "matches" } else { "does not match" };
    (holds, verbose.then(|| format!("{what} '{have}' {how} '{pattern}'")))
}

fn word(holds: bool) -> &'static str {
    if holds { "holds" } else { "does not hold" }
}

/// Characters of a value that are shown.
const EXCERPT_CHARS_MAX: usize = 60;

fn excerpt(json: Option<&[u8]>) -> String {
    let Some(json) = json else { return "nothing".to_owned() };
    let text = String::from_utf8_lossy(json);
    match text.char_indices().nth(EXCERPT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

fn compile(field: &str, spec: &spec::Condition, depth: usize) -> Result<Condition, Invalid> {
    if depth > CONDITION_DEPTH_MAX {
        return Err(invalid(field, format!("conditions may be nested {CONDITION_DEPTH_MAX} deep")));
    }
    let parts = |word: &str, parts: &[spec::Condition]| {
        let field = format!("{field}.{word}");
        if parts.is_empty() || parts.len() > CONDITION_PARTS_MAX {
            return Err(invalid(
                field,
                format!("must have 1 to {CONDITION_PARTS_MAX} parts, has {}", parts.len()),
            ));
        }
        let part = |(index, part)| compile(&format!("{field}[{index}]"), part, depth + 1);
        parts.iter().enumerate().map(part).collect::<Result<Vec<_>, _>>()
    };
    Ok(match spec {
        spec::Condition::Jq(text) => Condition::Jq(jq(&format!("{field}.jq"), text)?),
        spec::Condition::Selector(text) => Condition::Selector(selector(&format!("{field}.selector"), text)?),
        spec::Condition::Address(pattern) => {
            Condition::Address(pattern_of(&format!("{field}.address"), pattern)?)
        }
        spec::Condition::RoutingKey(pattern) => {
            Condition::RoutingKey(pattern_of(&format!("{field}.routing_key"), pattern)?)
        }
        spec::Condition::Filter(filter) => {
            filter.check().map_err(|error| invalid(format!("{field}.filter"), error))?;
            Condition::Filter(filter.clone())
        }
        spec::Condition::All(all) => Condition::All(parts("all", all)?),
        spec::Condition::Any(any) => Condition::Any(parts("any", any)?),
        spec::Condition::Not(part) => {
            Condition::Not(Box::new(compile(&format!("{field}.not"), part, depth + 1)?))
        }
    })
}

fn selector(field: &str, text: &str) -> Result<Selector, Invalid> {
    check_length(field, text)?;
    Selector::parse(text)
        .map_err(|error| invalid(field, format!("column {}: {}", error.column, error.message)))
}

fn pattern_of(field: &str, pattern: &str) -> Result<String, Invalid> {
    let limit = waystation_base::limits::NAME_BYTES_MAX;
    match pattern.len() {
        0 => Err(invalid(field, "is empty; '#' matches everything")),
        bytes if bytes > limit => Err(invalid(field, format!("may have {limit} bytes, has {bytes}"))),
        _ => Ok(pattern.to_owned()),
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = |f: &mut fmt::Formatter<'_>, word: &str, parts: &[Condition]| {
            let parts: Vec<String> = parts.iter().map(Condition::to_string).collect();
            write!(f, "{word}({})", parts.join(", "))
        };
        match self {
            Condition::Jq(program) => write!(f, "jq {}", program.text()),
            Condition::Selector(selector) => write!(f, "selector {}", selector.text()),
            Condition::Address(pattern) => write!(f, "address {pattern}"),
            Condition::RoutingKey(pattern) => write!(f, "routing key {pattern}"),
            Condition::Filter(filter) => {
                write!(f, "filter {}", serde_json::to_string(filter).unwrap_or_default())
            }
            Condition::All(all) => parts(f, "all", all),
            Condition::Any(any) => parts(f, "any", any),
            Condition::Not(part) => write!(f, "not({part})"),
        }
    }
}
