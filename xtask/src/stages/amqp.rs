//! Do the AMQP 0-9-1 clients that people use find in us what they find in RabbitMQ? Each scenario is a test.

use std::path::Path;

use super::{Context, Outcome, Stage};
use crate::{
    clients::{self, Clients, Kind},
    server::Server,
    tool::{self, C_COMPILER, NODE, NPM, PYTHON, Ran},
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
    let server = match context.built() {
        Ok(built) => built.server.clone(),
        Err(_) => None,
    };
    let Some(binary) = server else { return Outcome::failure("no waystation binary was built", "") };
    let log = context.log("amqp");
    let clients = match Clients::prepare(&context.root, context.scratch(), &log) {
        Ok(clients) => clients,
        Err(said) => return Outcome::failure("the clients cannot be made ready", said),
    };
    let mut sum = Outcome::default();
    for (name, kind) in clients::ALL {
        let one = one_client(context, &clients, *kind, &binary, &log);
        sum.passed += one.passed;
        sum.failed += one.failed;
        if one.failed > 0 {
            sum.details.push_str(&format!("--- {name}: {}\n{}\n", one.note, one.details));
        }
    }
    sum
}

/// One client with a server of its own, so that what one leaves behind does not meet the next.
fn one_client(context: &Context, clients: &Clients, kind: Kind, binary: &Path, log: &Path) -> Outcome {
    let scratch = context.scratch();
    let server = match kind {
        Kind::Crash => None,
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
    match tool::run_logged(&mut clients.command(kind, &arguments, binary, scratch), log) {
        Ok(ran) => count(&ran),
        Err(error) => Outcome::failure("the client does not start", error.to_string()),
    }
}

/// Counts the lines of the scenarios. A client that ends badly without a failed one counts as a failure itself.
pub fn count(ran: &Ran) -> Outcome {
    let of = |word: &str| ran.output.lines().filter(|line| line.starts_with(word)).collect::<Vec<_>>();
    let (passed, failed) = (of("ok "), of("FAILED "));
    let mut outcome =
        Outcome { passed: passed.len() as u64, failed: failed.len() as u64, ..Outcome::default() };
    outcome.details = failed.join("\n");
    if outcome.failed == 0 && (!ran.success || outcome.passed == 0) {
        outcome.failed = 1;
        outcome.details = tool::tail(&ran.output, 30);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(success: bool, output: &str) -> (u64, u64) {
        let outcome = count(&Ran { success, output: output.to_owned() });
        (outcome.passed, outcome.failed)
    }

    #[test]
    fn each_scenario_is_a_test_and_a_skipped_one_is_none() {
        let output = "ok         0.1 s  a\nskipped    0.0 s  b: why\nFAILED     0.1 s  c: what\n1 passed, 1 failed, 1 skipped\n";
        assert_eq!(counted(false, output), (1, 1));
    }

    #[test]
    fn a_client_that_dies_or_runs_nothing_is_a_failure() {
        assert_eq!(counted(false, "ok         0.1 s  a\nSegmentation fault\n"), (1, 1));
        assert_eq!(counted(true, "0 passed, 0 failed, 0 skipped\n"), (0, 1));
    }
}
