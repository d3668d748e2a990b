//! Is a configuration good, and what does it say in full?

use std::env;

use serde_json::json;

use crate::{
    args::server::ConfigCommand,
    config::{Config, layers, print},
    exit::{Exit, Failure},
    output::{self, Output},
};

pub fn run(command: ConfigCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check { file } => {
            let config = layers::load(Some(&file), variables())?;
            config.check_exposure().map_err(refuse_exposure)?;
            let name = file.display().to_string();
            output.say(&json!({"file": name, "good": true}), || format!("{name} is good"))?;
        }
        ConfigCommand::Print { config } => {
            let config = match config {
                Some(path) => layers::read(&path)?,
                None => Config::default(),
            };
            match output.json {
                true => output.json(&config)?,
                false => output::text(&print::print(&config))?,
            }
        }
    }
    Ok(Exit::Done)
}

/// The environment; a variable that is not text is none of ours.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// See [`Config::check_exposure`].
pub fn refuse_exposure(reason: String) -> Failure {
    Failure::usage(reason).advise(
        "listen on 127.0.0.1, or configure a token under [auth]: `waystation token new NAME` makes one",
    )
}
