//! How is something confirmed that is done to many things at once?

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::json;

use crate::{
    args::calls::Sure,
    exit::{Exit, Failure},
    output::{self, Output},
};

/// Things that are named before it is asked.
const NAMED_MAX: usize = 10;

/// Shows what would be done: how many things, and the first of them.
pub fn show<'a>(
    verb: &str,
    what: &str,
    things: impl Iterator<Item = &'a str>,
    output: Output,
) -> Result<(), Failure> {
    let all: Vec<&str> = things.collect();
    output.say(&json!({"dry_run": true, "what": what, "items": all}), || {
        let mut lines = vec![format!("would {verb} {what}")];
        lines.extend(all.iter().take(NAMED_MAX).map(|thing| format!("  {thing}")));
        let more = all.len().saturating_sub(NAMED_MAX);
        lines.extend((more > 0).then(|| format!("  and {more} more")));
        lines.join("\n")
    })
}

/// Whether to go on: somebody said so beforehand, or says so now. Without anybody to ask it has to be said beforehand.
pub fn go_on<'a>(
    sure: Sure,
    verb: &str,
    what: &str,
    things: impl Iterator<Item = &'a str>,
    output: Output,
) -> Result<bool, Failure> {
    if sure.yes || sure.dry_run {
        return Ok(true);
    }
    if output.json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let refusal = format!("this would {verb} {what}, and there is nobody to ask");
        return Err(Failure::new(Exit::Usage, refusal).advise("--yes does it, --dry-run shows it"));
    }
    show(verb, what, things, output)?;
    write!(io::stderr(), "{verb} {what}? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let is_sure = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !is_sure {
        output::text("nothing was done")?;
    }
    Ok(is_sure)
}
