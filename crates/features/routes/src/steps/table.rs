//! Where does it go by now? A table on a topic says so, and changes while the route runs (dynamic router).

use std::sync::Arc;

use waystation_base::{Name, name};
use waystation_jq::Program;

use super::{Flow, hold::some_scalar};
use crate::{
    Fault, FaultKind, Invalid,
    limits::TARGETS_MAX,
    packet::Packet,
    program::{invalid, jq, place},
    run::Run,
    spec::{self, Destination},
};

/// Looks up and sends.
#[derive(Debug)]
pub(crate) struct Table {
    pub at: Arc<str>,
    topic: Name,
    key: Program,
    allowed: Vec<String>,
    otherwise: Option<Vec<Destination>>,
}

impl Table {
    pub fn compile(
        at: &str,
        spec: &spec::Table,
        otherwise: Option<&spec::Targets>,
    ) -> Result<Table, Invalid> {
        let topic = Name::new(&spec.topic).map_err(|error| invalid(format!("{at}.topic"), error))?;
        let field = format!("{at}.allowed");
        if spec.allowed.is_empty() || spec.allowed.len() > TARGETS_MAX {
            return Err(invalid(
                field,
                format!("give 1 to {TARGETS_MAX} patterns of the addresses that the table may name"),
            ));
        }
        if spec.allowed.iter().any(|pattern| pattern.is_empty() || pattern.starts_with('$')) {
            return Err(invalid(field, "a pattern may not be empty or reach for Waystation's own names"));
        }
        let otherwise = otherwise.map(|targets| targets.check(&format!("{at}.else"))).transpose()?;
        let key = jq(&format!("{at}.key"), &spec.key)?;
        Ok(Table { at: place(at), topic, key, allowed: spec.allowed.clone(), otherwise })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let key = some_scalar(run, &self.key, &mut packet, "key").await?;
        let found = run.tools.tables.look_up(run.tools, &self.topic, &key).await?;
        let to = match (found, &self.otherwise) {
            (Some(addresses), _) => {
                addresses.iter().map(|address| self.check(address)).collect::<Result<Vec<_>, _>>()?
            }
            (None, Some(otherwise)) => otherwise.clone(),
            (None, None) => {
                let reason =
                    format!("the table {} has nothing for '{key}', and there is no 'else'", self.topic);
                return Err(Fault::new(FaultKind::NoRoute, reason));
            }
        };
        run.send(&self.at, &packet, &to).await?;
        Ok(Flow::End)
    }

    fn check(&self, address: &str) -> Result<Destination, Fault> {
        let named = Name::new(address)
            .map_err(|error| Fault::invalid(format!("table entry '{address}': {error}")))?;
        match self.allowed.iter().any(|pattern| name::matches(pattern, address)) {
            true => Ok(Destination::Address(named)),
            false => Err(Fault::invalid(format!("table entry '{address}' matches none of 'allowed'"))),
        }
    }
}
