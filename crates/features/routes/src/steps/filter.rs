//! Which messages go on? `filter` lets the rest end, or go elsewhere (message filter); for `validate` the rest is invalid (invalid-
//! message channel).

use std::sync::Arc;

use super::{Flow, condition::Condition};
use crate::{
    Fault, Invalid, Verdict,
    packet::Packet,
    program::place,
    run::Run,
    spec::{self, Destination},
};

/// Lets pass, or not.
#[derive(Debug)]
pub(crate) struct Filter {
    pub at: Arc<str>,
    condition: Condition,
    otherwise: Option<Vec<Destination>>,
    /// What does not pass has failed.
    is_demand: bool,
}

impl Filter {
    pub fn compile(
        at: &str,
        condition: &spec::Condition,
        declared: &spec::Step,
        is_demand: bool,
    ) -> Result<Filter, Invalid> {
        let condition = Condition::compile(at, condition)?;
        let at_else = || format!("{}.else", at.rsplit_once('.').map_or(at, |(step, _)| step));
        let otherwise = declared.otherwise_to.as_ref().map(|to| to.check(&at_else())).transpose()?;
        Ok(Filter { at: place(at), condition, otherwise, is_demand })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let found = self.condition.find(run, &mut packet).await?;
        if found.holds {
            run.say(&self.at, Verdict::Matched, found.why);
            return Ok(Flow::On(packet));
        }
        match &self.otherwise {
            None if self.is_demand => {
                let why = found.why.unwrap_or_else(|| self.condition.to_string());
                Err(Fault::invalid(format!("the message is not valid: {why}")))
            }
            None => {
                run.say(&self.at, Verdict::NotMatched, found.why);
                Ok(Flow::End)
            }
            Some(to) => {
                run.say(&self.at, Verdict::NotMatched, found.why);
                run.send(&self.at, &packet, to).await?;
                Ok(Flow::End)
            }
        }
    }
}
