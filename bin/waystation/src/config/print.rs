//! How is the configuration written with a comment for each key, so that it reads back the same?

use toml::{Table, Value};

use super::{
    Config,
    keys::{KEYS, SECTIONS, variable},
};

/// The configuration as a commented file. Keys that are not set stand there as comments.
pub fn print(config: &Config) -> String {
    let table =
        Table::try_from(config).unwrap_or_else(|error| unreachable!("a configuration is TOML: {error}"));
    let mut text = String::from(
        "# The configuration of Waystation. Environment variables (named in brackets) go before this file,\n\
         # flags go before both. `waystation config check FILE` tells what is wrong with a file.\n",
    );
    for (section, purpose) in SECTIONS {
        text += &format!("\n# {purpose}\n[{section}]\n");
        for key in KEYS.iter().filter(|key| key.section == *section) {
            let variable = variable(key).map(|name| format!(" [{name}]")).unwrap_or_default();
            for (at, line) in key.meaning.iter().enumerate() {
                let variable = if at + 1 == key.meaning.len() { variable.as_str() } else { "" };
                text += &format!("# {line}{variable}\n");
            }
            let set = table.get(*section).and_then(|section| section.get(key.name));
            text += &match (set, key.example) {
                (Some(value), _) => format!("{} = {}\n", key.name, inline(value)),
                (None, example) => format!("# {} = {}\n", key.name, example.unwrap_or_default()),
            };
        }
    }
    text
}

/// A value on one line.
fn inline(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use waystation_admin::document;

    use super::*;
    use waystation_access::TokenEntry;

    use crate::config::keys::Key;

    #[test]
    fn the_printed_default_is_the_default() {
        let text = print(&Config::default());
        assert_eq!(document::read::<Config>(text.as_bytes()), Ok(Config::default()), "{text}");
    }

    #[test]
    fn a_printed_configuration_reads_back_the_same() {
        let mut config = Config::default();
        config.tls.certificate = Some("a \"quoted\" name.pem".into());
        config.tls.key = Some("key.pem".into());
        let hash = "$argon2id$v=19$x".to_owned();
        let all = vec!["#".to_owned()];
        config.auth.tokens = vec![TokenEntry {
            name: "ops".into(),
            hash,
            publish: all.clone(),
            consume: all,
            configure: vec![],
        }];
        let text = print(&config);
        assert!(document::read::<Config>(text.as_bytes()) == Ok(config), "{text}");
    }

    #[test]
    fn every_commented_example_is_valid_too() {
        let text = print(&Config::default());
        let example = |line: &str| KEYS.iter().any(|key| line.starts_with(&format!("# {} = ", key.name)));
        let lines = text.lines().map(|line| if example(line) { &line[2..] } else { line });
        let uncommented = lines.collect::<Vec<_>>().join("\n");
        let config = document::read::<Config>(uncommented.as_bytes()).expect("valid");
        assert_eq!(config.auth.tokens.len(), 1, "{uncommented}");
        config.check().expect("good values");
    }

    #[test]
    fn every_key_is_documented_and_every_documented_key_exists() {
        let mut config = Config::default();
        config.tls.certificate = Some("x".into());
        config.tls.key = Some("x".into());
        config.tls.client_ca = Some("x".into());
        config.webhooks.ca = Some("x".into());
        config.upstreams.ca = Some("x".into());
        config.otlp.ca = Some("x".into());
        config.otlp.endpoint = Some("http://x".into());
        let rule = serde_json::from_str(r#"{"address": "x"}"#);
        config.limits.memory_high_bytes = Some(1);
        config.record.rules = vec![rule.expect("a rule")];
        let token = TokenEntry {
            name: "a".into(),
            hash: "b".into(),
            publish: vec![],
            consume: vec![],
            configure: vec![],
        };
        config.auth.tokens = vec![token];
        let table = Table::try_from(config).expect("toml");
        let there: BTreeSet<(&str, &str)> = table
            .iter()
            .flat_map(|(section, keys)| {
                keys.as_table().expect("a section").keys().map(move |key| (section.as_str(), key.as_str()))
            })
            .collect();
        let documented: BTreeSet<(&str, &str)> =
            KEYS.iter().map(|Key { section, name, .. }| (*section, *name)).collect();
        assert_eq!(there, documented);
        assert!(KEYS.iter().all(|key| SECTIONS.iter().any(|(section, _)| *section == key.section)));
    }
}
