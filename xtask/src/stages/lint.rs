//! Is clippy content with every target of the workspace, warnings counted as errors?

use super::{Context, Outcome, Stage};
use crate::tool::{self, C_COMPILER, CLIPPY};

pub const STAGE: Stage = Stage {
    name: "lint",
    about: "cargo clippy, all targets, warnings are errors",
    slow: false,
    needs: &[CLIPPY, C_COMPILER],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let mut command = tool::cargo(&context.root);
    command.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    match tool::run_logged(&mut command, &context.log("lint")) {
        Ok(ran) => Outcome::check(ran.success, tool::tail(&ran.output, 60)),
        Err(error) => Outcome::failure("cargo clippy does not start", error.to_string()),
    }
}
