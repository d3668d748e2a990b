//! Who is to be asked, and what do they say? A request to each, and one message of their replies (scatter-gather).

use waystation_base::{Name, message::header};

use super::{
    Flow,
    hold::{HELD, Place, check_ms, says},
};
use crate::{
    Fault, Invalid,
    hold::{groups, plan::Rules, says::Role},
    limits::HELD_MESSAGES_MAX,
    packet::Packet,
    program::{Compiler, invalid},
    run::Run,
    spec::{self, Destination, Late},
};

/// Asks, and holds the request until the replies are there.
#[derive(Debug)]
pub(crate) struct Gather {
    pub place: Place,
    to: Vec<Destination>,
    replies: Name,
    size: u64,
}

impl Gather {
    pub fn compile(compiler: &mut Compiler, at: &str, spec: &spec::Gather) -> Result<Gather, Invalid> {
        check_ms(&format!("{at}.timeout_ms"), spec.timeout_ms)?;
        let to = spec.to.check(&format!("{at}.to"))?;
        if to.is_empty() {
            return Err(invalid(format!("{at}.to"), "there is nobody to ask"));
        }
        if spec.late == Late::Own {
            return Err(invalid(
                format!("{at}.late"),
                "a late reply cannot be a message of its own; give 'drop' or 'dead_letter'",
            ));
        }
        let size = spec.size.unwrap_or(to.len() as u64);
        if size == 0 {
            return Err(invalid(format!("{at}.size"), "must be 1 at least"));
        }
        let replies = Name::new(&spec.replies).map_err(|error| invalid(format!("{at}.replies"), error))?;
        let rules = groups::Rules {
            size: None,
            timeout_ms: spec.timeout_ms,
            remember_ms: None,
            needs_opener: true,
            held_max: HELD_MESSAGES_MAX,
        };
        let (rules, body) = (Rules::Groups(rules), spec.body.as_deref());
        let place = Place::new(compiler, at, "gather", rules, spec.late, body, Some(replies.clone()))?;
        Ok(Gather { place, to, replies, size })
    }

    pub async fn run(&self, run: &mut Run<'_>, packet: Packet) -> Result<Flow<'_>, Fault> {
        // The same each time that the message is tried, and another for each part of what was split.
        let id = format!("{}.{}.{}", run.route, packet.message.id, run.outputs.len());
        let mut request = packet.clone();
        request.message.headers.set(header::CORRELATION_ID, id.as_str());
        request.message.headers.set(header::REPLY_TO, self.replies.as_str());
        run.send(&self.place.at, &request, &self.to).await?;
        self.place.hold(run, packet, &says(id, Role::Opener, Some(self.size))).await?;
        Ok(HELD)
    }
}
