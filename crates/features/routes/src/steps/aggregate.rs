//! Which messages belong together? Each says so, and waits for the others (aggregator).

use waystation_jq::Program;

use super::{
    Flow,
    condition::Condition,
    hold::{HELD, Place, check_ms, says, scalar, some_scalar, whole},
};
use crate::{
    Fault, Invalid,
    hold::{groups, plan::Rules, says::Role},
    limits::HELD_MESSAGES_MAX,
    packet::Packet,
    program::{Compiler, invalid, jq},
    run::Run,
    spec::{self, Late},
};

/// Holds a message until its group is complete.
#[derive(Debug)]
pub(crate) struct Aggregate {
    pub place: Place,
    key: Program,
    count: Option<Program>,
    when: Option<Condition>,
}

impl Aggregate {
    pub fn compile(compiler: &mut Compiler, at: &str, spec: &spec::Aggregate) -> Result<Aggregate, Invalid> {
        check_ms(&format!("{at}.timeout_ms"), spec.timeout_ms)?;
        check_ms(&format!("{at}.remember_ms"), spec.remember_ms)?;
        if let Some(size @ (0 | HELD_SIZE_MAX..)) = spec.size {
            let most = HELD_SIZE_MAX - 1;
            return Err(invalid(format!("{at}.size"), format!("must lie between 1 and {most}, is {size}")));
        }
        let rules = groups::Rules {
            size: spec.size,
            timeout_ms: spec.timeout_ms,
            remember_ms: (spec.late != Late::Own).then_some(spec.remember_ms),
            needs_opener: false,
            held_max: HELD_MESSAGES_MAX,
        };
        let count = spec.count.as_ref().map(|text| jq(&format!("{at}.count"), text)).transpose()?;
        let when = spec.when.as_ref().map(|it| Condition::compile(&format!("{at}.when"), it)).transpose()?;
        let key = jq(&format!("{at}.key"), &spec.key)?;
        let body = spec.body.as_deref();
        let place = Place::new(compiler, at, "aggregate", Rules::Groups(rules), spec.late, body, None)?;
        Ok(Aggregate { place, key, count, when })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let key = some_scalar(run, &self.key, &mut packet, "key").await?;
        let count = match &self.count {
            None => None,
            Some(program) => scalar(run, program, &mut packet, "count").await?,
        };
        let count = count.map(|text| whole(&text, "count")).transpose()?;
        let last = match &self.when {
            None => false,
            Some(condition) => condition.find(run, &mut packet).await?.holds,
        };
        let role = if last { Role::Last } else { Role::Member };
        self.place.hold(run, packet, &says(key, role, count)).await?;
        Ok(HELD)
    }
}

/// One past the largest group.
const HELD_SIZE_MAX: u64 = HELD_MESSAGES_MAX as u64 + 1;
