//! What can be said of dead letters and redrives?

use clap::{ArgGroup, Args, Subcommand};

use super::{calls::Sure, messages::header};
use crate::units;

/// What letters fail in.
const ORIGIN_KINDS: [&str; 2] = ["queue", "subscription"];

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List dead letters in groups of one cause and one kind of error, the largest first
    List(DeadList),
    /// Show the messages of a group
    Show(DeadShow),
}

/// Which groups to list.
#[derive(Debug, Args)]
pub struct DeadList {
    /// In this queue only [default: all where dead letters go]
    #[arg(long)]
    pub queue: Option<String>,
    /// Of this cause only: rejected, expired, max_attempts, max_length…
    #[arg(long)]
    pub cause: Option<String>,
    /// That failed in this queue or subscription only
    #[arg(long)]
    pub origin: Option<String>,
    /// That failed in a queue, or in a subscription, only
    #[arg(long, value_parser = ORIGIN_KINDS)]
    pub origin_kind: Option<String>,
    /// Most groups
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

/// Which messages to show.
#[derive(Debug, Args)]
pub struct DeadShow {
    /// The group
    pub group: String,
    /// In this queue only
    #[arg(long)]
    pub queue: Option<String>,
    /// That failed in this queue or subscription only
    #[arg(long)]
    pub origin: Option<String>,
    /// That failed in a queue, or in a subscription, only
    #[arg(long, value_parser = ORIGIN_KINDS)]
    pub origin_kind: Option<String>,
    /// Most messages
    #[arg(long, default_value_t = 10)]
    pub limit: usize,
}

/// What can be done with redrives.
#[derive(Debug, Subcommand)]
pub enum RedriveCommand {
    /// Bring dead letters back to where they failed, or elsewhere, after they were shown
    Start(Box<RedriveStart>),
    /// List redrives, newest first
    List,
    /// Show a redrive
    Show {
        /// Its id
        id: String,
    },
    /// Follow a redrive until it rests or ends
    Watch {
        /// Its id
        id: String,
    },
    /// Let a redrive rest; it moves nothing more until it is resumed
    Pause {
        /// Its id
        id: String,
    },
    /// Let a redrive go on that rests
    Resume {
        /// Its id
        id: String,
    },
    /// End a redrive; what it has moved stays where it is
    Abort {
        /// Its id
        id: String,
    },
    /// Bring back what a redrive has moved and nobody was given yet
    Undo {
        /// Its id
        id: String,
        /// Do not wait until that is done
        #[arg(long, short = 'd')]
        detach: bool,
    },
}

/// A redrive.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true)
    .args(["all", "group", "cause", "origin", "origin_kind", "error", "after", "before", "filter", "id"]))]
pub struct RedriveStart {
    /// A queue to take dead letters from; may be given several times [default: all where dead letters go]
    #[arg(long, value_name = "QUEUE")]
    pub from: Vec<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
    /// Of this group: see `waystation dead list`
    #[arg(long)]
    pub group: Option<String>,
    /// Of this cause: rejected, expired, max_attempts, max_length…
    #[arg(long)]
    pub cause: Option<String>,
    /// That failed in this queue or subscription
    #[arg(long)]
    pub origin: Option<String>,
    /// That failed in a queue, or in a subscription
    #[arg(long, value_parser = ORIGIN_KINDS)]
    pub origin_kind: Option<String>,
    /// Whose error has this text in it
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// That were given up at or after this time
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub after: Option<waystation_base::Millis>,
    /// That were given up before this time
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub before: Option<waystation_base::Millis>,
    /// For which this holds: a filter as in a subscription, in JSON
    #[arg(long, value_name = "JSON")]
    pub filter: Option<String>,
    /// With this id: Waystation's `uuid`, or the sender's; may be given several times
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
    /// Bring them to this queue or topic [default: each to where it failed]
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// Set a header on the way; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    pub set: Vec<(String, String)>,
    /// Take a header away; may be given several times
    #[arg(long, value_name = "NAME")]
    pub remove: Vec<String>,
    /// A jq program that makes the new body of the old one; $cause, $error and $origin are what the dead letter says
    #[arg(long, value_name = "PROGRAM")]
    pub jq: Option<String>,
    /// At most so many messages a second
    #[arg(long, value_name = "MESSAGES")]
    pub rate: Option<u32>,
    /// At most so many messages
    #[arg(long, value_name = "MESSAGES")]
    pub max: Option<u64>,
    /// Do not wait until it has ended: write its id
    #[arg(long, short = 'd')]
    pub detach: bool,
    #[command(flatten)]
    pub sure: Sure,
}
