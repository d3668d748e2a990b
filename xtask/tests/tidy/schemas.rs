//! Has each thing that `/openapi.json` describes a name of its own? Of two with one name the description holds the last, for both.

use std::collections::BTreeMap;

use crate::repository::{assert_none, code, texts};

/// The name by which a type that begins with these lines stands in the description.
fn name_of<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let word = |text: &'a str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next();
    let declared = |line: &&'a str| {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
        matches!(words.next()?, "struct" | "enum").then(|| words.next().and_then(word))?
    };
    let (end, name) = lines.iter().enumerate().find_map(|(at, line)| Some((at, declared(line)?)))?;
    let renamed = lines[..end].iter().find_map(|line| line.split_once("schema(as = "));
    renamed.map_or(Some(name), |(_, rest)| word(rest))
}

#[test]
fn no_two_types_of_the_description_have_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in
        texts().into_iter().filter(|(path, _)| path.starts_with("crates/") && path.ends_with(".rs"))
    {
        let text = code(&text);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.starts_with("#[") && line.contains("derive(") && line.contains("ToSchema") {
                let name =
                    name_of(&lines[at..]).unwrap_or_else(|| panic!("{path}:{}: no type follows", at + 1));
                places.entry(name.to_owned()).or_default().push(format!("{path}:{}", at + 1));
            }
        }
    }
    assert!(places.len() > 50, "only {} types found", places.len());
    let doubled: Vec<String> = places
        .into_iter()
        .filter(|(_, places)| places.len() > 1)
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect();
    assert_none(
        &doubled,
        "two types of one name in the description of the HTTP API: rename one by `schema(as = …)`",
    );
}
