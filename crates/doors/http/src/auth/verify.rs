//! Is a presented token one of ours? Hashing is slow on purpose, so it happens off the reactor, few at a time, and a
//! token that was right is remembered for a short while.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use tokio::{sync::Semaphore, time::Instant};
use waystation_base::os;
use waystation_net::Permits;
use xxhash_rust::xxh3::xxh3_128_with_secret;

use super::{
    Caller,
    token::{Token, TokenEntry, TokenError, name_of},
};
use crate::failure::{Failure, Kind};

/// Tokens that may be hashed at the same time.
const HASHING_MAX: usize = 2;
/// Requests that may wait for that.
pub const WAITING_MAX: usize = 64;
/// Bytes of a presented token.
pub const TOKEN_BYTES_MAX: usize = 256;
/// For how long a token that was right is not hashed again.
const REMEMBERED: Duration = Duration::from_secs(60);
const SECRET_BYTES: usize = 192;

/// The tokens that are valid now.
pub struct Auth {
    tokens: RwLock<Arc<HashMap<String, Arc<Token>>>>,
    /// Makes the digests that are remembered useless outside of this process.
    secret: [u8; SECRET_BYTES],
    hashing: Arc<Semaphore>,
    waiting: Permits,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Auth").field(&self.tokens().keys()).finish()
    }
}

impl Auth {
    /// With these tokens; none at all is fine for a server that listens on loopback only.
    pub fn new(entries: Vec<TokenEntry>) -> io::Result<Auth> {
        let tokens = index(entries).map_err(io::Error::other)?;
        let mut secret = [0; SECRET_BYTES];
        for part in secret.chunks_exact_mut(16) {
            part.copy_from_slice(&os::random()?.to_le_bytes());
        }
        Ok(Auth {
            tokens: RwLock::new(Arc::new(tokens)),
            secret,
            hashing: Arc::new(Semaphore::new(HASHING_MAX)),
            waiting: Permits::new(WAITING_MAX),
        })
    }

    /// Puts other tokens in place of the present ones, at once and for all connections.
    pub fn replace(&self, entries: Vec<TokenEntry>) -> Result<(), TokenError> {
        let tokens = index(entries)?;
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
        Ok(())
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens().is_empty()
    }

    fn tokens(&self) -> Arc<HashMap<String, Arc<Token>>> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells who sends these headers; nothing if they hold no token.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>, Failure> {
        let Some(text) = bearer(headers)? else { return Ok(None) };
        let unknown = || Failure::new(Kind::Unauthenticated, "the token is not valid");
        let token = name_of(text).and_then(|name| self.tokens().get(name).cloned()).ok_or_else(unknown)?;
        let digest = xxh3_128_with_secret(text.as_bytes(), &self.secret);
        if token.is_remembered(digest) || self.verify(&token, text).await? {
            token.remember(digest);
            return Ok(Some(Caller::Bearer(token)));
        }
        Err(unknown())
    }

    async fn verify(&self, token: &Arc<Token>, text: &str) -> Result<bool, Failure> {
        let busy = || {
            Failure::new(Kind::Busy, format!("{WAITING_MAX} requests wait for their tokens to be checked"))
        };
        let _waiting = self.waiting.take().ok_or_else(busy)?;
        let permit = self.hashing.clone().acquire_owned().await.map_err(Failure::internal)?;
        let (token, text) = (token.clone(), text.to_owned());
        let check = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if the request has gone.
            let _permit = permit;
            token.verify(&text)
        });
        check.await.map_err(Failure::internal)
    }
}

impl Token {
    fn is_remembered(&self, digest: u128) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.is_some_and(|(known, until)| known == digest && Instant::now() < until)
    }

    fn remember(&self, digest: u128) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.is_none_or(|(known, until)| known != digest || Instant::now() >= until) {
            *verified = Some((digest, Instant::now() + REMEMBERED));
        }
    }
}

fn index(entries: Vec<TokenEntry>) -> Result<HashMap<String, Arc<Token>>, TokenError> {
    let mut tokens = HashMap::new();
    for entry in entries {
        let token = Arc::new(Token::new(entry)?);
        if let Some(twice) = tokens.insert(token.name.clone(), token) {
            return Err(TokenError::Twice(twice.name.clone()));
        }
    }
    Ok(tokens)
}

/// RFC 6750 §2.1.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let wrong = || Failure::new(Kind::Unauthenticated, "Authorization must be 'Bearer' and one token");
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(wrong)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(wrong());
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::auth::new_token;

    fn headers(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(text).expect("a value"))])
    }

    async fn status(auth: &Auth, text: &str) -> Result<bool, u16> {
        let caller = auth.caller(&headers(text)).await;
        caller.map(|caller| caller.is_some()).map_err(|failure| failure.0.status)
    }

    #[tokio::test]
    async fn the_right_token_is_known_and_any_other_is_not() {
        let made = new_token("shop").expect("randomness");
        let entry = TokenEntry { hash: made.hash, ..TokenEntry::example("shop") };
        let auth = Auth::new(vec![entry.clone()]).expect("good");
        assert!(auth.caller(&HeaderMap::new()).await.expect("no token").is_none());
        let right = format!("bearer {}", made.token);
        assert_eq!(status(&auth, &right).await, Ok(true));
        // From memory now.
        assert_eq!(status(&auth, &right).await, Ok(true));
        assert_eq!(status(&auth, &format!("{right}x")).await, Err(401));
        assert_eq!(status(&auth, "Bearer wst.other.x").await, Err(401));
        assert_eq!(status(&auth, "Basic x").await, Err(401));
        assert_eq!(status(&auth, "Bearer").await, Err(401));
        auth.replace(vec![]).expect("none is fine");
        assert_eq!(status(&auth, &right).await, Err(401), "revoked at once");
        assert_eq!(auth.replace(vec![entry.clone(), entry]), Err(TokenError::Twice("shop".into())));
    }

    #[test]
    fn a_presented_token_holds_at_its_bound_and_is_refused_past_it() {
        let check = |length| bearer(&headers(&format!("Bearer {}", "x".repeat(length)))).is_ok();
        assert!(check(TOKEN_BYTES_MAX));
        assert!(!check(TOKEN_BYTES_MAX + 1));
    }

    #[tokio::test]
    async fn who_comes_when_waiting_max_wait_is_told_to_come_back() {
        let auth = Auth::new(vec![TokenEntry::example("shop")]).expect("good");
        let _all = auth.waiting.take_many(WAITING_MAX).expect("all of them");
        assert_eq!(status(&auth, "Bearer wst.shop.x").await, Err(429));
    }
}
