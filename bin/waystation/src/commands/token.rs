//! How does a token come about, of which the configuration holds only a hash?

use std::io::Read;

use argon2::{Argon2, password_hash::PasswordHasher};
use serde_json::json;
use waystation_access::TokenEntry;

use crate::{
    args::server::TokenCommand,
    exit::{Exit, Failure},
    output::Output,
};

/// Bytes of a token that is read: more is no token but a mistake.
const TOKEN_BYTES_MAX: u64 = 1024;

pub fn run(command: TokenCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        TokenCommand::New { name, publish, consume, configure } => {
            let made = waystation_access::new_token(&name).map_err(Failure::usage)?;
            let entry = TokenEntry { name, hash: made.hash, publish, consume, configure };
            let told = json!({"token": made.token, "entry": entry});
            output.say(&told, || {
                format!(
                    "token (shown only now): {}\n\nfor the configuration file:\n\n{}",
                    made.token,
                    configured(&entry)
                )
            })?;
        }
        TokenCommand::Hash => {
            let mut text = String::new();
            std::io::stdin().lock().take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text)?;
            let secret = text.trim_end_matches(['\n', '\r']);
            if text.len() as u64 > TOKEN_BYTES_MAX {
                return Err(Failure::usage(format!("a token has at most {TOKEN_BYTES_MAX} bytes")));
            }
            if !matches!(secret.splitn(3, '.').collect::<Vec<_>>()[..], ["wst", name, rest] if !name.is_empty() && !rest.is_empty())
            {
                return Err(Failure::usage("a token has the form wst.NAME.SECRET"));
            }
            let hash = hash(secret)?;
            output.say(&json!({"hash": hash}), || hash.clone())?;
        }
    }
    Ok(Exit::Done)
}

fn hash(secret: &str) -> Result<String, Failure> {
    let hash = Argon2::default().hash_password(secret.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| Failure::new(Exit::Failure, error))
}

/// The entry as it stands in the file.
fn configured(token: &TokenEntry) -> String {
    let fields = toml::to_string(token).unwrap_or_else(|error| unreachable!("texts are TOML: {error}"));
    format!("[[auth.tokens]]\n{fields}")
}

#[cfg(test)]
mod tests {
    use waystation_admin::document;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_entry_of_a_new_token_is_good() {
        let made = waystation_access::new_token("ops-1").expect("a token");
        let entry = TokenEntry {
            name: "ops-1".into(),
            hash: made.hash,
            publish: vec!["#".into()],
            consume: vec![],
            configure: vec![],
        };
        let config: Config = document::read(configured(&entry).as_bytes()).expect("TOML");
        assert_eq!(config.check(), Ok(()));
        assert!(config.auth.tokens == [entry]);
    }

    #[test]
    fn two_hashes_of_one_token_differ() {
        assert_ne!(hash("wst.a.x").expect("a hash"), hash("wst.a.x").expect("a hash"));
    }
}
