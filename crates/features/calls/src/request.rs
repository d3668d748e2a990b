//! What is a request as a message: on the operation's queue, and as it is kept to be tried anew?
//!
//! A kept request is a message on the topic [`REQUESTS`], its key the call's sixteen bytes: body and headers as the caller gave
//! them, its own key and priority in headers. A message without body and headers says that it is wanted no more.

use std::collections::HashMap;

use tokio::sync::OnceCell;
use waystation_base::{Message, MessageId, Millis, Name, Offset, Tag, Value, message::header as known};
use waystation_broker::Refusal;
use waystation_host::{Broker, Browse, Target};

use crate::{
    CallId, Error, Record, ReplyTo, RetryAs, Start,
    names::{REPLIES, REQUESTS, header, own},
    record::{id_of, key_of},
};

/// Messages that are looked at together.
const PAGE: usize = 1_000;
/// Bytes of them.
const PAGE_BYTES: usize = 4 << 20;

/// The message for whoever works on it.
pub(crate) fn request(operation: &Name, start: &Start, deadline: Millis) -> Message {
    let id = start.id.to_string();
    let mut message = Message::new(start.id.0, start.now, start.body.clone());
    message.headers.0 = start.headers.clone();
    message.headers.set(known::MESSAGE_ID, id.as_str());
    message.headers.set(known::CORRELATION_ID, id.as_str());
    message.headers.set(known::REPLY_TO, REPLIES);
    if let Some(own) = &start.correlation_id {
        message.headers.set(header::CALLER_CORRELATION_ID, own.as_str());
    }
    message.headers.set(header::OPERATION, operation.as_str());
    message.headers.set(header::DEADLINE, Value::U64(deadline.0));
    message.key = start.key.clone();
    message.priority = start.priority;
    message.expires_at = Some(deadline);
    message
}

/// The message that keeps it.
pub(crate) fn kept(start: &Start) -> Message {
    let mut message = Message::new(start.id.0, start.now, start.body.clone());
    message.headers.0 = start.headers.clone();
    message.headers.set(header::KEPT_PRIORITY, Value::U8(start.priority));
    if let Some(key) = &start.key {
        message.headers.set(header::KEPT_KEY, Value::Bytes(key.clone()));
    }
    message.key = Some(key_of(start.id));
    message
}

/// The message that says that it is wanted no more.
pub(crate) fn dropped(id: CallId, now: Millis) -> Message {
    Message { key: Some(key_of(id)), ..Message::new(MessageId(id.0.0), now, "") }
}

/// A kept request as the start of another call.
fn again(mut message: Message, record: &Record, retry: RetryAs) -> Start {
    let priority = message.headers.get(header::KEPT_PRIORITY).and_then(Value::as_i64).unwrap_or_default();
    let key = match message.headers.get(header::KEPT_KEY) {
        Some(Value::Bytes(key)) => Some(key.clone()),
        _ => None,
    };
    message.headers.remove(header::KEPT_PRIORITY);
    message.headers.remove(header::KEPT_KEY);
    Start {
        id: retry.id,
        now: retry.now,
        caller: record.caller.clone(),
        body: message.body,
        headers: message.headers.0,
        key,
        priority: u8::try_from(priority).unwrap_or_default(),
        callback: record.callback.clone(),
        correlation_id: record.correlation_id.clone(),
        reply: record.reply.as_ref().map(ReplyTo::anew),
        ..Start::default()
    }
}

/// Where requests are kept of calls that took no step before the last restart: their records do not say. Read once, when first
/// asked for.
pub(crate) type Older = OnceCell<HashMap<CallId, Offset>>;

/// The start of the call that tries a call's request anew.
pub(crate) async fn find(
    broker: &Broker,
    older: &Older,
    record: &Record,
    retry: RetryAs,
) -> Result<Start, Error> {
    let offset = match record.request {
        Some(offset) => offset,
        None => *older.get_or_try_init(|| scan(broker)).await?.get(&record.id).ok_or(Error::NoRequest)?,
    };
    let browse = Browse { from: Some(Tag::new(0, offset)), max: 1, bytes_max: 1, ..Browse::default() };
    let page = broker.browse(Target::Topic(own(REQUESTS)), browse).await?;
    let found = page.messages.into_iter().find(|found| id_of(found.message.key.as_ref()) == Some(record.id));
    let found = found.filter(|found| is_there(&found.message)).ok_or(Error::NoRequest)?;
    Ok(again(found.message, record, retry))
}

fn is_there(message: &Message) -> bool {
    message.headers.get(header::KEPT_PRIORITY).is_some()
}

async fn scan(broker: &Broker) -> Result<HashMap<CallId, Offset>, Refusal> {
    let (mut all, mut from) = (HashMap::new(), None::<Tag>);
    loop {
        let browse = Browse { from, max: PAGE, bytes_max: PAGE_BYTES, ..Browse::default() };
        let page = broker.browse(Target::Topic(own(REQUESTS)), browse).await?;
        for found in page.messages {
            let Some(id) = id_of(found.message.key.as_ref()) else { continue };
            match is_there(&found.message) {
                true => drop(all.insert(id, found.offset)),
                false => drop(all.remove(&id)),
            }
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_kept_of_a_request_makes_the_same_request_again() {
        let id = |number| CallId(MessageId::new(Millis(number), number.into()));
        let start = Start {
            id: id(1),
            now: Millis(1),
            body: "x".into(),
            headers: vec![("content-type".into(), "text/plain".into()), ("x-n".into(), Value::I32(3))],
            key: Some(Bytes::from_static(b"\xffk")),
            priority: 9,
            ..Start::default()
        };
        let record = crate::record::tests::record(id(1));
        let found = again(kept(&start), &record, RetryAs { id: id(2), now: Millis(5) });
        let expected = Start {
            id: id(2),
            now: Millis(5),
            caller: record.caller.clone(),
            callback: record.callback.clone(),
            ..start
        };
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        assert_eq!(id_of(dropped(id(1), Millis(1)).key.as_ref()), Some(id(1)));
    }
}
