//! What can be configured, with which defaults, and when is a configuration good?

mod amqp;
pub mod keys;
pub mod layers;
mod otlp;
pub mod print;
mod record;
mod upstreams;
mod webhooks;

use std::{net::SocketAddr, path::PathBuf};

pub use amqp::{Amqp, Place};
pub use otlp::Otlp;
pub use record::Record;
use serde::{Deserialize, Serialize};
pub use upstreams::Upstreams;
use waystation_access::TokenEntry;
use waystation_http::limits;
pub use webhooks::Webhooks;

/// The whole configuration. Every key has a default; an unknown one is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub data: Data,
    pub durability: Durability,
    pub limits: Limits,
    pub http: Http,
    pub amqp: Amqp,
    pub webhooks: Webhooks,
    pub upstreams: Upstreams,
    pub otlp: Otlp,
    pub tls: Tls,
    pub auth: Auth,
    pub audit: Audit,
    pub record: Record,
    pub log: Log,
}

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    pub dir: PathBuf,
}

/// When something counts as durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Durability {
    pub mode: Mode,
    pub interval_ms: u64,
}

/// See [`Durability`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Acknowledged means synced to disk
    #[default]
    Sync,
    /// Synced after some milliseconds, which is what a power cut may take
    Interval,
    /// Synced when the system likes; a kill loses nothing, a power cut may
    Os,
}

/// What the server may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub cache_bytes: u64,
    pub journal_file_bytes: u64,
    pub hot_bytes: u64,
    pub snapshot_bytes: u64,
    pub disk_reserve_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high_bytes: Option<u64>,
    pub requests_max: usize,
}

/// The HTTP door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    pub address: SocketAddr,
    pub connections_max: usize,
    pub requests_max: usize,
    pub waits_max: usize,
    pub buffered_bytes_max: usize,
    pub idle_ms: u64,
    pub head_ms: u64,
    pub body_ms: u64,
    pub write_ms: u64,
    pub handshake_ms: u64,
    pub drain_ms: u64,
}

/// The server's certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    pub loopback_needs_token: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenEntry>,
}

/// How long the records of changes are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    pub retention_ms: u64,
    pub retention_bytes: u64,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { retention_ms: 90 * 24 * 60 * 60 * 1000, retention_bytes: 256 << 20 }
    }
}

/// What is logged, to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

/// See [`Log`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Human,
    /// One JSON object a line
    Json,
}

impl Default for Data {
    fn default() -> Data {
        Data { dir: "./data".into() }
    }
}

impl Default for Durability {
    fn default() -> Durability {
        Durability { mode: Mode::Sync, interval_ms: 100 }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            cache_bytes: 32 << 20,
            journal_file_bytes: 64 << 20,
            hot_bytes: 256 << 20,
            snapshot_bytes: 128 << 20,
            disk_reserve_bytes: 256 << 20,
            memory_high_bytes: None,
            requests_max: 4096,
        }
    }
}

impl Default for Http {
    fn default() -> Http {
        let address = SocketAddr::from(([127, 0, 0, 1], 7400));
        let limits::Limits {
            connections_max,
            requests_max,
            waits_max,
            buffered_bytes_max,
            idle_ms,
            head_ms,
            body_ms,
            write_ms,
            handshake_ms,
            drain_ms,
        } = limits::Limits::default();
        Http {
            address,
            connections_max,
            requests_max,
            waits_max,
            buffered_bytes_max,
            idle_ms,
            head_ms,
            body_ms,
            write_ms,
            handshake_ms,
            drain_ms,
        }
    }
}

impl Http {
    /// The bounds as the door takes them.
    pub fn limits(&self) -> limits::Limits {
        limits::Limits {
            connections_max: self.connections_max,
            requests_max: self.requests_max,
            waits_max: self.waits_max,
            buffered_bytes_max: self.buffered_bytes_max,
            idle_ms: self.idle_ms,
            head_ms: self.head_ms,
            body_ms: self.body_ms,
            write_ms: self.write_ms,
            handshake_ms: self.handshake_ms,
            drain_ms: self.drain_ms,
        }
    }

    fn check(&self) -> Result<(), Problem> {
        range(["http", "connections_max"], self.connections_max as u64, 1, 1_000_000)?;
        range(["http", "requests_max"], self.requests_max as u64, 1, 1_000_000)?;
        range(["http", "waits_max"], self.waits_max as u64, 1, 1_000_000)?;
        range(["http", "buffered_bytes_max"], self.buffered_bytes_max as u64, 64 << 20, 1 << 40)?;
        for (path, value) in [
            (["http", "idle_ms"], self.idle_ms),
            (["http", "head_ms"], self.head_ms),
            (["http", "body_ms"], self.body_ms),
            (["http", "write_ms"], self.write_ms),
            (["http", "handshake_ms"], self.handshake_ms),
        ] {
            range(path, value, 100, 3_600_000)?;
        }
        range(["http", "drain_ms"], self.drain_ms, 0, 3_600_000)
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { filter: "info".to_owned(), format: LogFormat::Human }
    }
}

/// A value that does not do, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Section and key.
    pub path: [&'static str; 2],
    /// What is wrong with it.
    pub reason: String,
}

impl Config {
    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), Problem> {
        range(["durability", "interval_ms"], self.durability.interval_ms, 1, 60_000)?;
        range(["limits", "cache_bytes"], self.limits.cache_bytes, 1 << 20, 1 << 40)?;
        range(["limits", "journal_file_bytes"], self.limits.journal_file_bytes, 1 << 20, 1 << 40)?;
        range(["limits", "hot_bytes"], self.limits.hot_bytes, 1 << 20, 1 << 50)?;
        range(["limits", "snapshot_bytes"], self.limits.snapshot_bytes, 1 << 20, 1 << 50)?;
        range(["limits", "disk_reserve_bytes"], self.limits.disk_reserve_bytes, 0, 1 << 50)?;
        range(["limits", "memory_high_bytes"], self.limits.memory_high_bytes.unwrap_or(0), 0, 1 << 50)?;
        range(["limits", "requests_max"], self.limits.requests_max as u64, 1, 1 << 20)?;
        range(["audit", "retention_ms"], self.audit.retention_ms, 1, 10 * 365 * 24 * 60 * 60 * 1000)?;
        range(["audit", "retention_bytes"], self.audit.retention_bytes, 1 << 10, 1 << 50)?;
        self.record.check()?;
        self.http.check()?;
        self.webhooks.check()?;
        self.upstreams.check()?;
        self.otlp.check()?;
        if self.otlp.endpoint.is_some() && !self.record.enabled {
            let reason = "needs the record, and record.enabled is false: spans are made of what the record tells. Set record.enabled to \
                          true, or leave otlp.endpoint out";
            problem(["otlp", "endpoint"], reason.into())?;
        }
        self.amqp.check(self.tls.certificate.is_some())?;
        if self.data.dir.as_os_str().is_empty() {
            return problem(["data", "dir"], "must name a folder".into());
        }
        match (&self.tls.certificate, &self.tls.key) {
            (Some(_), None) => problem(["tls", "certificate"], "needs tls.key beside it".into())?,
            (None, Some(_)) => problem(["tls", "key"], "needs tls.certificate beside it".into())?,
            (None, None) if self.tls.client_ca.is_some() => {
                problem(["tls", "client_ca"], "needs tls.certificate and tls.key beside it".into())?;
            }
            _ => {}
        }
        if let Err(error) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            return problem(["log", "filter"], format!("'{}' is no log filter: {error}", self.log.filter));
        }
        self.check_tokens()
    }

    fn check_tokens(&self) -> Result<(), Problem> {
        if self.auth.loopback_needs_token && self.auth.tokens.is_empty() {
            return problem(
                ["auth", "loopback_needs_token"],
                "nobody could get in: there is no token".into(),
            );
        }
        match waystation_access::check_tokens(self.auth.tokens.clone()) {
            Ok(()) => Ok(()),
            Err(error) => problem(["auth", "tokens"], error.to_string()),
        }
    }

    /// Refuses what would let anybody in from outside.
    pub fn check_exposure(&self) -> Result<(), String> {
        let address = self.http.address;
        if address.ip().is_loopback() || !self.auth.tokens.is_empty() {
            return Ok(());
        }
        Err(format!("{address} can be reached from other machines and no token is configured"))
    }
}

fn range(path: [&'static str; 2], value: u64, min: u64, max: u64) -> Result<(), Problem> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => problem(path, format!("must lie between {min} and {max}, is {value}")),
    }
}

fn problem(path: [&'static str; 2], reason: String) -> Result<(), Problem> {
    Err(Problem { path, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut Config), expected: Option<[&str; 2]>) {
        let mut config = Config::default();
        change(&mut config);
        assert_eq!(config.check().err().map(|problem| problem.path), expected, "{config:?}");
    }

    #[test]
    fn values_are_checked_at_their_bounds_and_past_them() {
        check(|_| (), None);
        check(|it| it.durability.interval_ms = 0, Some(["durability", "interval_ms"]));
        check(|it| it.durability.interval_ms = 60_000, None);
        check(|it| it.durability.interval_ms = 60_001, Some(["durability", "interval_ms"]));
        check(|it| it.limits.cache_bytes = (1 << 20) - 1, Some(["limits", "cache_bytes"]));
        check(|it| it.limits.cache_bytes = 1 << 20, None);
        check(|it| it.limits.memory_high_bytes = Some(0), None);
        check(|it| it.limits.memory_high_bytes = Some(1 << 50), None);
        check(|it| it.limits.memory_high_bytes = Some((1 << 50) + 1), Some(["limits", "memory_high_bytes"]));
        check(|it| it.http.connections_max = 0, Some(["http", "connections_max"]));
        check(|it| it.data.dir = "".into(), Some(["data", "dir"]));
        check(|it| it.tls.key = Some("key.pem".into()), Some(["tls", "key"]));
        check(|it| it.tls.certificate = Some("c.pem".into()), Some(["tls", "certificate"]));
        check(|it| it.tls.client_ca = Some("c.pem".into()), Some(["tls", "client_ca"]));
        check(|it| it.log.filter = "=,=".into(), Some(["log", "filter"]));
        let spans = |it: &mut Config| it.otlp.endpoint = Some("http://127.0.0.1:4318".into());
        check(spans, None);
        check(|it| it.record.enabled = false, None);
        check(|it| (spans(it), it.record.enabled = false).1, Some(["otlp", "endpoint"]));
    }

    #[test]
    fn tokens_have_a_name_of_their_own_and_a_hash() {
        let hash = waystation_access::new_token("a").expect("a token").hash;
        let token = |name: &str, hash: &str| TokenEntry {
            name: name.into(),
            hash: hash.into(),
            publish: vec![],
            consume: vec![],
            configure: vec![],
        };
        let place = Some(["auth", "tokens"]);
        check(|it| it.auth.tokens = vec![token("a", &hash)], None);
        check(|it| it.auth.tokens = vec![token("a", "secret")], place);
        check(|it| it.auth.tokens = vec![token("", &hash)], place);
        check(|it| it.auth.tokens = vec![token("a", &hash), token("a", &hash)], place);
        check(|it| it.auth.loopback_needs_token = true, Some(["auth", "loopback_needs_token"]));
    }

    #[test]
    fn other_machines_are_let_in_only_with_tokens() {
        let mut config = Config::default();
        assert_eq!(config.check_exposure(), Ok(()));
        config.http.address = "[::1]:1".parse().expect("loopback");
        assert_eq!(config.check_exposure(), Ok(()));
        config.http.address = "0.0.0.0:7400".parse().expect("everywhere");
        let message = config.check_exposure().expect_err("refused");
        assert!(message.contains("0.0.0.0:7400 can be reached from other machines"), "{message}");
    }
}
