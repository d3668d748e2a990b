//! How fast, how many at once, and fair to whom is a queue or subscription handed out?

use serde::{Deserialize, Serialize};

use super::{Error, check_range, error};
use crate::place::TenantBy;

/// Messages of a rate.
pub const RATE_MESSAGES_MAX: u32 = 1_000_000;
/// Milliseconds of its time.
pub const RATE_PER_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Messages that may be under way at once, if they are limited.
pub const CONCURRENCY_MAX: u32 = 1_000_000;
/// Bytes of the name of the header that names the tenant.
pub const HEADER_BYTES_MAX: usize = 255;

/// So many messages in so long a time. An unknown field is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MessageRate {
    /// Messages.
    pub messages: u32,
    /// Milliseconds in which so many may be handed out.
    #[serde(default = "second")]
    pub per_ms: u64,
    /// Messages that may be handed out at once after a quiet time; none: as many as `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

fn second() -> u64 {
    1_000
}

/// What all that is in a virtual host may have together. An unknown field is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct VhostLimits {
    /// How fast messages of its queues and subscriptions are handed out; none: as fast as they are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<MessageRate>,
    /// Messages of its queues and subscriptions that consumers may hold together; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Queues and topics that it may have; none: no limit. What is there already stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queues: Option<u32>,
    /// Connections that it may have, kept to by doors whose connections belong to a virtual host; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

/// Tenants get equal shares of what is handed out. An unknown field is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Fair {
    /// The header that names a message's tenant; messages without it are one tenant together.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub header: String,
    /// Subscriptions, instead of a header: the virtual host of the topic names the tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_host: bool,
    /// Messages of one tenant that consumers may hold together; none: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How fast the messages of one tenant are handed out; none: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<MessageRate>,
}

impl MessageRate {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Error> {
        check_range("rate", Some(self.messages.into()), 1, RATE_MESSAGES_MAX.into())?;
        check_range("rate.per_ms", Some(self.per_ms), 1, RATE_PER_MS_MAX)?;
        check_range("rate.burst", self.burst.map(u64::from), 1, RATE_MESSAGES_MAX.into())
    }
}

impl VhostLimits {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Error> {
        self.rate.as_ref().map_or(Ok(()), MessageRate::check)?;
        check_concurrency("concurrency", self.concurrency)
    }
}

impl Fair {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Error> {
        let bytes = self.header.len();
        if self.virtual_host && bytes > 0 {
            return Err(error("fair.header", "cannot be had together with virtual_host"));
        }
        if !self.virtual_host && !(1..=HEADER_BYTES_MAX).contains(&bytes) {
            return Err(error("fair.header", format!("must have 1 to {HEADER_BYTES_MAX} bytes")));
        }
        check_concurrency("fair.concurrency", self.concurrency)?;
        self.rate.as_ref().map_or(Ok(()), MessageRate::check)
    }
}

impl Fair {
    /// What names the tenant.
    pub fn tenant_by(&self) -> Option<TenantBy> {
        Some(if self.virtual_host {
            TenantBy::VirtualHost
        } else {
            TenantBy::Header(self.header.as_str().into())
        })
    }
}

/// Checks how many messages may be under way at once.
pub fn check_concurrency(field: &'static str, concurrency: Option<u32>) -> Result<(), Error> {
    check_range(field, concurrency.map(u64::from), 1, CONCURRENCY_MAX.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_checked_at_its_bound_and_past_it() {
        let check = |messages, per_ms, burst, expected: Option<&str>| {
            let rate = MessageRate { messages, per_ms, burst };
            assert_eq!(rate.check().err().map(|error| error.field), expected, "{rate:?}");
        };
        check(1, 1, None, None);
        check(0, 1, None, Some("rate"));
        check(RATE_MESSAGES_MAX, RATE_PER_MS_MAX, Some(RATE_MESSAGES_MAX), None);
        check(RATE_MESSAGES_MAX + 1, 1, None, Some("rate"));
        check(1, RATE_PER_MS_MAX + 1, None, Some("rate.per_ms"));
        check(1, 1, Some(0), Some("rate.burst"));
        check(1, 1, Some(RATE_MESSAGES_MAX + 1), Some("rate.burst"));
        let check = |header: &str, concurrency, expected: Option<&str>| {
            let fair = Fair { header: header.to_owned(), concurrency, ..Fair::default() };
            assert_eq!(fair.check().err().map(|error| error.field), expected, "{fair:?}");
        };
        check("tenant", Some(CONCURRENCY_MAX), None);
        check("tenant", Some(CONCURRENCY_MAX + 1), Some("fair.concurrency"));
        check("tenant", Some(0), Some("fair.concurrency"));
        check("", None, Some("fair.header"));
        check(&"x".repeat(HEADER_BYTES_MAX), None, None);
        check(&"x".repeat(HEADER_BYTES_MAX + 1), None, Some("fair.header"));
    }
}
