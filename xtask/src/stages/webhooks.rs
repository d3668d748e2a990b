//! Do the libraries of those who receive webhooks and CloudEvents take what we push, and refuse what was tampered with?

use std::{path::Path, process::Command};

use super::{Context, Outcome, Stage, scenarios};
use crate::{
    clients, python,
    server::Server,
    tool::{NODE, NPM, PYTHON},
};

pub const STAGE: Stage = Stage {
    name: "webhooks",
    about: "standardwebhooks and the CloudEvents SDKs of Python and Node against what the real binary pushes",
    slow: true,
    needs: &[PYTHON, NODE, NPM],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let binary = match context.server() {
        Ok(binary) => binary,
        Err(outcome) => return outcome,
    };
    let log = context.log("webhooks");
    let commands = match commands(context, &log) {
        Ok(commands) => commands,
        Err(said) => {
            return Outcome::failure(
                "needs the pinned libraries from PyPI and npm: is there a network?",
                said,
            );
        }
    };
    let scratch = context.scratch();
    let (data, server_log) = (scratch.join("webhooks-data"), scratch.join("webhooks-server.log"));
    let server = match Server::start(&binary, &context.root, &data, &server_log) {
        Ok(server) => server,
        Err(said) => return Outcome::failure("the server does not start", said),
    };
    let mut sum = Outcome::default();
    for (name, mut command) in ["Python", "Node"].into_iter().zip(commands) {
        sum.add(name, scenarios::run(command.args(server.arguments()), &log));
    }
    sum
}

/// Both programs, with what they need installed.
fn commands(context: &Context, log: &Path) -> Result<[Command; 2], String> {
    let folder = context.root.join("conformance/webhooks");
    let pins = folder.join("python/requirements.txt");
    let python = python::environment(context.scratch(), "webhooks-venv", &[pins], &[], log)?;
    let modules = clients::node_modules(&folder.join("node"), &context.scratch().join("webhooks-node"), log)?;
    let mut in_python = Command::new(python);
    in_python.arg(folder.join("python/run.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut in_node = Command::new("node");
    in_node.arg(folder.join("node/scenarios.js")).env("NODE_PATH", modules);
    Ok([in_python, in_node])
}
