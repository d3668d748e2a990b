//! How is a password kept, and is a given one right? argon2id for new ones; what RabbitMQ's definitions bring is accepted too.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

/// Bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Bytes of salt before the digest in RabbitMQ's hashes.
const RABBIT_SALT_BYTES: usize = 4;

/// How a password was hashed. The names are those of RabbitMQ's definitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// Salted and slow on purpose; ours.
    #[serde(rename = "argon2id")]
    Argon2id,
    /// Salted SHA-256, RabbitMQ's default.
    #[default]
    #[serde(rename = "rabbit_password_hashing_sha256")]
    RabbitSha256,
    /// Salted SHA-512.
    #[serde(rename = "rabbit_password_hashing_sha512")]
    RabbitSha512,
}

impl Algorithm {
    /// By its name in definitions.
    pub fn named(name: &str) -> Option<Algorithm> {
        match name {
            "argon2id" => Some(Algorithm::Argon2id),
            "rabbit_password_hashing_sha256" => Some(Algorithm::RabbitSha256),
            "rabbit_password_hashing_sha512" => Some(Algorithm::RabbitSha512),
            _ => None,
        }
    }

    /// Its name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Argon2id => "argon2id",
            Algorithm::RabbitSha256 => "rabbit_password_hashing_sha256",
            Algorithm::RabbitSha512 => "rabbit_password_hashing_sha512",
        }
    }

    /// Why a text is no hash of this kind.
    pub fn check(self, hash: &str) -> Result<(), String> {
        let digest_bytes = match self {
            Algorithm::Argon2id => {
                let parsed = PasswordHash::new(hash).map_err(|error| error.to_string())?;
                let is_ours = parsed.algorithm.as_str() == "argon2id";
                return if is_ours { Ok(()) } else { Err(format!("its algorithm is {}", parsed.algorithm)) };
            }
            Algorithm::RabbitSha256 => 32,
            Algorithm::RabbitSha512 => 64,
        };
        let bytes = STANDARD.decode(hash).map_err(|error| format!("it is no base64: {error}"))?;
        let expected = RABBIT_SALT_BYTES + digest_bytes;
        if bytes.len() == expected {
            Ok(())
        } else {
            Err(format!("it has {} bytes, not {expected}", bytes.len()))
        }
    }

    /// Whether `hash` was made from `text`. Slow for argon2id: some 20 ms of one core and 19 MiB.
    pub(crate) fn verify(self, hash: &str, text: &str) -> bool {
        match self {
            Algorithm::Argon2id => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(text.as_bytes(), &hash).is_ok()),
            Algorithm::RabbitSha256 => rabbit::<Sha256>(hash, text),
            Algorithm::RabbitSha512 => rabbit::<Sha512>(hash, text),
        }
    }
}

/// Makes the hash that is kept. As slow as verifying.
pub(crate) fn hash(text: &str) -> Result<String, String> {
    Argon2::default()
        .hash_password(text.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| error.to_string())
}

/// base64(salt, digest(salt, password)), as RabbitMQ's guide to passwords describes it.
fn rabbit<D: Digest>(hash: &str, text: &str) -> bool {
    let Ok(bytes) = STANDARD.decode(hash) else { return false };
    let Some((salt, kept)) = bytes.split_at_checked(RABBIT_SALT_BYTES) else { return false };
    let digest = D::new().chain_update(salt).chain_update(text.as_bytes()).finalize();
    // All bytes are looked at, so that time does not tell how many were right.
    kept.len() == digest.len() && kept.iter().zip(digest).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rabbitmqs_hashes_are_verified() {
        // From RabbitMQ's own documentation of the algorithm: salt CAD5089B, password "test12".
        let hash = "ytUIm8s3AnKsXQjptplKFytfVxI=";
        assert!(Algorithm::RabbitSha256.check(hash).is_err(), "that one is of another length");
        for (algorithm, make) in [
            (Algorithm::RabbitSha256, digest::<Sha256> as fn(&[u8], &str) -> String),
            (Algorithm::RabbitSha512, digest::<Sha512>),
        ] {
            let hash = make(&[0x90, 0x8d, 0xc6, 0x0a], "test12");
            assert_eq!(algorithm.check(&hash), Ok(()));
            assert!(algorithm.verify(&hash, "test12"));
            assert!(!algorithm.verify(&hash, "test13"));
            assert!(!algorithm.verify("AAAA", "test12"));
            assert!(!algorithm.verify("!", "test12"));
        }
        // The example of the guide "Passwords": sha256 over 908DC60A and "test12".
        assert!(Algorithm::RabbitSha256.verify("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", "test12"));
    }

    fn digest<D: Digest>(salt: &[u8], text: &str) -> String {
        let digest = D::new().chain_update(salt).chain_update(text).finalize();
        STANDARD.encode([salt, digest.as_ref()].concat())
    }

    #[test]
    fn a_new_hash_verifies_and_another_password_does_not() {
        let hash = hash("secret").expect("a hash");
        assert_eq!(Algorithm::Argon2id.check(&hash), Ok(()));
        assert!(Algorithm::Argon2id.verify(&hash, "secret"));
        assert!(!Algorithm::Argon2id.verify(&hash, "Secret"));
        assert!(Algorithm::Argon2id.check("secret").is_err());
        assert_eq!(Algorithm::named(Algorithm::Argon2id.name()), Some(Algorithm::Argon2id));
    }
}
