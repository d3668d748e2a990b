//! Which way does a message go? The first case whose condition holds (content-based router). Cases that ask for one value of one
//! header are found by that value, so that ten thousand of them cost what one does.

use std::sync::Arc;

use super::{Flow, Step, condition::Condition};
use crate::{
    Fault, FaultKind, Invalid, Verdict,
    limits::{CASES_MAX, CASES_RECORDED_MAX, REASONS_MAX},
    packet::Packet,
    program::{Compiler, invalid, place},
    run::Run,
    spec::{self, Destination},
    steps::index::Index,
};

/// Chooses.
#[derive(Debug)]
pub(crate) struct Choose {
    pub at: Arc<str>,
    cases: Vec<Case>,
    index: Index,
    otherwise: Option<(Arc<str>, Way)>,
}

#[derive(Debug)]
struct Case {
    at: Arc<str>,
    when: Condition,
    way: Way,
}

/// Where a case leads.
#[derive(Debug)]
enum Way {
    To(Vec<Destination>),
    Steps(Vec<Step>),
}

impl Choose {
    /// Compiles it; says too whether messages may go on behind it.
    pub fn compile(
        compiler: &mut Compiler,
        at: &str,
        cases: &[spec::Case],
        otherwise: Option<&spec::Branch>,
    ) -> Result<(Choose, bool), Invalid> {
        if cases.is_empty() || cases.len() > CASES_MAX {
            return Err(invalid(at, format!("must have 1 to {CASES_MAX} cases, has {}", cases.len())));
        }
        let mut goes_on = false;
        let mut compiled = Vec::with_capacity(cases.len());
        for (index, case) in cases.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let when = Condition::compile(&format!("{at}.when"), &case.when)?;
            let way = way(compiler, &at, case.to.as_ref(), case.steps.as_deref(), &mut goes_on)?;
            compiled.push(Case { at: place(&at), when, way });
        }
        let otherwise = match otherwise {
            None => None,
            Some(branch) => {
                let at = format!("{}.otherwise", at.rsplit_once('.').map_or(at, |(step, _)| step));
                let (to, steps) = match branch {
                    spec::Branch::To(to) => (Some(to), None),
                    spec::Branch::Steps(spec::Steps { steps }) => (None, Some(&steps[..])),
                };
                let way = way(compiler, &at, to, steps, &mut goes_on)?;
                Some((place(&at), way))
            }
        };
        let index = Index::new(compiled.iter().map(|case| &case.when));
        Ok((Choose { at: place(at), cases: compiled, index, otherwise }, goes_on))
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let mut missed = 0;
        let is_short = run.level.why && self.cases.len() <= CASES_RECORDED_MAX;
        let candidates =
            if run.level.every || is_short { self.index.all() } else { self.index.candidates(&packet) };
        let others = self.cases.len() - candidates.len();
        if others > 0 && run.level.why {
            let detail = format!("{others} cases want another value");
            run.say(&self.at, Verdict::NotMatched, Some(detail));
        }
        for number in candidates {
            let case = &self.cases[number];
            let found = case.when.find(run, &mut packet).await?;
            if found.holds {
                run.say(&case.at, Verdict::Matched, found.why);
                return self.follow(&case.at, &case.way, run, packet).await;
            }
            missed += 1;
            if run.level.why && missed <= REASONS_MAX {
                run.say(&case.at, Verdict::NotMatched, found.why);
            }
        }
        match &self.otherwise {
            Some((at, way)) => {
                run.say(at, Verdict::Matched, run.level.why.then(|| "no case holds".to_owned()));
                self.follow(at, way, run, packet).await
            }
            None => {
                let count = self.cases.len();
                let reason = format!("none of the {count} cases holds, and there is no 'otherwise'");
                Err(Fault::new(FaultKind::NoRoute, reason))
            }
        }
    }

    async fn follow<'p>(
        &self,
        at: &Arc<str>,
        way: &'p Way,
        run: &mut Run<'_>,
        packet: Packet,
    ) -> Result<Flow<'p>, Fault> {
        match way {
            Way::To(to) => {
                run.send(at, &packet, to).await?;
                Ok(Flow::End)
            }
            Way::Steps(steps) => Ok(Flow::Into(steps, packet)),
        }
    }
}

fn way(
    compiler: &mut Compiler,
    at: &str,
    to: Option<&spec::Targets>,
    steps: Option<&[spec::Step]>,
    goes_on: &mut bool,
) -> Result<Way, Invalid> {
    match (to, steps) {
        (Some(to), None) => {
            let to = to.check(&format!("{at}.to"))?;
            Ok(Way::To(to))
        }
        (None, Some(steps)) => {
            let compiled = compiler.steps(&format!("{at}.steps"), steps)?;
            *goes_on |= compiled.goes_on;
            Ok(Way::Steps(compiled.steps))
        }
        _ => Err(invalid(at, "give either 'to' or 'steps'")),
    }
}
