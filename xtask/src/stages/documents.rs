//! Do the examples in the documentation comments compile and hold?

use super::{Context, Outcome, Stage, programs};
use crate::tool::{self, C_COMPILER};

pub const STAGE: Stage = Stage {
    name: "documents",
    about: "the examples in documentation comments",
    slow: true,
    needs: &[C_COMPILER],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let mut command = tool::cargo(&context.root);
    command.args(["test", "--workspace", "--doc", "--no-fail-fast", "--quiet"]);
    match tool::run_logged(&mut command, &context.log("documents")) {
        Ok(ran) => programs::count(&ran),
        Err(error) => Outcome::failure("cargo test does not start", error.to_string()),
    }
}
