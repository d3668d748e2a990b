//! Do the AMQP 0-9-1 clients that people use find in us what they find in RabbitMQ? Each scenario is a test.

use std::path::Path;

use super::{Context, Outcome, Stage, scenarios};
use crate::{
    clients::{self, Clients, Kind},
    server::Server,
    tool::{C_COMPILER, NODE, NPM, PYTHON},
};

pub const STAGE: Stage = Stage {
    name: "amqp",
    about: "pika, aio-pika, Celery, amqplib and lapin against the real binary; the server killed under them",
    slow: true,
    needs: &[C_COMPILER, PYTHON, NODE, NPM],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let binary = match context.server() {
        Ok(binary) => binary,
        Err(outcome) => return outcome,
    };
    let log = context.log("amqp");
    let clients = match Clients::prepare(&context.root, context.scratch(), &log) {
        Ok(clients) => clients,
        Err(said) => return Outcome::failure("the clients cannot be made ready", said),
    };
    let mut sum = Outcome::default();
    for (name, kind) in clients::ALL {
        sum.add(name, one_client(context, &clients, *kind, &binary, &log));
    }
    sum
}

/// One client with a server of its own, so that what one leaves behind does not meet the next.
fn one_client(context: &Context, clients: &Clients, kind: Kind, binary: &Path, log: &Path) -> Outcome {
    let scratch = context.scratch();
    let server = match kind {
        Kind::Own(..) => None,
        _ => match Server::start(
            binary,
            &context.root,
            &scratch.join("amqp-data"),
            &scratch.join("amqp-server.log"),
        ) {
            Ok(server) => Some(server),
            Err(said) => return Outcome::failure("the server does not start", said),
        },
    };
    let arguments = server.as_ref().map(Server::arguments).unwrap_or_default();
    scenarios::run(&mut clients.command(kind, &arguments, binary, scratch), log)
}
