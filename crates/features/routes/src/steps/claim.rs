//! Is the body too large to be carried along? It is put aside on a topic, and fetched when it is wanted (claim check).

use std::sync::Arc;

use bytes::Bytes;
use waystation_base::{Message, Name, Offset, Tag, message::header, os};
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

/// Says where the body is: topic, partition and offset.
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
        let whole = packet.message()?;
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
        let random = os::random().map_err(passing)?;
        let mut message = Message::new(Ids::new(now, random).next(), now, whole.body.clone());
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
            Some((partition, offset, _)) => Ok(format!("{}:{partition}:{}", self.store, offset.0)),
            None => Err(passing("the topic for bodies did not say where it is")),
        }
    }
}

fn passing(reason: impl ToString) -> Fault {
    Fault::new(FaultKind::Passing, reason)
}

fn broker<'r>(run: &Run<'r>) -> Result<&'r Broker, Fault> {
    run.tools.broker.as_ref().ok_or_else(|| Fault::invalid("there are no topics here"))
}

/// Fetches a body again.
#[derive(Debug)]
pub(crate) struct Redeem {
    pub at: Arc<str>,
}

impl Redeem {
    pub fn compile(at: &str, redeem: bool) -> Result<Redeem, Invalid> {
        match redeem {
            true => Ok(Redeem { at: place(at) }),
            false => Err(invalid(at, "must be true")),
        }
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let Some(ticket) = packet.message.headers.text(TICKET).map(str::to_owned) else {
            // It was small enough to carry.
            run.say(&self.at, Verdict::NotMatched, None);
            return Ok(Flow::On(packet));
        };
        let stored = fetch(run, &ticket).await?;
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

async fn fetch(run: &Run<'_>, ticket: &str) -> Result<Message, Fault> {
    let wrong = || Fault::invalid(format!("'{ticket}' is no ticket for a body"));
    let mut parts = ticket.rsplitn(3, ':');
    let (Some(offset), Some(partition), Some(store)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let (offset, partition): (u64, u16) =
        (offset.parse().map_err(|_| wrong())?, partition.parse().map_err(|_| wrong())?);
    let store = Name::new(store).map_err(|_| wrong())?;
    let browse = Browse {
        from: Some(Tag::new(partition, Offset(offset))),
        partition: Some(partition.into()),
        max: 1,
        bytes_max: 1,
        ..Browse::default()
    };
    let page = broker(run)?.browse(Target::Topic(store), browse).await.map_err(passing)?;
    let found = page.messages.into_iter().next().filter(|found| found.offset == Offset(offset));
    let found = found.map(|delivery| delivery.message);
    found.ok_or_else(|| {
        Fault::invalid(format!("the body at {ticket} is not kept any more: the topic's retention has ended"))
    })
}
