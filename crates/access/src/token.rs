//! What is a token, and how is one made? `wst.NAME.SECRET`; only an argon2id hash of it is kept.

use std::{fmt, io, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use waystation_base::os;

use crate::{
    caller::Action,
    check::Secret,
    password::{self, Algorithm},
    pattern::covers,
    user::Tags,
};

/// Bytes of a token's name.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// Patterns for one permission of one token.
pub const PATTERNS_MAX: usize = 256;
const PREFIX: &str = "wst";

/// A token as configured. An unknown member is an error.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What `waystation token new` printed: `$argon2id$…`.
    pub hash: String,
    /// Names to which it may publish: patterns as in subscriptions (`*` one word, `#` any number of words).
    #[serde(default)]
    pub publish: Vec<String>,
    /// Names that it may receive from, settle, follow and browse.
    #[serde(default)]
    pub consume: Vec<String>,
    /// Names that it may create, change, purge, move and delete.
    #[serde(default)]
    pub configure: Vec<String>,
}

/// Why a configured token cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The name.
    #[error("token name {0:?} must have 1 to {TOKEN_NAME_BYTES_MAX} letters, digits, '_' or '-'")]
    Name(String),
    /// The hash.
    #[error("token '{name}': hash is not an argon2id hash as 'waystation token new' prints it: {reason}")]
    Hash {
        /// Of which token.
        name: String,
        /// Why.
        reason: String,
    },
    /// Two of the same name.
    #[error("token '{0}' is configured twice")]
    Twice(String),
    /// Too many patterns.
    #[error("token '{name}': {permission} has {count} patterns, {PATTERNS_MAX} are allowed")]
    Patterns {
        /// Of which token.
        name: String,
        /// Of which permission.
        permission: &'static str,
        /// How many.
        count: usize,
    },
}

/// A token that was just made. The text is shown once and kept nowhere.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What the client sends.
    pub token: String,
    /// What the configuration keeps.
    pub hash: String,
}

/// Makes a token of 256 random bits.
pub fn new_token(name: &str) -> io::Result<NewToken> {
    if !is_name(name) {
        return Err(io::Error::other(TokenError::Name(name.to_owned())));
    }
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(&os::random()?.to_le_bytes());
    secret[16..].copy_from_slice(&os::random()?.to_le_bytes());
    let token = format!("{PREFIX}.{name}.{}", URL_SAFE_NO_PAD.encode(secret));
    let hash = password::hash(&token).map_err(io::Error::other)?;
    Ok(NewToken { token, hash })
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=TOKEN_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// The name within a token's text.
pub(crate) fn name_of(token: &str) -> Option<&str> {
    let (prefix, rest) = token.split_once('.')?;
    let (name, _secret) = rest.split_once('.')?;
    (prefix == PREFIX).then_some(name)
}

/// A token that may be presented.
pub(crate) struct Token {
    pub name: String,
    pub secret: Arc<Secret>,
    publish: Vec<String>,
    consume: Vec<String>,
    configure: Vec<String>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.name).finish()
    }
}

impl fmt::Debug for TokenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenEntry").field(&self.name).finish()
    }
}

impl Token {
    pub fn new(entry: TokenEntry) -> Result<Token, TokenError> {
        let TokenEntry { name, hash, publish, consume, configure } = entry;
        if !is_name(&name) {
            return Err(TokenError::Name(name));
        }
        let wrong = |reason: String| TokenError::Hash { name: name.clone(), reason };
        Algorithm::Argon2id.check(&hash).map_err(wrong)?;
        for (permission, patterns) in
            [("publish", &publish), ("consume", &consume), ("configure", &configure)]
        {
            if patterns.len() > PATTERNS_MAX {
                return Err(TokenError::Patterns { name, permission, count: patterns.len() });
            }
        }
        let secret = Arc::new(Secret::new(Algorithm::Argon2id, hash));
        Ok(Token { name, secret, publish, consume, configure })
    }

    /// The patterns of what an action may be done to.
    pub fn patterns(&self, action: Action) -> &[String] {
        match action {
            Action::Write => &self.publish,
            Action::Read => &self.consume,
            Action::Configure => &self.configure,
        }
    }

    /// Whether an action may be done to everything that `asked`, a name or a pattern, stands for.
    pub fn covers(&self, action: Action, asked: &str) -> bool {
        self.patterns(action).iter().any(|granted| covers(granted, asked))
    }

    /// Who may do everything to everything is an administrator.
    pub fn tags(&self) -> Tags {
        let is_all = Action::ALL.iter().all(|action| self.covers(*action, "#"));
        Tags::parse(if is_all { "administrator" } else { "" })
    }
}

#[cfg(test)]
impl TokenEntry {
    /// An entry whose hash has the right form and belongs to nothing.
    pub(crate) fn example(name: &str) -> TokenEntry {
        let hash = "$argon2id$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$Zm9vYmFyZm9vYmFyZm9vYmFy".to_owned();
        TokenEntry { name: name.into(), hash, publish: vec![], consume: vec![], configure: vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_verifies_against_its_hash_and_another_does_not() {
        let made = new_token("shop").expect("randomness");
        assert_eq!(name_of(&made.token), Some("shop"));
        assert!(!made.hash.contains(made.token.rsplit('.').next().expect("a secret")));
        let token = Token::new(TokenEntry { hash: made.hash, ..TokenEntry::example("shop") }).expect("good");
        assert!(token.secret.verify(&made.token));
        assert!(!token.secret.verify(&format!("{}x", made.token)));
        assert!(!format!("{token:?}").contains("argon2"));
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        let check = |change: fn(&mut TokenEntry)| {
            let mut entry = TokenEntry::example("shop");
            change(&mut entry);
            Token::new(entry).map(|_| ())
        };
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|entry| entry.name = "n".repeat(TOKEN_NAME_BYTES_MAX)), Ok(()));
        let long = "n".repeat(TOKEN_NAME_BYTES_MAX + 1);
        assert_eq!(
            check(|entry| entry.name = "n".repeat(TOKEN_NAME_BYTES_MAX + 1)),
            Err(TokenError::Name(long))
        );
        assert!(matches!(check(|entry| entry.hash = "secret".into()), Err(TokenError::Hash { .. })));
        assert_eq!(check(|entry| entry.publish = vec!["#".into(); PATTERNS_MAX]), Ok(()));
        let past = check(|entry| entry.publish = vec!["#".into(); PATTERNS_MAX + 1]);
        assert!(matches!(past, Err(TokenError::Patterns { permission: "publish", count: 257, .. })));
    }
}
