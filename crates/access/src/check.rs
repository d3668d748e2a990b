//! Is a presented secret the right one? Hashing is slow on purpose, so it happens off the reactor, few at a time, and a
//! secret that was right is remembered for a short while.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};
use waystation_base::os;
use waystation_net::Permits;
use xxhash_rust::xxh3::xxh3_128_with_secret;

use crate::password::{self, Algorithm};

/// Secrets that may be hashed at the same time.
const HASHING_MAX: usize = 2;
/// Callers that may wait for that.
pub const WAITING_MAX: usize = 64;
/// Bytes of a presented token.
pub const TOKEN_BYTES_MAX: usize = 256;
/// For how long a secret that was right is not hashed again.
const REMEMBERED: Duration = Duration::from_secs(60);
const SECRET_BYTES: usize = 192;

/// What proves a token or a password.
pub(crate) struct Secret {
    algorithm: Algorithm,
    hash: String,
    /// The digest of the text that was verified last, and until when it need not be verified again.
    verified: Mutex<Option<(u128, Instant)>>,
}

impl Secret {
    pub fn new(algorithm: Algorithm, hash: String) -> Secret {
        Secret { algorithm, hash, verified: Mutex::new(None) }
    }

    /// The slow check.
    pub fn verify(&self, text: &str) -> bool {
        !self.hash.is_empty() && self.algorithm.verify(&self.hash, text)
    }

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

/// Too many wait for their secrets to be checked; or the checking failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// Where secrets are checked.
pub(crate) struct Checker {
    /// Makes the digests that are remembered useless outside of this process.
    key: [u8; SECRET_BYTES],
    hashing: Arc<Semaphore>,
    pub waiting: Permits,
}

impl Checker {
    pub fn new() -> io::Result<Checker> {
        let mut key = [0; SECRET_BYTES];
        for part in key.chunks_exact_mut(16) {
            part.copy_from_slice(&os::random()?.to_le_bytes());
        }
        Ok(Checker {
            key,
            hashing: Arc::new(Semaphore::new(HASHING_MAX)),
            waiting: Permits::new(WAITING_MAX),
        })
    }

    /// Whether `text` is what the secret was made from.
    pub async fn check(&self, secret: &Arc<Secret>, text: &str) -> Result<bool, Busy> {
        let digest = xxh3_128_with_secret(text.as_bytes(), &self.key);
        if secret.is_remembered(digest) {
            return Ok(true);
        }
        let (shared, text) = (secret.clone(), text.to_owned());
        let is_right = self.slow(move || shared.verify(&text)).await?;
        if is_right {
            secret.remember(digest);
        }
        Ok(is_right)
    }

    /// The hash that is kept of a new password.
    pub async fn hash(&self, text: &str) -> Result<String, Busy> {
        let text = text.to_owned();
        self.slow(move || password::hash(&text)).await?.map_err(|_| Busy)
    }

    async fn slow<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let _waiting = self.waiting.take().ok_or(Busy)?;
        let permit = self.hashing.clone().acquire_owned().await.map_err(|_| Busy)?;
        let task = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if the caller has gone.
            let _permit = permit;
            work()
        });
        task.await.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_right_secret_is_remembered_and_a_wrong_one_is_not() {
        let checker = Checker::new().expect("randomness");
        let secret = Arc::new(Secret::new(Algorithm::Argon2id, checker.hash("x").await.expect("a hash")));
        assert_eq!(checker.check(&secret, "y").await, Ok(false));
        assert_eq!(checker.check(&secret, "x").await, Ok(true));
        let _all = checker.waiting.take_many(WAITING_MAX).expect("all of them");
        assert_eq!(checker.check(&secret, "x").await, Ok(true), "from memory, without waiting");
        assert_eq!(checker.check(&secret, "y").await, Err(Busy));
    }

    #[tokio::test]
    async fn an_empty_hash_lets_nobody_in() {
        let secret = Arc::new(Secret::new(Algorithm::RabbitSha256, String::new()));
        assert_eq!(Checker::new().expect("randomness").check(&secret, "").await, Ok(false));
    }
}
