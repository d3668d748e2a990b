//! How do file, environment and flags come together: the later wins, and each mistake is told by its place?

use std::{fs, path::Path};

use toml::{Table, Value};
use waystation_admin::document;

use super::{
    Config,
    keys::{KEYS, Key, variable},
};
use crate::exit::{Exit, Failure};

/// Variables of the client commands, which are no keys.
const CLIENT_VARIABLES: &[&str] = &[
    "WAYSTATION_SERVER",
    "WAYSTATION_TOKEN",
    "WAYSTATION_CA",
    "WAYSTATION_CONFIG",
    "WAYSTATION_WEBHOOK_SECRET",
];
/// What Kubernetes puts into the environment of every pod beside a service that is called waystation.
const FOREIGN_VARIABLES: &[&str] = &["WAYSTATION_PORT", "WAYSTATION_SERVICE_"];

/// The configuration of a file (none: the defaults) under the given environment, not checked yet for sense.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Failure> {
    let config = match file {
        Some(path) => read(path)?,
        None => Config::default(),
    };
    overlay(config, environment)
}

/// Reads and checks a file alone.
pub fn read(path: &Path) -> Result<Config, Failure> {
    let named = path.display();
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(Exit::NotFound, format!("{named} does not exist"))
            .advise("`waystation config print` writes a commented default"),
        _ => Failure::new(Exit::Failure, format!("reading {named} failed: {error}")),
    })?;
    parse(&bytes).map_err(|error| Failure::usage(format!("{named}: {error}")))
}

/// Reads and checks a file's bytes.
pub fn parse(bytes: &[u8]) -> Result<Config, document::Error> {
    let config: Config = document::read(bytes)?;
    let text = document::text(bytes)?;
    config.check().map_err(|problem| {
        let at = document::locate(text, &problem.path);
        document::Error::at(text, at, format!("{}: {}", problem.path.join("."), problem.reason))
    })?;
    Ok(config)
}

/// Lets the environment go before the file.
pub fn overlay(
    config: Config,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Failure> {
    let mut table = Table::try_from(&config).map_err(|error| Failure::new(Exit::Failure, error))?;
    let mut config = config;
    for (name, text) in environment.into_iter().filter(|(name, _)| is_ours(name)) {
        let key = find(&name)?;
        let wrong = |reason: String| Failure::usage(format!("environment variable {name}: {reason}"));
        let section = table.entry(key.section).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(section) = section else { unreachable!("sections are tables") };
        // What is not set is like its example.
        let example = key.example.and_then(|example| example.parse().ok());
        let value = like(section.get(key.name).or(example.as_ref()), &text).map_err(wrong)?;
        section.insert(key.name.to_owned(), value);
        config =
            table.clone().try_into().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    }
    Ok(config)
}

fn is_ours(name: &str) -> bool {
    name.starts_with("WAYSTATION_")
        && !CLIENT_VARIABLES.contains(&name)
        && !FOREIGN_VARIABLES.iter().any(|foreign| name.starts_with(foreign))
}

fn find(name: &str) -> Result<&'static Key, Failure> {
    if let Some(key) = KEYS.iter().find(|key| variable(key).as_deref() == Some(name)) {
        return Ok(key);
    }
    let known: Vec<String> = KEYS.iter().filter_map(variable).collect();
    let failure = Failure::usage(format!("environment variable {name} is none that Waystation knows"));
    Err(match document::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => failure.advise(format!("did you mean {near}?")),
        None => failure.advise("`waystation config print` names them all"),
    })
}

/// The text as a value of the same type as the one that it replaces.
fn like(old: Option<&Value>, text: &str) -> Result<Value, String> {
    match old {
        Some(Value::Integer(_)) => {
            text.parse().map(Value::Integer).map_err(|_| format!("'{text}' is not a whole number"))
        }
        Some(Value::Boolean(_)) => {
            text.parse().map(Value::Boolean).map_err(|_| format!("'{text}' is neither true nor false"))
        }
        Some(Value::Array(_)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(file: &str, environment: &[(&str, &str)], expected: Result<&str, &str>) {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = parse(file.as_bytes()).map_err(Failure::usage);
        let loaded = config.and_then(|config| overlay(config, environment));
        match (loaded, expected) {
            (Ok(config), Ok(address)) => assert_eq!(config.http.address.to_string(), address),
            (Err(error), Err(part)) => {
                let told = format!("{error} {}", error.advice.as_deref().unwrap_or_default());
                assert!(told.contains(part), "{told}\n  should say: {part}");
            }
            (other, _) => panic!("{file:?} gave {other:?}"),
        }
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let variable = ("WAYSTATION_HTTP_ADDRESS", "127.0.0.1:2");
        check("", &[], Ok("127.0.0.1:7400"));
        check("http.address = '127.0.0.1:1'", &[], Ok("127.0.0.1:1"));
        check("http.address = '127.0.0.1:1'", &[variable], Ok("127.0.0.1:2"));
        check("", &[("WAYSTATION_TLS_KEY", "x"), variable], Ok("127.0.0.1:2"));
        check(
            "",
            &[("WAYSTATION_SERVER", "http://x"), ("WAYSTATION_SERVICE_HOST", "10.0.0.1")],
            Ok("127.0.0.1:7400"),
        );
    }

    #[test]
    fn a_number_that_is_not_set_is_one_in_the_environment_too() {
        let high = |file: &str, value: &str| {
            let environment = [("WAYSTATION_LIMITS_MEMORY_HIGH_BYTES".to_owned(), value.to_owned())];
            let config = overlay(parse(file.as_bytes()).expect("a file"), environment);
            config.map(|config| config.limits.memory_high_bytes).map_err(|error| error.to_string())
        };
        assert_eq!(high("", "12"), Ok(Some(12)));
        assert_eq!(high("limits.memory_high_bytes = 7", "12"), Ok(Some(12)));
        let error = high("", "much").expect_err("no number");
        assert!(error.contains("'much' is not a whole number"), "{error}");
    }

    #[test]
    fn a_mistake_is_told_by_its_place_with_the_near_word() {
        check("\n[htpt]", &[], Err("line 2, column 2: unknown field `htpt`"));
        check("\n[htpt]", &[], Err("did you mean 'http'?"));
        check("[http]\nadress = 1", &[], Err("did you mean 'address'?"));
        check("[http]\naddress = 1", &[], Err("line 2, column 11"));
        check(
            "[http]\n\n  drain_ms = 99999999",
            &[],
            Err("line 3, column 3: http.drain_ms: must lie between"),
        );
        check("[durability]\nmode = 'synk'", &[], Err("did you mean 'sync'?"));
        check("", &[("WAYSTATION_HTTP_ADRESS", "x")], Err("did you mean WAYSTATION_HTTP_ADDRESS?"));
        check(
            "",
            &[("WAYSTATION_HTTP_ADDRESS", "x")],
            Err("WAYSTATION_HTTP_ADDRESS: invalid socket address"),
        );
        check("", &[("WAYSTATION_HTTP_DRAIN_MS", "x")], Err("'x' is not a whole number"));
        check(
            "",
            &[("WAYSTATION_DURABILITY_MODE", "never")],
            Err("WAYSTATION_DURABILITY_MODE: unknown variant"),
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_configuration_or_an_error_with_a_place(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(error) = parse(&bytes) {
                prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
            }
        }

        #[test]
        fn a_broken_configuration_is_one_still_or_an_error_with_a_place(at: prop::sample::Index, byte: u8) {
            let mut bytes = crate::config::print::print(&Config::default()).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Err(error) = parse(&bytes) {
                prop_assert!(error.line >= 1 && error.column >= 1);
            }
        }
    }
}
