//! Is the body too large to be carried along? It is put aside on a topic, and fetched when it is wanted (claim check).

use std::sync::Arc;

use bytes::Bytes;
use waystation_base::{Message, Name, Offset, Tag, message::header};
use waystation_host::{Broker, Browse, Target};
use waystation_jq::Program;

use super::{Flow, transform::one};
use crate::{
    Fault, FaultKind, Invalid, Verdict,
    ids::Ids,
    packet::Packet,
    program::{invalid, jq, place},
    run::Run,
    spec,
};

/// Says which body it is: partition, offset and id. The topic is the declaration's to say, and the id cannot be guessed: who writes a
/// ticket of his own reads nothing with it.
const TICKET: &str = "ws-claim";
/// The content type of what was put aside.
const TICKET_TYPE: &str = "ws-claim-type";

/// Puts a body aside.
#[derive(Debug)]
pub(crate) struct Claim {
    pub at: Arc<str>,
    store: Name,
    above_bytes: usize,
    keep: Option<Program>,
}

impl Claim {
    pub fn compile(at: &str, spec: &spec::Claim) -> Result<Claim, Invalid> {
        let store = Name::new(&spec.store).map_err(|error| invalid(format!("{at}.store"), error))?;
        let keep = spec.keep.as_ref().map(|text| jq(&format!("{at}.keep"), text)).transpose()?;
        Ok(Claim { at: place(at), store, above_bytes: spec.above_bytes, keep })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let whole = packet.message().await?;
        if whole.body.len() <= self.above_bytes {
            run.say(&self.at, Verdict::NotMatched, None);
            return Ok(Flow::On(packet));
        }
        let kept = match &self.keep {
            Some(program) => one(run, program, &mut packet, "keep").await?,
            None => Bytes::from_static(b"null"),
        };
        let ticket = match run.is_trial() {
            true => "tried".to_owned(),
            false => self.put_aside(run, &whole).await?,
        };
        let headers = &mut packet.message.headers;
        headers.set(TICKET, ticket.as_str());
        headers.set(TICKET_TYPE, headers.text(header::CONTENT_TYPE).unwrap_or_default().to_owned());
        headers.set(header::CONTENT_TYPE, "application/json");
        packet.replace(kept);
        run.say(&self.at, Verdict::Changed, Some(ticket));
        Ok(Flow::On(packet))
    }

    /// Stores the body in a step of its own: if the message's own step does not come about, the body lies there unclaimed until the
    /// topic's retention ends, and another is stored.
    async fn put_aside(&self, run: &Run<'_>, whole: &Message) -> Result<String, Fault> {
        let now = run.tools.clock.now();
        let id = Ids::draw(now, &*run.tools.chance).map_err(passing)?.next();
        let mut message = Message::new(id, now, whole.body.clone());
        message.key = whole.key.clone();
        for name in
            [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CORRELATION_ID, header::TRACEPARENT]
        {
            if let Some(value) = whole.headers.get(name) {
                message.headers.set(name, value.clone());
            }
        }
        message.headers.set(header::CAUSE, whole.id.to_string().as_str());
        let published = broker(run)?.publish(self.store.clone(), vec![message]).await.map_err(passing)?;
        match published.stretches.first() {
            Some((partition, offset, _)) => Ok(format!("{partition}:{}:{id}", offset.0)),
            None => Err(passing("the topic for bodies did not say where it is")),
        }
    }
}

fn passing(reason: impl ToString) -> Fault {
    Fault::new(FaultKind::Unreachable, reason)
}

fn broker<'r>(run: &Run<'r>) -> Result<&'r Broker, Fault> {
    run.tools.broker.as_ref().ok_or_else(|| Fault::invalid("there are no topics here"))
}

/// Fetches a body again.
#[derive(Debug)]
pub(crate) struct Redeem {
    pub at: Arc<str>,
    store: Name,
}

impl Redeem {
    pub fn compile(at: &str, store: &str) -> Result<Redeem, Invalid> {
        Ok(Redeem { at: place(at), store: Name::new(store).map_err(|error| invalid(at, error))? })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let Some(ticket) = packet.message.headers.text(TICKET).map(str::to_owned) else {
            // It was small enough to carry.
            run.say(&self.at, Verdict::NotMatched, None);
            return Ok(Flow::On(packet));
        };
        let stored = fetch(run, &self.store, &ticket).await?;
        let headers = &mut packet.message.headers;
        match headers.text(TICKET_TYPE).map(str::to_owned).filter(|text| !text.is_empty()) {
            Some(content_type) => headers.set(header::CONTENT_TYPE, content_type.as_str()),
            None => headers.remove(header::CONTENT_TYPE),
        }
        headers.remove(TICKET);
        headers.remove(TICKET_TYPE);
        packet = Packet::new(packet.address.clone(), Message { body: stored.body, ..packet.message });
        run.say(&self.at, Verdict::Changed, Some(ticket));
        Ok(Flow::On(packet))
    }
}

async fn fetch(run: &Run<'_>, store: &Name, ticket: &str) -> Result<Message, Fault> {
    let (partition, offset, id) =
        parse(ticket).ok_or_else(|| Fault::invalid(format!("'{ticket}' is no ticket for a body")))?;
    let browse = Browse {
        from: Some(Tag::new(partition, offset)),
        partition: Some(partition.into()),
        max: 1,
        bytes_max: 1,
        ..Browse::default()
    };
    let page = broker(run)?.browse(Target::Topic(store.clone()), browse).await.map_err(passing)?;
    let found = page.messages.into_iter().next().map(|delivery| delivery.message);
    found.filter(|message| message.id.to_string() == id).ok_or_else(|| {
        Fault::invalid(format!(
            "the body {ticket} is not on the topic {store} (any more: its retention has ended?)"
        ))
    })
}

fn parse(ticket: &str) -> Option<(u16, Offset, &str)> {
    let (partition, rest) = ticket.split_once(':')?;
    let (offset, id) = rest.split_once(':')?;
    let offset = offset.parse().ok().filter(|offset| *offset < 1 << 48)?;
    Some((partition.parse().ok()?, Offset(offset), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_or_refused() {
        assert_eq!(parse("3:7:x"), Some((3, Offset(7), "x")));
        let most = format!("65535:{}:x", (1u64 << 48) - 1);
        assert!(parse(&most).is_some());
        for wrong in ["", "3", "3:7", "x:7:y", "65536:7:x", "3:-7:x", "3:281474976710656:x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
