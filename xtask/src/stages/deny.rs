//! Do the dependencies keep to deny.toml: licences, bans, sources?

use super::{Context, Outcome, Stage};
use crate::tool::{self, CARGO_DENY};

pub const STAGE: Stage = Stage {
    name: "deny",
    about: "cargo deny: licences, bans and sources of the dependencies",
    slow: false,
    needs: &[CARGO_DENY],
    optional: true,
    run,
};

fn run(context: &Context) -> Outcome {
    let mut command = tool::cargo(&context.root);
    // Advisories need a database from the network and change without a commit: not a property of this commit.
    command.args(["deny", "check", "licenses", "bans", "sources"]);
    match tool::run_logged(&mut command, &context.log("deny")) {
        Ok(ran) => Outcome::check(ran.success, tool::tail(&ran.output, 60)),
        Err(error) => Outcome::failure("cargo deny does not start", error.to_string()),
    }
}
