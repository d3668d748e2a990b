//! What can be said to commands about the server, its data, its configuration and its topology?

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};

use crate::{
    config::{Config, LogFormat, Mode, Place},
    units,
};

/// Run the server.
#[derive(Debug, Args)]
pub struct Serve {
    /// The folder of the data [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "WAYSTATION_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address of the HTTP door; port 0 takes a free one [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address of the AMQP 0-9-1 door, or off; port 0 takes a free one [default: 127.0.0.1:5672]
    #[arg(long, value_name = "ADDR")]
    pub amqp: Option<Place>,
    /// Address of the AMQP 0-9-1 door inside TLS, or off [default: off]
    #[arg(long, value_name = "ADDR")]
    pub amqps: Option<Place>,
    /// Address of RabbitMQ's management interface, or off [default: 127.0.0.1:15672]
    #[arg(long, value_name = "ADDR")]
    pub amqp_management: Option<Place>,
    /// A network, host or domain that webhooks may reach besides the outside (may be given several times)
    #[arg(long, value_name = "RULE")]
    pub webhook_allow: Vec<String>,
    /// A network, host or domain that upstreams may be at besides the outside (may be given several times)
    #[arg(long, value_name = "RULE")]
    pub upstream_allow: Vec<String>,
    /// When something counts as durable [default: sync]
    #[arg(long, value_name = "MODE")]
    pub durability: Option<Mode>,
    /// What a power cut may take with --durability interval [default: 100ms]
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub interval: Option<u64>,
    /// What is logged, such as warn or debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged [default: human]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl Serve {
    /// Lets the flags go before file and environment.
    pub fn overlay(&self, config: &mut Config) {
        fn set<T: Clone>(place: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *place = value.clone();
            }
        }
        set(&mut config.data.dir, &self.data);
        set(&mut config.http.address, &self.http);
        set(&mut config.amqp.address, &self.amqp);
        set(&mut config.amqp.tls_address, &self.amqps);
        set(&mut config.amqp.management, &self.amqp_management);
        config.webhooks.allow.extend(self.webhook_allow.iter().cloned());
        config.upstreams.allow.extend(self.upstream_allow.iter().cloned());
        set(&mut config.durability.mode, &self.durability);
        set(&mut config.durability.interval_ms, &self.interval);
        set(&mut config.log.filter, &self.log);
        set(&mut config.log.format, &self.log_format);
    }
}

/// Make the topology what a file says.
#[derive(Debug, Args)]
pub struct Apply {
    /// The topology file, TOML or JSON; `-` is standard input
    pub file: PathBuf,
    /// Show the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Show the plan, do nothing, and end with exit code 10 if there would be something to do
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,
    /// Delete what is not in the file, with the messages it holds
    #[arg(long)]
    pub prune: bool,
}

/// Work with the topology.
#[derive(Debug, Subcommand)]
pub enum TopologyCommand {
    /// Write the server's topology as a file that `apply` takes
    Export {
        /// Where to; standard output if not given
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// TOML or JSON
        #[arg(long, default_value = "toml")]
        format: TopologyFormat,
    },
    /// Check a topology file without a server
    Check {
        /// The file; `-` is standard input
        file: PathBuf,
    },
}

/// How a topology is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TopologyFormat {
    /// TOML
    Toml,
    /// JSON
    Json,
}

/// Which data directory.
#[derive(Clone, Debug, Args)]
pub struct DataDir {
    /// The data directory; no server may be using it
    #[arg(default_value = "./data", value_name = "DIR")]
    pub data: PathBuf,
}

/// Look into the journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Read and check every stored byte; exit code 6 if something is damaged
    Verify {
        #[command(flatten)]
        dir: DataDir,
    },
    /// List the entries of the journal
    Dump {
        #[command(flatten)]
        dir: DataDir,
        /// From this position on
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Most entries to list
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Show the bytes of each entry
        #[arg(long)]
        bytes: bool,
    },
    /// Cut damage out of the journal so that the server can start; shows what would be lost unless --execute
    Salvage {
        #[command(flatten)]
        dir: DataDir,
        /// Do it
        #[arg(long)]
        execute: bool,
        /// Only show; so it is without --execute
        #[arg(long, conflicts_with = "execute")]
        dry_run: bool,
    },
}

/// Make tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a new token: shown once, with the entry for the configuration
    New {
        /// What the token is called in configuration and logs
        name: String,
        /// Names that it may publish to
        #[arg(long, value_name = "PATTERN")]
        publish: Vec<String>,
        /// Names that it may consume from
        #[arg(long, value_name = "PATTERN")]
        consume: Vec<String>,
        /// Names that it may configure
        #[arg(long, value_name = "PATTERN")]
        configure: Vec<String>,
    },
    /// Hash a token that is read from standard input
    Hash,
}

/// Check or print the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file, and the environment over it
    Check {
        /// The file
        file: PathBuf,
    },
    /// Write the configuration with a comment for each key; the defaults unless a file is given
    Print {
        /// A configuration file to start from
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}
