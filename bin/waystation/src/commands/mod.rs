//! Which code carries out which command?

mod access;
mod alerts;
mod amqp;
mod apply;
mod callbacks;
mod calls;
mod configuration;
mod consume;
mod dead;
mod deliveries;
mod doors;
mod entities;
mod feed;
mod journal;
mod operations;
mod peek;
mod publish;
mod pushes;
mod redrive;
mod retry;
mod route_steps;
mod routes;
mod secret;
mod serve;
mod show;
mod status;
mod sure;
mod token;
mod trace;
mod webhook;

use clap::CommandFactory;
use serde_json::json;

use crate::{
    args::{Cli, Command, server::TopologyCommand},
    client::{self, Client},
    exit::{Exit, Failure},
    output::Output,
};

/// Carries out what was said.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    let output = Output { json: cli.json };
    let client = || Client::new(&cli.server);
    match cli.command {
        Command::Serve(args) => serve::run(&args, output),
        Command::Queue(command) => client::run(entities::queue(client()?, command, output)),
        Command::Topic(command) => client::run(entities::topic(client()?, command, output)),
        Command::Subscription(command) => client::run(entities::subscription(client()?, command, output)),
        Command::Route(command) => client::run(routes::route(client()?, command, output)),
        Command::User(command) => client::run(access::user(client()?, command, output)),
        Command::Permission(command) => client::run(access::permission(client()?, command, output)),
        Command::Vhost(command) => client::run(access::vhost(client()?, command, output)),
        Command::Policy(command) => client::run(access::policy(client()?, command, output)),
        Command::Amqp(command) => client::run(amqp::run(client()?, command, output)),
        Command::Push(command) => client::run(pushes::run(client()?, command, output)),
        Command::Webhook(command) => webhook::run(command, output),
        Command::Call(args) => client::run(calls::call(client()?, args, output)),
        Command::Calls(command) => client::run(calls::calls(client()?, command, output)),
        Command::Operation(command) => client::run(operations::operation(client()?, command, output)),
        Command::Alerts(command) => client::run(alerts::run(client()?, command, output)),
        Command::Dead(command) => client::run(dead::run(client()?, command, output)),
        Command::Redrive(command) => client::run(redrive::run(client()?, command, output)),
        Command::Publish(args) => client::run(publish::run(client()?, args, output)),
        Command::Consume(args) => client::run(consume::run(client()?, args, output)),
        Command::Peek(args) => client::run(peek::run(client()?, args, output)),
        Command::Trace(args) => client::run(trace::run(client()?, args, output)),
        Command::Status(args) => client::run(status::run(client()?, args, output)),
        Command::Apply(args) => client::run(apply::run(client()?, args, output)),
        Command::Topology(TopologyCommand::Export { output: file, format }) => {
            client::run(apply::export(client()?, file, format))
        }
        Command::Topology(TopologyCommand::Check { file }) => apply::check(&file, output),
        Command::Journal(command) => journal::run(command, output),
        Command::Token(command) => token::run(command, output),
        Command::Config(command) => configuration::run(command, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "waystation", &mut script);
            crate::output::text(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
        Command::JqWorker { memory_bytes } => {
            let served = waystation_jq::serve_worker(memory_bytes);
            served.map(|()| Exit::Done).map_err(|cause| Failure::new(Exit::Failure, cause))
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            output.say(&json!({"version": version}), || format!("waystation {version}"))?;
            Ok(Exit::Done)
        }
    }
}
