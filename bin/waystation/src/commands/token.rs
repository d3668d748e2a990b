//! How does a token come about, of which the configuration holds only a hash?

use std::io::Read;

use argon2::{Argon2, password_hash::PasswordHasher};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use waystation_base::os;

use crate::{
    args::server::TokenCommand,
    config::Token,
    exit::{Exit, Failure},
    output::Output,
};

/// Bytes of a token that is read: more is no token but a mistake.
const TOKEN_BYTES_MAX: u64 = 1024;
/// So that a token is known for what it is wherever it turns up.
const PREFIX: &str = "ws_";

pub fn run(command: TokenCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        TokenCommand::New { name, publish, consume, configure } => {
            let secret = secret()?;
            let entry = Token { name, hash: hash(&secret)?, publish, consume, configure };
            let told = json!({"token": secret, "entry": entry});
            output.say(&told, || {
                format!(
                    "token (shown only now): {secret}\n\nfor the configuration file:\n\n{}",
                    configured(&entry)
                )
            })?;
        }
        TokenCommand::Hash => {
            let mut text = String::new();
            std::io::stdin().lock().take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text)?;
            let secret = text.trim_end_matches(['\n', '\r']);
            if secret.is_empty() || text.len() as u64 > TOKEN_BYTES_MAX {
                return Err(Failure::usage(format!("a token has 1 to {TOKEN_BYTES_MAX} bytes")));
            }
            let hash = hash(secret)?;
            output.say(&json!({"hash": hash}), || hash.clone())?;
        }
    }
    Ok(Exit::Done)
}

/// 256 random bits as text.
fn secret() -> Result<String, Failure> {
    let bytes = [os::random()?.to_le_bytes(), os::random()?.to_le_bytes()].concat();
    Ok(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

fn hash(secret: &str) -> Result<String, Failure> {
    let hash = Argon2::default().hash_password(secret.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| Failure::new(Exit::Failure, error))
}

/// The entry as it stands in the file.
fn configured(token: &Token) -> String {
    let fields = toml::to_string(token).unwrap_or_else(|error| unreachable!("texts are TOML: {error}"));
    format!("[[auth.tokens]]\n{fields}")
}

#[cfg(test)]
mod tests {
    use waystation_admin::document;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_new_token_is_random_and_its_entry_is_good() {
        let (one, other) = (secret().expect("a token"), secret().expect("a token"));
        assert_ne!(one, other);
        assert_eq!(one.len(), PREFIX.len() + 43);
        let hash = hash(&one).expect("a hash");
        let entry = Token {
            name: "ops \"1\"".into(),
            hash,
            publish: vec!["#".into()],
            consume: vec![],
            configure: vec![],
        };
        let config: Config = document::read(configured(&entry).as_bytes()).expect("TOML");
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.auth.tokens, [entry]);
    }

    #[test]
    fn two_hashes_of_one_token_differ() {
        assert_ne!(hash("x").expect("a hash"), hash("x").expect("a hash"));
    }
}
