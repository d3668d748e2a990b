//! Is every Rust file formatted as rustfmt.toml says?

use super::{Context, Outcome, Stage};
use crate::tool::{self, RUSTFMT};

pub const STAGE: Stage = Stage {
    name: "format",
    about: "cargo fmt --check",
    slow: false,
    needs: &[RUSTFMT],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let mut command = tool::cargo(&context.root);
    command.args(["fmt", "--all", "--check"]);
    match tool::run_logged(&mut command, &context.log("format")) {
        Ok(ran) => Outcome::check(ran.success, tool::tail(&ran.output, 60)),
        Err(error) => Outcome::failure("cargo fmt does not start", error.to_string()),
    }
}
