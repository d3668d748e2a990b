//! What can be said on the command line?

pub mod access;
pub mod alerts;
pub mod calls;
pub mod entities;
pub mod messages;
pub mod pushes;
pub mod quality;
pub mod redrive;
pub mod retry;
pub mod routes;
pub mod server;
pub mod upstream;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::Styles};

/// The place where messages between services stop over: one binary, one record
#[derive(Debug, Parser)]
#[command(name = "waystation", version, styles = Styles::plain(), max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 not found, 4 refused, 5 cannot connect, \
6 damaged data, 7 data directory in use, 8 storage failed, 9 denied, 10 there is something to do (apply --check)."
)]
pub struct Cli {
    /// Write JSON for machines: results to standard output, errors to standard error
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub server: ServerAddress,
    #[command(subcommand)]
    pub command: Command,
}

/// How the client commands reach the server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server to talk to")]
pub struct ServerAddress {
    /// Its address
    #[arg(
        long,
        global = true,
        env = "WAYSTATION_SERVER",
        default_value = "http://127.0.0.1:7400",
        value_name = "URL"
    )]
    pub server: String,
    /// The token to show it
    #[arg(long, global = true, env = "WAYSTATION_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A PEM file with the authority that signed its certificate
    #[arg(long, global = true, env = "WAYSTATION_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A PEM file with the certificate to show it, and its key
    #[arg(long, global = true, env = "WAYSTATION_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(server::Serve),
    /// Create, list, show, change, delete and purge queues
    #[command(subcommand)]
    Queue(entities::QueueCommand),
    /// Create, list, show, change and delete topics
    #[command(subcommand)]
    Topic(entities::TopicCommand),
    /// Create, list, show, change, delete and move subscriptions
    #[command(subcommand)]
    Subscription(entities::SubscriptionCommand),
    /// Make, list, show, bind, unbind and delete routes
    #[command(subcommand)]
    Route(routes::RouteCommand),
    /// Add, list, show, change and delete users
    #[command(subcommand)]
    User(access::UserCommand),
    /// Grant, list and revoke permissions of users
    #[command(subcommand)]
    Permission(access::PermissionCommand),
    /// Create, list, change and delete virtual hosts
    #[command(subcommand)]
    Vhost(access::VhostCommand),
    /// Set, list and delete policies
    #[command(subcommand)]
    Policy(access::PolicyCommand),
    /// Import and export the definitions of a RabbitMQ
    #[command(subcommand)]
    Amqp(access::AmqpCommand),
    /// Deliver queues and subscriptions to endpoints by signed webhooks
    #[command(subcommand)]
    Push(pushes::PushCommand),
    /// Try a receiver of webhooks, make a secret
    #[command(subcommand)]
    Webhook(pushes::WebhookCommand),
    /// Call an operation and wait for its result
    Call(calls::Call),
    /// List, show, cancel and retry calls, and fetch their results
    #[command(subcommand)]
    Calls(calls::CallsCommand),
    /// Declare, list, show and remove operations, which can be called
    #[command(subcommand)]
    Operation(calls::OperationCommand),
    /// List and show messages that failed for good, in groups
    #[command(subcommand)]
    Dead(redrive::DeadCommand),
    /// Bring dead letters back to where they failed, or elsewhere; undo that
    #[command(subcommand)]
    Redrive(redrive::RedriveCommand),
    /// List what is wrong now, and say from when on that is told
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// Publish messages to a queue or topic, or by a route
    Publish(messages::Publish),
    /// Take messages from a queue or subscription; each is acknowledged once it has been written
    Consume(messages::Consume),
    /// Look at messages without taking them
    Peek(messages::Peek),
    /// Tell what became of a message, and why: where it came from, what it led to, where it is, where it stopped
    Trace(messages::Trace),
    /// Show how the server is and what it holds
    Status(messages::Status),
    /// Make the server's topology what a file says, after showing the plan
    Apply(server::Apply),
    /// Work with the topology as a whole
    #[command(subcommand)]
    Topology(server::TopologyCommand),
    /// Look into the journal of a data directory that no server uses
    #[command(subcommand)]
    Journal(server::JournalCommand),
    /// Make tokens and their hashes
    #[command(subcommand)]
    Token(server::TokenCommand),
    /// Check or print the configuration
    #[command(subcommand)]
    Config(server::ConfigCommand),
    /// Write the completions of a shell to standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Show the version
    Version,
    /// Be a child of the server that evaluates jq: not for people
    #[command(hide = true)]
    JqWorker {
        /// How much memory it may have beyond what it starts with
        memory_bytes: usize,
    },
}
