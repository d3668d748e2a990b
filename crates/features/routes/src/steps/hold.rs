//! What do the steps have in common that hold messages? They put them on a queue of their own, with what they say; what runs beside the
//! route does the rest.

use std::sync::Arc;

use serde_json::Value as Json;
use waystation_base::Name;
use waystation_jq::Program;

use super::{Flow, transform::one};
use crate::{
    Fault, Invalid,
    hold::{
        Plan,
        plan::Rules,
        room::Room,
        says::{Role, Says},
    },
    packet::Packet,
    program::{Compiler, invalid, jq, place},
    run::{Run, is_of_redrive},
    spec::{Destination, Late},
};

/// Milliseconds that a step may wait or remember.
const TIME_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// Where a step holds its messages.
#[derive(Debug)]
pub(crate) struct Place {
    pub at: Arc<str>,
    queue: Destination,
}

impl Place {
    /// A queue of the step's own, and what has to run for it.
    pub fn new(
        compiler: &mut Compiler,
        at: &str,
        word: &str,
        rules: Rules,
        late: Late,
        body: Option<&str>,
        replies: Option<Name>,
    ) -> Result<Place, Invalid> {
        if compiler.depth != 1 {
            return Err(invalid(at, "must stand among the route's own steps, not in a branch of one"));
        }
        // By kind and number, so that other steps can come and go before it.
        let number = compiler.holds.iter().filter(|plan| plan.queue.as_str().contains(word)).count() + 1;
        let name = format!(
            "$routes.{}.{word}{}",
            compiler.route,
            if number > 1 { number.to_string() } else { String::new() }
        );
        let queue = Name::reserved(name).map_err(|error| invalid(at, error))?;
        let body = body.map(|text| jq(&format!("{at}.body"), text)).transpose()?;
        compiler.holds.push(Plan {
            at: place(at),
            step: compiler.step,
            queue: queue.clone(),
            replies,
            late,
            body,
            rules,
            held_bytes: compiler.held_bytes,
            room: Arc::new(Room::new(Plan::most(compiler.held_bytes))),
        });
        Ok(Place { at: place(at), queue: Destination::Address(queue) })
    }

    /// Puts a message there.
    pub async fn hold(&self, run: &mut Run<'_>, mut packet: Packet, says: &Says) -> Result<(), Fault> {
        says.put(&mut packet.message.headers);
        // Until when it holds is the step's to say.
        packet.message.expires_at = None;
        let redriven = packet.message.headers.0.iter().filter(|(name, _)| is_of_redrive(name));
        let redriven: Vec<_> = redriven.cloned().collect();
        run.send(&self.at, &packet, std::slice::from_ref(&self.queue)).await?;
        // It is the same message still, and says so if it fails again.
        if let Some(held) = run.outputs.last_mut() {
            held.message.headers.0.extend(redriven);
        }
        Ok(())
    }
}

pub(crate) fn check_ms(field: &str, ms: u64) -> Result<(), Invalid> {
    match ms {
        1..=TIME_MS_MAX => Ok(()),
        _ => Err(invalid(field, format!("must lie between 1 and {TIME_MS_MAX}, is {ms}"))),
    }
}

/// The text, number or truth value that a program gives.
pub(crate) async fn scalar(
    run: &Run<'_>,
    program: &Program,
    packet: &mut Packet,
    what: &str,
) -> Result<Option<String>, Fault> {
    match serde_json::from_slice(&one(run, program, packet, what).await?) {
        Ok(Json::String(text)) => Ok(Some(text)),
        Ok(Json::Number(number)) => Ok(Some(number.to_string())),
        Ok(Json::Bool(flag)) => Ok(Some(flag.to_string())),
        Ok(Json::Null) => Ok(None),
        _ => Err(Fault::invalid(format!(
            "the program for '{what}' must give a text, a number or a truth value"
        ))),
    }
}

/// The same, where there must be one.
pub(crate) async fn some_scalar(
    run: &Run<'_>,
    program: &Program,
    packet: &mut Packet,
    what: &str,
) -> Result<String, Fault> {
    let found = scalar(run, program, packet, what).await?;
    found.ok_or_else(|| Fault::invalid(format!("the program for '{what}' gave null")))
}

/// A whole number that is not negative.
pub(crate) fn whole(text: &str, what: &str) -> Result<u64, Fault> {
    // The next one is a number, too.
    let number = text.parse().ok().filter(|number| *number < i64::MAX as u64);
    number.ok_or_else(|| {
        Fault::invalid(format!("the program for '{what}' gave {text}, which is no whole number"))
    })
}

/// The member of a group or sequence.
pub(crate) fn says(key: String, role: Role, number: Option<u64>) -> Says {
    Says { key: key.into(), role, number }
}

/// Nothing goes on: it is held.
pub(crate) const HELD: Flow<'static> = Flow::End;
