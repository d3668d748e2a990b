//! To whom does the message itself say that it goes? A jq program gives addresses, and a list of patterns bounds them (recipient
//! list).

use std::sync::Arc;

use serde_json::Value as Json;
use waystation_base::{Name, name};
use waystation_jq::Program;

use super::Flow;
use crate::{
    Fault, Invalid,
    limits::TARGETS_MAX,
    packet::Packet,
    program::{invalid, jq, place},
    run::Run,
    spec::Destination,
};

/// Sends to whom the message says.
#[derive(Debug)]
pub(crate) struct Recipients {
    pub at: Arc<str>,
    program: Program,
    allowed: Vec<String>,
}

impl Recipients {
    pub fn compile(at: &str, text: &str, allowed: Option<&[String]>) -> Result<Recipients, Invalid> {
        let field = format!("{}.allowed", at.rsplit_once('.').map_or(at, |(step, _)| step));
        let Some(allowed) = allowed.filter(|allowed| !allowed.is_empty()) else {
            return Err(invalid(
                field,
                "give patterns of the addresses that messages may name, such as 'team.*'",
            ));
        };
        if allowed.len() > TARGETS_MAX {
            return Err(invalid(field, format!("may have {TARGETS_MAX} patterns, has {}", allowed.len())));
        }
        if allowed.iter().any(|pattern| pattern.is_empty() || pattern.starts_with('$')) {
            return Err(invalid(field, "a pattern may not be empty or reach for Waystation's own names"));
        }
        Ok(Recipients { at: place(at), program: jq(at, text)?, allowed: allowed.to_vec() })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let body = packet.json().await?;
        let outputs = run.tools.jq(&self.program, &packet, body, run.limits).await?;
        let mut to: Vec<Destination> = Vec::new();
        for output in &outputs {
            for address in addresses(output)? {
                let destination = Destination::Address(self.check(&address)?);
                if !to.contains(&destination) {
                    to.push(destination);
                }
            }
        }
        if to.len() > TARGETS_MAX {
            return Err(Fault::limit(format!("it names {} recipients, {TARGETS_MAX} are allowed", to.len())));
        }
        run.send(&self.at, &packet, &to).await?;
        Ok(Flow::End)
    }

    fn check(&self, address: &str) -> Result<Name, Fault> {
        let name =
            Name::new(address).map_err(|error| Fault::invalid(format!("recipient '{address}': {error}")))?;
        match self.allowed.iter().any(|pattern| name::matches(pattern, address)) {
            true => Ok(name),
            false => Err(Fault::invalid(format!("recipient '{address}' matches none of 'allowed'"))),
        }
    }
}

/// One address, or a list of them.
fn addresses(json: &[u8]) -> Result<Vec<String>, Fault> {
    let wrong = || Fault::invalid("the program for 'recipients' must give names of queues and topics");
    match serde_json::from_slice(json) {
        Ok(Json::String(one)) => Ok(vec![one]),
        Ok(Json::Array(all)) => {
            all.into_iter().map(|it| it.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}
