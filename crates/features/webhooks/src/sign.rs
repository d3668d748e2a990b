//! How is a request signed (Standard Webhooks 1.0): `webhook-id`, `webhook-timestamp`, and in `webhook-signature` one signature
//! for each secret, parted by blanks?
//!
//! ```text
//! signed:   <webhook-id> "." <webhook-timestamp, seconds> "." <body>
//! whsec_…   base 64 of 24 to 64 bytes     "v1,"  base 64 of HMAC-SHA256
//! whsk_…    base 64 of an ed25519 seed,   "v1a," base 64 of the ed25519 signature; receivers get whpk_…
//!           or of seed and public key
//! ```

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};

/// What the name of a symmetric secret begins with.
pub const SYMMETRIC: &str = "whsec_";
/// What an asymmetric one begins with.
pub const ASYMMETRIC: &str = "whsk_";
/// What the public half of an asymmetric one begins with.
pub const PUBLIC: &str = "whpk_";
/// Bytes of a symmetric secret, at least.
pub const SECRET_BYTES_MIN: usize = 24;
/// At most.
pub const SECRET_BYTES_MAX: usize = 64;
/// Secrets of one endpoint at a time: the old and the new, and some to spare.
pub const SECRETS_MAX: usize = 8;
/// Bytes of a new symmetric secret.
const NEW_BYTES: usize = 32;
/// Bytes of an ed25519 seed, and of a public key.
const ED25519_BYTES: usize = 32;

/// Why a text is no secret. It never repeats the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither prefix.
    #[error("a secret begins with whsec_ or whsk_; `waystation webhook secret` makes one")]
    Prefix,
    /// The half that receivers get.
    #[error("this is a public key (whpk_), which cannot sign: give the whsk_ that belongs to it")]
    Public,
    /// Not base 64.
    #[error("what follows the prefix is not base 64")]
    Base64,
    /// Too short or too long.
    #[error("a whsec_ secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
    /// No ed25519 key.
    #[error("a whsk_ key is a seed of 32 bytes, or 64 bytes of seed and the public key that belongs to it")]
    Key,
    /// The system gave no randomness.
    #[error("the system gives no randomness")]
    Random,
}

/// Something to sign with.
pub enum Secret {
    /// HMAC-SHA256: `v1`.
    Symmetric(hmac::Key),
    /// ed25519: `v1a`.
    Asymmetric(Box<Ed25519KeyPair>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.version())
    }
}

impl Secret {
    /// Reads `whsec_…` or `whsk_…`.
    pub fn parse(text: &str) -> Result<Secret, Error> {
        if text.starts_with(PUBLIC) {
            return Err(Error::Public);
        }
        let bytes = |rest: &str| BASE64.decode(rest).map_err(|_| Error::Base64);
        if let Some(rest) = text.strip_prefix(SYMMETRIC) {
            let bytes = bytes(rest)?;
            if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
                return Err(Error::Length(bytes.len()));
            }
            return Ok(Secret::Symmetric(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        }
        let bytes = bytes(text.strip_prefix(ASYMMETRIC).ok_or(Error::Prefix)?)?;
        let pair = match bytes.len() {
            ED25519_BYTES => Ed25519KeyPair::from_seed_unchecked(&bytes),
            64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..ED25519_BYTES], &bytes[ED25519_BYTES..]),
            _ => return Err(Error::Key),
        };
        pair.map(|pair| Secret::Asymmetric(Box::new(pair))).map_err(|_| Error::Key)
    }

    /// Which version of signature it makes.
    pub fn version(&self) -> &'static str {
        match self {
            Secret::Symmetric(_) => "v1",
            Secret::Asymmetric(_) => "v1a",
        }
    }

    /// The `whpk_…` with which receivers verify, of an asymmetric one.
    pub fn public(&self) -> Option<String> {
        match self {
            Secret::Symmetric(_) => None,
            Secret::Asymmetric(pair) => {
                Some(format!("{PUBLIC}{}", BASE64.encode(pair.public_key().as_ref())))
            }
        }
    }

    fn sign(&self, content: &[u8]) -> String {
        match self {
            Secret::Symmetric(key) => format!("v1,{}", BASE64.encode(hmac::sign(key, content))),
            Secret::Asymmetric(pair) => format!("v1a,{}", BASE64.encode(pair.sign(content))),
        }
    }
}

/// The value of `webhook-signature`.
pub fn signature(id: &str, timestamp_s: u64, body: &[u8], secrets: &[Secret]) -> String {
    let mut content = format!("{id}.{timestamp_s}.").into_bytes();
    content.extend_from_slice(body);
    let all: Vec<String> = secrets.iter().map(|secret| secret.sign(&content)).collect();
    all.join(" ")
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

/// A new `whsec_…`.
pub fn new_symmetric() -> Result<String, Error> {
    Ok(format!("{SYMMETRIC}{}", BASE64.encode(random::<NEW_BYTES>()?)))
}

/// A new `whsk_…` and its `whpk_…`.
pub fn new_asymmetric() -> Result<(String, String), Error> {
    let seed = random::<ED25519_BYTES>()?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Error::Key)?;
    let public = pair.public_key().as_ref();
    let private = BASE64.encode([&seed[..], public].concat());
    Ok((format!("{ASYMMETRIC}{private}"), format!("{PUBLIC}{}", BASE64.encode(public))))
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// The example of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn secret(text: &str) -> Secret {
        Secret::parse(text).expect("a secret")
    }

    #[test]
    fn the_known_signature_of_the_specifications_example_comes_out() {
        let found = signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
            &[secret(SECRET)],
        );
        assert_eq!(found, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_signs_so_that_one_can_be_replaced_by_another() {
        let (private, public) = new_asymmetric().expect("randomness");
        let other = new_symmetric().expect("randomness");
        let secrets = [secret(SECRET), secret(&other), secret(&private)];
        let all = signature("m", 1, b"x", &secrets);
        let parts: Vec<&str> = all.split(' ').collect();
        assert!(parts[0].starts_with("v1,") && parts[1].starts_with("v1,") && parts[2].starts_with("v1a,"));
        assert_ne!(parts[0], parts[1]);
        assert_eq!(secrets[2].public().as_ref(), Some(&public));
        let key = BASE64.decode(public.strip_prefix(PUBLIC).expect("its prefix")).expect("base 64");
        let signature = BASE64.decode(&parts[2][4..]).expect("base 64");
        let key = UnparsedPublicKey::new(&ED25519, key);
        assert!(key.verify(b"m.1.x", &signature).is_ok());
        assert!(key.verify(b"m.1.y", &signature).is_err());
    }

    #[test]
    fn what_is_no_secret_is_refused_without_repeating_it() {
        let check = |text: &str, expected: Error| {
            let error = Secret::parse(text).expect_err("no secret");
            assert_eq!(error, expected);
            assert!(text.len() < 8 || !error.to_string().contains(text));
        };
        let of = |prefix: &str, bytes: usize| format!("{prefix}{}", BASE64.encode(vec![7; bytes]));
        check("hunter2-hunter2", Error::Prefix);
        check("whsec_*", Error::Base64);
        check(&of(SYMMETRIC, SECRET_BYTES_MIN - 1), Error::Length(SECRET_BYTES_MIN - 1));
        check(&of(SYMMETRIC, SECRET_BYTES_MAX + 1), Error::Length(SECRET_BYTES_MAX + 1));
        check(&of(PUBLIC, 32), Error::Public);
        check(&of(ASYMMETRIC, 33), Error::Key);
        // The public half does not belong to the seed.
        check(&of(ASYMMETRIC, 64), Error::Key);
        for good in [of(SYMMETRIC, SECRET_BYTES_MIN), of(SYMMETRIC, SECRET_BYTES_MAX), of(ASYMMETRIC, 32)] {
            assert!(!format!("{:?}", secret(&good)).contains("Bw"), "debug output hides it");
        }
    }
}
