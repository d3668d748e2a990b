//! Do four services in three languages work together, and is the one order that fails found, mended and redriven, as the README says?

use std::process::Command;

use super::{Context, Outcome, Stage, scenarios};
use crate::{
    clients, python,
    tool::{NODE, NPM, PYTHON},
};

pub const STAGE: Stage = Stage {
    name: "orders",
    about: "examples/orders: routing, an aggregator, a poisoned order found by its number, mended and redriven",
    slow: true,
    needs: &[PYTHON, NODE, NPM],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let server = match context.server() {
        Ok(server) => server,
        Err(outcome) => return outcome,
    };
    match command(context) {
        Ok(mut command) => {
            command.arg("--server-binary").arg(server);
            scenarios::run_example(&mut command, &context.log("orders"))
        }
        Err(said) => Outcome::failure(
            "needs pika from PyPI, amqplib from npm and lapin from crates.io: is there a network?",
            said,
        ),
    }
}

/// The example with what its services need.
fn command(context: &Context) -> Result<Command, String> {
    let (folder, scratch) = (context.root.join("examples/orders"), context.scratch());
    let log = context.log("orders");
    let pins = folder.join("shop/requirements.txt");
    let python = python::environment(scratch, "orders-venv", &[pins], &[], &log)?;
    let modules = clients::node_modules(&folder.join("stock"), &scratch.join("orders-node"), &log)?;
    let shipping =
        clients::built(&context.root, &folder.join("shipping"), "waystation-example-shipping", &log)?;
    let mut command = Command::new(python);
    command.arg(folder.join("orders.py")).env("NODE_PATH", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg("--shipping-binary").arg(shipping);
    command.arg("--data").arg(scratch.join("orders-data"));
    Ok(command)
}
