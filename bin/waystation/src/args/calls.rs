//! What can be said of operations and calls?

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Map, Value};

use super::{
    entities::{List, Setting, put, put_plain, setting, text},
    messages::header,
    upstream::UpstreamFields,
};
use crate::units;

/// Call an operation.
#[derive(Debug, Args)]
pub struct Call {
    /// The operation
    pub operation: String,
    /// The request's body; without it and without a file, standard input is the body
    #[arg(conflicts_with = "file")]
    pub body: Option<String>,
    /// A file whose content is the body; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Do not wait for the result: write the call's id
    #[arg(long, short = 'd')]
    pub detach: bool,
    /// Wait no longer for the result; the call goes on
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms, conflicts_with = "detach")]
    pub wait: Option<u64>,
    /// Where the outcome is sent; the operation must allow it
    #[arg(long, value_name = "URL")]
    pub callback: Option<String>,
    /// Makes repetitions of this command one call
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Expires after
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub timeout: Option<u64>,
    /// A header for the worker; may be given several times
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// Media type of the body [default: application/json if it is JSON]
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
}

/// What can be done with calls.
#[derive(Debug, Subcommand)]
pub enum CallsCommand {
    /// List calls, newest first
    List(ListCalls),
    /// Show a call
    Show {
        /// Its id
        id: String,
        /// Wait for its outcome up to
        #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
        wait: Option<u64>,
    },
    /// Write a finished call's result to standard output
    Result {
        /// Its id
        id: String,
    },
    /// Cancel a call, and hear whether that still could be done
    Cancel {
        /// Its id
        id: String,
    },
    /// Try calls anew that failed, expired or were cancelled: each by a new call with the same request
    Retry(RetryCalls),
    /// Send callbacks again that were given up
    Redrive(RedriveCalls),
}

/// Which callbacks to send again.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub struct RedriveCalls {
    /// The ids of their calls
    #[arg(value_name = "ID", num_args = 1..)]
    pub ids: Vec<String>,
    /// All that were given up
    #[arg(long)]
    pub all: bool,
    /// With --all: of this operation only
    #[arg(long, requires = "all")]
    pub operation: Option<String>,
    #[command(flatten)]
    pub sure: Sure,
}

/// Which calls to try anew.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub struct RetryCalls {
    /// Their ids
    #[arg(value_name = "ID", num_args = 1..)]
    pub ids: Vec<String>,
    /// All that the filters leave and that were not tried anew before
    #[arg(long)]
    pub all: bool,
    /// With --all: of this operation only
    #[arg(long, requires = "all")]
    pub operation: Option<String>,
    /// With --all: in this state only
    #[arg(long, requires = "all", default_value = "failed")]
    pub state: Bad,
    #[command(flatten)]
    pub sure: Sure,
}

/// How many things at once are confirmed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sure {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Only show what would be done
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

/// The states of a call that ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bad {
    Failed,
    Cancelled,
    Expired,
}

/// Which calls to list.
#[derive(Debug, Args)]
pub struct ListCalls {
    /// Of this operation only
    #[arg(long)]
    pub operation: Option<String>,
    /// In this state only
    #[arg(long)]
    pub state: Option<StateName>,
    /// With this correlation id of its caller only
    #[arg(long, value_name = "ID")]
    pub correlation_id: Option<String>,
    /// Most calls
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    pub count: usize,
}

/// The states of a call.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StateName {
    Queued,
    Working,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

/// What can be done with operations.
#[derive(Debug, Subcommand)]
pub enum OperationCommand {
    /// Declare an operation, and its queue if that is not there
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: Box<OperationFields>,
        /// If it is there and differs: declare it anew as given, instead of refusing
        #[arg(long)]
        change: bool,
    },
    /// List operations
    List(List),
    /// Show an operation
    Show {
        /// Its name
        name: String,
    },
    /// Let an operation's upstream rest; its calls wait in their queue, for other workers too
    Pause {
        /// Its name
        name: String,
    },
    /// Let a paused upstream serve again, or try a suspended one at once
    Resume {
        /// Its name
        name: String,
    },
    /// Remove an operation; its calls go on, and its queue stays
    Delete {
        /// Its name
        name: String,
    },
}

/// The fields of an operation.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Operation")]
pub struct OperationFields {
    /// The queue that its requests go to [default: the one of its own name]
    #[arg(long, value_name = "QUEUE|none", value_parser = setting(text))]
    pub queue: Option<Setting<String>>,
    /// A queue whose messages become calls, made if it is not there
    #[arg(long, value_name = "QUEUE|none", value_parser = setting(text))]
    pub intake: Option<Setting<String>>,
    /// A queue that outcomes of such calls may go to besides exclusive ones, like shop.*; may be given several times
    #[arg(long, value_name = "QUEUE")]
    pub reply_allow: Vec<String>,
    /// A call without an outcome expires after
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub timeout: Option<u64>,
    /// A finished call is kept for
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub retention: Option<u64>,
    /// Most bytes of a request's body
    #[arg(long, value_name = "SIZE", value_parser = units::size_bytes)]
    pub body_bytes_max: Option<u64>,
    /// A request that says nothing about it waits for its result up to
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub default_wait: Option<u64>,
    /// Attempts after which a failure that asks to be tried again fails the call
    #[arg(long, value_name = "N")]
    pub max_attempts: Option<u32>,
    /// Whether requests are kept, so that calls that ended badly can be tried anew
    #[arg(long, value_name = "BOOL")]
    pub keep_requests: Option<bool>,
    /// What a finished call answers: `redirect` to its result, or the result `inline`
    #[arg(long, value_name = "HOW", value_parser = ["redirect", "inline"])]
    pub finished: Option<String>,
    /// Where outcomes are sent of calls that name no address of their own
    #[arg(long, value_name = "URL|none", value_parser = setting(text))]
    pub callback: Option<Setting<String>>,
    /// Addresses that outcomes may be sent to, like https://*.example.com/hooks/*; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub callback_allow: Vec<String>,
    /// What signs its callbacks, instead of the server's secrets; several while one takes another's place
    #[arg(
        long = "callback-secret",
        value_name = "SECRET",
        env = "WAYSTATION_CALLBACK_SECRETS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub callback_secrets: Vec<String>,
    /// A request header that workers see; may be given several times
    #[arg(long = "hand-on", value_name = "HEADER")]
    pub headers: Vec<String>,
    #[command(flatten)]
    pub upstream: UpstreamFields,
}

impl OperationFields {
    /// What was said, as the declaration's fields.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put(&mut fields, "queue", &self.queue);
        put(&mut fields, "intake", &self.intake);
        put_plain(&mut fields, "timeout_ms", &self.timeout);
        put_plain(&mut fields, "retention_ms", &self.retention);
        put_plain(&mut fields, "body_bytes_max", &self.body_bytes_max);
        put_plain(&mut fields, "default_wait_ms", &self.default_wait);
        put_plain(&mut fields, "max_attempts", &self.max_attempts);
        put_plain(&mut fields, "keep_requests", &self.keep_requests);
        put_plain(&mut fields, "finished", &self.finished);
        put(&mut fields, "callback", &self.callback);
        for (name, values) in [
            ("reply_allow", &self.reply_allow),
            ("callback_allow", &self.callback_allow),
            ("callback_secrets", &self.callback_secrets),
            ("headers", &self.headers),
        ] {
            if !values.is_empty() {
                fields.insert(name.to_owned(), values.clone().into());
            }
        }
        if let Some(upstream) = self.upstream.field() {
            fields.insert("upstream".to_owned(), upstream);
        }
        fields
    }
}
