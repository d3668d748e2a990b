//! How is one message made of those that were held together?

use bytes::{BufMut, Bytes, BytesMut};
use waystation_base::{Message, Name, Value, message::header};
use waystation_host::Delivery;

use super::{
    groups::End,
    says::{END, GROUP, PARENTS, PARENTS_MAX, SIZE, Says},
};
use crate::{Fault, Program, Tools, limits::AGGREGATE_BYTES_MAX, packet::Packet};

/// Headers of a reply that say nothing of what it answers.
const OF_REQUESTS: &[&str] = &[header::REPLY_TO];

/// What belongs together.
pub struct Whole<'a> {
    pub key: &'a str,
    pub end: End,
    /// The request that the members answer.
    pub opener: Option<&'a Delivery>,
    pub members: Vec<&'a Delivery>,
}

/// A held message as it was before it was held.
pub fn unheld(delivery: &Delivery) -> Message {
    let mut message = delivery.message.clone();
    Says::strip(&mut message.headers);
    message
}

/// One message of them. It takes its headers and key from the request, or else from the first; its body is the list of theirs, or what the
/// step's program makes of that.
pub async fn combine(
    program: &Program,
    tools: &Tools,
    body: Option<&waystation_jq::Program>,
    address: &Name,
    whole: &Whole<'_>,
) -> Result<Packet, Fault> {
    let list = list(address, &whole.members).await?;
    let all = whole.opener.into_iter().chain(whole.members.iter().copied());
    let Some(first) = all.clone().next() else {
        return Err(Fault::invalid("there is nothing to make a message of"));
    };
    let mut message = unheld(first);
    // What came last made it whole: that is its cause.
    message.id = all.clone().last().unwrap_or(first).message.id;
    OF_REQUESTS.iter().for_each(|name| message.headers.remove(name));
    describe(&mut message, whole, all);
    let input = match whole.opener {
        None => list.clone(),
        Some(opener) => {
            let request = Packet::new(address.clone(), unheld(opener)).json().await?;
            Bytes::from([b"{\"request\":", &request[..], b",\"replies\":", &list[..], b"}"].concat())
        }
    };
    let mut packet = Packet::new(address.clone(), message);
    let json = match body {
        None => list,
        Some(body) => {
            let mut outputs = tools.jq(body, &packet, input, &program.limits).await?;
            match (outputs.pop(), outputs.is_empty()) {
                (Some(one), true) => one,
                _ => return Err(Fault::invalid("the program for 'body' must give one output")),
            }
        }
    };
    packet.replace(json);
    Ok(packet)
}

async fn list(address: &Name, members: &[&Delivery]) -> Result<Bytes, Fault> {
    let mut list = BytesMut::from(&b"["[..]);
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            list.put_u8(b',');
        }
        list.extend_from_slice(&Packet::new(address.clone(), unheld(member)).json().await?);
        if list.len() > AGGREGATE_BYTES_MAX {
            return Err(Fault::limit(format!(
                "what belongs together has more than {AGGREGATE_BYTES_MAX} bytes"
            )));
        }
    }
    list.put_u8(b']');
    Ok(list.freeze())
}

fn describe<'a>(message: &mut Message, whole: &Whole<'_>, all: impl Iterator<Item = &'a Delivery>) {
    let parents = all.take(PARENTS_MAX).map(|it| Value::from(it.message.id.to_string())).collect();
    let headers = &mut message.headers;
    headers.set(PARENTS, Value::List(parents));
    headers.set(SIZE, whole.members.len() as i64);
    headers.set(END, whole.end.word());
    headers.set(GROUP, whole.key);
}
