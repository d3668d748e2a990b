//! What can be said of users, permissions, virtual hosts, policies and RabbitMQ's definitions?

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;
use waystation_http::api::APPLY_TO;

use super::{
    entities::{Setting, number, object, setting, text},
    quality,
};

/// The virtual host whose names stand alone.
const DEFAULT_VHOST: &str = "/";

/// Where a password comes from. Without any of these it is asked for at the terminal, or read off the first line of standard
/// input: on the command line every user of the machine could see it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Password (asked for unless said)")]
pub struct Secret {
    /// A file whose first line it is; - is standard input
    #[arg(long, value_name = "FILE", group = "secret")]
    pub password_file: Option<PathBuf>,
    /// Instead of it: its hash, as RabbitMQ's definitions have it
    #[arg(long, value_name = "HASH", group = "secret")]
    pub password_hash: Option<String>,
    /// How that was made: rabbit_password_hashing_sha256 (unless said), rabbit_password_hashing_sha512, argon2id
    #[arg(long, value_name = "NAME", requires = "password_hash")]
    pub hashing_algorithm: Option<String>,
    /// None: only a certificate lets the user in
    #[arg(long, group = "secret")]
    pub no_password: bool,
}

/// How much a user may have open at a time.
#[derive(Clone, Debug, Default, Args)]
pub struct UserLimitFields {
    /// How many AMQP connections it may have
    #[arg(long, value_name = "N|none", value_parser = setting(number::<u32>))]
    pub max_connections: Option<Setting<u32>>,
    /// How many channels on all of them
    #[arg(long, value_name = "N|none", value_parser = setting(number::<u32>))]
    pub max_channels: Option<Setting<u32>>,
}

/// Commands about users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user; fine if it is there just so
    Add {
        /// Its name
        name: String,
        /// Its tags, with commas: administrator, monitoring, policymaker, management, impersonator
        #[arg(long, value_delimiter = ',', value_name = "TAG")]
        tags: Vec<String>,
        #[command(flatten)]
        limits: UserLimitFields,
        #[command(flatten)]
        secret: Secret,
    },
    /// List users
    List,
    /// Show one with what it may do
    Show {
        /// Its name
        name: String,
    },
    /// Change its tags and limits: what is given, and leave the rest as it is
    #[command(group = ArgGroup::new("what").args(["tags", "max_connections", "max_channels"]).required(true).multiple(true))]
    Change {
        /// Its name
        name: String,
        /// All its tags from now on, with commas, or none
        #[arg(long, value_name = "TAGS|none", value_parser = setting(text))]
        tags: Option<Setting<String>>,
        #[command(flatten)]
        limits: UserLimitFields,
    },
    /// Change its password
    Password {
        /// Its name
        name: String,
        #[command(flatten)]
        secret: Secret,
    },
    /// Delete one with its permissions; its connections end
    Delete {
        /// Its name
        name: String,
        /// Succeed if it is not there
        #[arg(long)]
        if_exists: bool,
    },
}

/// Commands about permissions.
#[derive(Debug, Subcommand)]
pub enum PermissionCommand {
    /// Say what a user may do in a virtual host: regular expressions over names; what is not given allows nothing
    Grant {
        /// The user
        user: String,
        /// The virtual host
        #[arg(long, default_value = DEFAULT_VHOST)]
        vhost: String,
        /// What it may declare, change and delete
        #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
        configure: String,
        /// What it may publish and bind to
        #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
        write: String,
        /// What it may consume and bind from
        #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
        read: String,
        /// Everything
        #[arg(long, conflicts_with_all = ["configure", "write", "read"])]
        all: bool,
    },
    /// Narrow the routing keys of a topic exchange for a user
    GrantTopic {
        /// The user
        user: String,
        /// The exchange
        exchange: String,
        /// The virtual host
        #[arg(long, default_value = DEFAULT_VHOST)]
        vhost: String,
        /// Routing keys that it may publish with
        #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
        write: String,
        /// Routing keys that it may bind with
        #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
        read: String,
    },
    /// List permissions
    List {
        /// Only this user's
        #[arg(long)]
        user: Option<String>,
        /// Only those in this virtual host
        #[arg(long)]
        vhost: Option<String>,
    },
    /// List topic permissions
    ListTopics {
        /// Only this user's
        #[arg(long)]
        user: Option<String>,
        /// Only those in this virtual host
        #[arg(long)]
        vhost: Option<String>,
    },
    /// Take a user's permissions in a virtual host away
    Revoke {
        /// The user
        user: String,
        /// The virtual host
        #[arg(long, default_value = DEFAULT_VHOST)]
        vhost: String,
    },
    /// Take a user's topic permissions on an exchange away
    RevokeTopic {
        /// The user
        user: String,
        /// The exchange
        exchange: String,
        /// The virtual host
        #[arg(long, default_value = DEFAULT_VHOST)]
        vhost: String,
    },
}

/// What a virtual host is.
#[derive(Clone, Debug, Default, Args)]
pub struct VhostFields {
    /// It in words
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// What it is to be found by, with commas
    #[arg(long, value_name = "TAGS|none", value_parser = setting(text))]
    pub tags: Option<Setting<String>>,
    /// What AMQP's clients get that declare a queue without a type
    #[arg(long, value_name = "TYPE|none", value_parser = setting(text))]
    pub default_queue_type: Option<Setting<String>>,
    /// How fast all its queues and subscriptions together are handed out, like 100/s or 100/s,burst=200
    #[arg(long, value_name = "N/TIME|none", value_parser = setting(quality::rate))]
    pub rate: Option<Setting<Value>>,
    /// How many of their messages consumers may hold together
    #[arg(long, value_name = "N|none", value_parser = setting(quality::number))]
    pub concurrency: Option<Setting<Value>>,
    /// How many queues and topics it may have
    #[arg(long, value_name = "N|none", value_parser = setting(quality::number))]
    pub max_queues: Option<Setting<Value>>,
    /// How many AMQP connections it may have
    #[arg(long, value_name = "N|none", value_parser = setting(quality::number))]
    pub max_connections: Option<Setting<Value>>,
}

/// Commands about virtual hosts.
#[derive(Debug, Subcommand)]
pub enum VhostCommand {
    /// Make one with its standing routes; fine if it is there just so
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: VhostFields,
    },
    /// List virtual hosts
    List,
    /// Change what is given, and leave the rest as it is
    Change {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: VhostFields,
    },
    /// Delete one with all that is in it; its connections end
    Delete {
        /// Its name
        name: String,
        /// Succeed if it is not there
        #[arg(long)]
        if_exists: bool,
    },
}

/// Which policies.
#[derive(Clone, Debug, Args)]
pub struct PolicyPlace {
    /// The virtual host
    #[arg(long, default_value = DEFAULT_VHOST)]
    pub vhost: String,
    /// An operator's policy: above those of policymakers, and only narrowing
    #[arg(long)]
    pub operator: bool,
}

/// Commands about policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Set one, and apply it at once to all that is there and will be
    Set {
        /// Its name
        name: String,
        /// A regular expression over the names of queues, topics and routes
        #[arg(long, value_name = "REGEX")]
        pattern: String,
        /// What becomes of them, in RabbitMQ's words, as a JSON object: {"max-length": 5}
        #[arg(long, value_name = "JSON", value_parser = object)]
        definition: Value,
        /// What they are
        #[arg(long, value_name = "WHAT", default_value = APPLY_TO[0], value_parser = APPLY_TO)]
        apply_to: String,
        /// Of those that match, the one of the highest priority counts
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        priority: i64,
        #[command(flatten)]
        place: PolicyPlace,
    },
    /// List policies
    List {
        /// Only those of this virtual host
        #[arg(long)]
        vhost: Option<String>,
        /// Operators' policies
        #[arg(long)]
        operator: bool,
    },
    /// Take one away, and what it did
    Delete {
        /// Its name
        name: String,
        /// Succeed if it is not there
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        place: PolicyPlace,
    },
}

/// Commands about RabbitMQ's definitions.
#[derive(Debug, Subcommand)]
pub enum AmqpCommand {
    /// Make what a RabbitMQ's definitions describe; what is there just so is left alone
    Import {
        /// definitions.json; - is standard input
        file: PathBuf,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// The definitions are those of one virtual host and name none: this one
        #[arg(long)]
        vhost: Option<String>,
    },
    /// Write everything that is defined as a RabbitMQ would, with the hashes of passwords
    Export {
        /// The file; else standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Only this virtual host, without users
        #[arg(long)]
        vhost: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(arguments: &str) -> Result<Command, String> {
        let all = std::iter::once("waystation").chain(arguments.split_whitespace());
        Cli::try_parse_from(all).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn a_password_has_one_origin_and_is_never_an_argument() {
        for good in ["user add a", "user add a --password-file f", "user add a --no-password --tags a,b"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "user add a secret",
            "user add a --password secret",
            "user add a --no-password --password-file f",
            "user password a --hashing-algorithm argon2id",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_grant_is_everything_or_what_is_given() {
        assert!(parse("permission grant a --all --vhost v").is_ok());
        assert!(parse("permission grant a --all --read x").is_err());
        let Ok(Command::Permission(PermissionCommand::Grant { configure, read, vhost, .. })) =
            parse("permission grant a --read .*")
        else {
            panic!("a grant")
        };
        assert_eq!((configure.as_str(), read.as_str(), vhost.as_str()), ("", ".*", "/"));
    }

    #[test]
    fn a_policy_says_what_it_applies_to_in_known_words() {
        let policy =
            |more: &str| parse(&format!("policy set p --pattern ^q --definition {{\"a\":1}} {more}"));
        assert!(policy("--apply-to streams --priority -1 --operator").is_ok());
        assert!(policy("--apply-to everything").is_err());
        assert!(parse("policy set p --pattern ^q --definition 5").is_err());
    }
}
