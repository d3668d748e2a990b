//! In which order were the messages? Each says its number, and waits for those before it (resequencer).

use waystation_jq::Program;

use super::{
    Flow,
    hold::{HELD, Place, check_ms, says, some_scalar, whole},
};
use crate::{
    Fault, Invalid,
    hold::{plan::Rules, says::Role, sequence},
    limits::HELD_MESSAGES_MAX,
    packet::Packet,
    program::{Compiler, jq},
    run::Run,
    spec,
};

/// Holds a message until those before it have left.
#[derive(Debug)]
pub(crate) struct Resequence {
    pub place: Place,
    key: Option<Program>,
    number: Program,
}

impl Resequence {
    pub fn compile(
        compiler: &mut Compiler,
        at: &str,
        spec: &spec::Resequence,
    ) -> Result<Resequence, Invalid> {
        check_ms(&format!("{at}.timeout_ms"), spec.timeout_ms)?;
        check_ms(&format!("{at}.remember_ms"), spec.remember_ms)?;
        let rules = sequence::Rules {
            first: spec.first,
            timeout_ms: spec.timeout_ms,
            remember_ms: spec.remember_ms,
            held_max: HELD_MESSAGES_MAX,
        };
        let key = spec.key.as_ref().map(|text| jq(&format!("{at}.key"), text)).transpose()?;
        let number = jq(&format!("{at}.number"), &spec.number)?;
        let place = Place::new(compiler, at, "resequence", Rules::Sequences(rules), spec.late, None, None)?;
        Ok(Resequence { place, key, number })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let key = match &self.key {
            None => String::new(),
            Some(program) => some_scalar(run, program, &mut packet, "key").await?,
        };
        let number = some_scalar(run, &self.number, &mut packet, "number").await?;
        let number = whole(&number, "number")?;
        self.place.hold(run, packet, &says(key, Role::Numbered, Some(number))).await?;
        Ok(HELD)
    }
}
