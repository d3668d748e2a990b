//! What is a user? A name, how its password is proved, and tags: what it may do beside using queues.

use serde::{Deserialize, Serialize};

use crate::password::Algorithm;

/// The user that is there at first, on loopback only.
pub const GUEST: &str = "guest";
/// Bytes of a user's name: RabbitMQ's bound on names.
pub const USER_NAME_BYTES_MAX: usize = 255;

/// A user as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What proves its password; empty: none does, so that only a certificate lets it in.
    #[serde(default)]
    pub password_hash: String,
    /// How to prove it.
    #[serde(default)]
    pub hashing_algorithm: Algorithm,
    /// What it may beside.
    #[serde(default)]
    pub tags: Tags,
    /// How much it may have open at a time.
    #[serde(default)]
    pub limits: UserLimits,
}

/// How much a user may have open at a time, in RabbitMQ's words; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct UserLimits {
    /// Connections, over the doors whose connections last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Channels on all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_channels: Option<u32>,
}

/// What of a user's limits shall change; what is not said stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsChange {
    /// Connections; none within: no limit.
    pub max_connections: Option<Option<u32>>,
    /// Channels; none within: no limit.
    pub max_channels: Option<Option<u32>>,
}

impl LimitsChange {
    /// What becomes of limits.
    pub fn of(self, limits: UserLimits) -> UserLimits {
        UserLimits {
            max_connections: self.max_connections.unwrap_or(limits.max_connections),
            max_channels: self.max_channels.unwrap_or(limits.max_channels),
        }
    }
}

impl From<UserLimits> for LimitsChange {
    /// Whatever they are, they become these.
    fn from(all: UserLimits) -> LimitsChange {
        LimitsChange { max_connections: Some(all.max_connections), max_channels: Some(all.max_channels) }
    }
}

/// A user's tags, RabbitMQ's words; further ones may stand there and mean nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags(pub Vec<String>);

impl Tags {
    /// From a text with commas.
    pub fn parse(text: &str) -> Tags {
        Tags(text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect())
    }

    fn has(&self, wanted: &str) -> bool {
        self.0.iter().any(|tag| tag == wanted)
    }

    /// Whether it may do everything that management offers.
    pub fn is_administrator(&self) -> bool {
        self.has("administrator")
    }

    /// Whether it may see everything.
    pub fn may_monitor(&self) -> bool {
        self.is_administrator() || self.has("monitoring")
    }

    /// Whether it may set policies and parameters where it has permissions.
    pub fn may_make_policy(&self) -> bool {
        self.is_administrator() || self.has("policymaker")
    }

    /// Whether management lets it in at all.
    pub fn may_manage(&self) -> bool {
        self.may_monitor() || self.may_make_policy() || self.has("management")
    }

    /// Whether it may publish in another user's name.
    pub fn may_impersonate(&self) -> bool {
        self.has("impersonator")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_holds_what_lies_below_it() {
        let check = |text: &str| {
            let tags = Tags::parse(text);
            (tags.is_administrator(), tags.may_monitor(), tags.may_make_policy(), tags.may_manage())
        };
        assert_eq!(check("administrator"), (true, true, true, true));
        assert_eq!(check("monitoring"), (false, true, false, true));
        assert_eq!(check("policymaker, x"), (false, false, true, true));
        assert_eq!(check("management"), (false, false, false, true));
        assert_eq!(check(" ,"), (false, false, false, false));
        assert!(Tags::parse("impersonator").may_impersonate());
    }
}
