//! Is the shard what it promises: a deterministic machine that knows neither the world nor a protocol?

use crate::repository::{assert_none, code, texts};

/// The world: what a machine that is replayed from a journal must not ask.
const WORLD: &[&str] = &[
    "tokio",
    "SystemTime",
    "Instant",
    "std::thread",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "OsClock",
    "OsDisk",
    "os::random",
    "Mutex",
    "RwLock",
    // Their order differs from run to run.
    "std::collections::HashMap",
    "std::collections::HashSet",
    "RandomState",
];

/// Protocols: each belongs to its door. A comment may name the source of a rule.
const PROTOCOLS: &[&str] = &["amqp", "kafka", "stomp", "redis", "jms", "http"];

fn sources() -> Vec<(String, String)> {
    texts().into_iter().filter(|(path, _)| path.starts_with("crates/broker/src/")).collect()
}

/// The lines of the shard's code in which one of `words` stands as a whole word.
fn uses(words: &[&str], fold: bool) -> Vec<String> {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        for (number, line) in code(&text).lines().enumerate() {
            let line = if fold { line.to_lowercase() } else { line.to_owned() };
            let found = words.iter().find(|word| has_word(&line, word));
            offences.extend(found.map(|word| format!("{path}:{}: {word}", number + 1)));
        }
    }
    offences
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

#[test]
fn the_shard_asks_the_world_nothing() {
    assert_none(&uses(WORLD, false), "the shard is given time, randomness and data; it fetches none");
}

#[test]
fn the_shard_names_no_protocol() {
    assert_none(&uses(PROTOCOLS, true), "a protocol's notions belong to its door");
}

#[test]
fn a_word_is_seen_alone_and_not_inside_another() {
    assert!(has_word("use std::time::Instant;", "Instant"));
    assert!(has_word("tokio::spawn(x)", "tokio"));
    assert!(!has_word("fn instantiate(InstantKind)", "Instant"));
}
