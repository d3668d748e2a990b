//! Where does the outcome of a call go that was started by a message: to the queue that its `reply-to` names, and as what?

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use waystation_base::{
    Message, MessageId, Millis, Name, Value,
    message::header as known,
    name::{DIRECT_REPLIES, DIRECT_REPLY_PREFIX},
    vhost,
};
use waystation_broker::Refusal;
use waystation_host::Broker;

use crate::{
    Error, Operation, Record, State,
    names::{header, own},
    outcome,
    record::cut,
};

/// What the names of queues begin with that got them from the server (AMQP 0-9-1 §1.7.2.1): nobody else uses such a queue.
const SERVER_NAMED: &str = "amq.gen-";

/// Whether the outcome has gone there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Replied {
    /// Not yet: the call has none.
    #[default]
    Pending,
    /// It was put there in the step in which the call ended.
    Sent,
    /// It could not be put there.
    Undeliverable,
}

/// Where the outcome goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// What the caller wrote.
    pub to: String,
    /// The queue that this is.
    pub queue: Name,
    /// How it went.
    #[serde(default)]
    pub state: Replied,
    /// Why it could not be put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ReplyTo {
    fn new(to: &str, queue: Name) -> ReplyTo {
        ReplyTo { to: to.to_owned(), queue, state: Replied::Pending, error: None }
    }

    /// The same for another call.
    pub(crate) fn anew(&self) -> ReplyTo {
        ReplyTo::new(&self.to, self.queue.clone())
    }

    /// It was put there, or could not be.
    pub(crate) fn note(&mut self, result: Result<(), &Refusal>) {
        (self.state, self.error) = match result {
            Ok(()) => (Replied::Sent, None),
            Err(refusal) => (Replied::Undeliverable, Some(cut(&refusal.to_string()))),
        };
    }
}

/// Reads the `reply-to` of a message that came by `intake`, and checks that it may be replied to. The server writes there with
/// its own hand: so only to queues that belong to a caller alone, and to those that the operation allows.
pub(crate) async fn resolve(
    broker: &Broker,
    operation: &Operation,
    intake: &Name,
    message: &Message,
) -> Result<Option<ReplyTo>, Error> {
    let Some(to) = message.headers.text(known::REPLY_TO).filter(|to| !to.is_empty()) else {
        return Ok(None);
    };
    if to.starts_with(DIRECT_REPLY_PREFIX) {
        return Ok(Some(ReplyTo::new(to, own(DIRECT_REPLIES))));
    }
    let refused = |why: &str| Error::ReplyTo(format!("'{}' {why}", cut(to)));
    let queue = Name::new(vhost::join(&vhost::of(intake.as_str()), to))
        .map_err(|error| refused(&error.to_string()))?;
    if !operation.may_reply_to(to) && !to.starts_with(SERVER_NAMED) {
        let found = broker.queue(queue.clone()).await;
        match found {
            Ok(info) if info.owner.is_some() => {}
            Ok(_) => {
                let why = "is no queue of the caller's alone; the operation's 'reply_allow' names those that may be replied to";
                return Err(refused(why));
            }
            Err(Refusal::NotFound { .. }) => return Err(refused("is no queue")),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(Some(ReplyTo::new(to, queue)))
}

/// The message for whoever called by one.
pub(crate) fn message(record: &Record, body: &Bytes, now: Millis) -> Option<(Name, Message)> {
    let reply = record.reply.as_ref()?;
    let (mut body, mut headers) = (body.clone(), Vec::new());
    let (status, error) = match (&record.result, &record.fault) {
        (Some(result), _) => {
            headers.extend(result.headers.iter().cloned());
            (result.status, record.last_error.clone())
        }
        (None, Some(fault)) => {
            body = problem(&outcome::problem(record, fault));
            headers.push((known::CONTENT_TYPE.to_owned(), "application/problem+json".to_owned()));
            (fault.status, Some(fault.detail.clone()))
        }
        (None, None) => (200, None),
    };
    let mut message = Message::new(MessageId(record.id.0.0), now, body);
    for (name, value) in headers {
        message.headers.set(name, value.as_str());
    }
    let id = record.id.to_string();
    message.headers.set(header::ID, id.as_str());
    message.headers.set(header::STATE, record.state.word());
    message.headers.set(header::STATUS, Value::U16(status));
    if let Some(error) = error.filter(|_| record.state != State::Succeeded) {
        message.headers.set(header::ERROR, error.as_str());
    }
    address(&mut message, reply, record.correlation_id.as_deref());
    Some((reply.queue.clone(), message))
}

/// The message for a caller whose request could not become a call.
pub(crate) fn refusal(reply: &ReplyTo, asked: &Message, error: &Error, now: Millis) -> Message {
    let status: u16 = if matches!(error, Error::TooLarge { .. }) { 413 } else { 422 };
    let detail = error.to_string();
    let text = serde_json::json!({
        "type": "urn:waystation:problem:call-refused", "title": "The message is no call", "status": status, "detail": detail,
    });
    let mut message = Message::new(asked.id, now, problem(&text));
    message.headers.set(known::CONTENT_TYPE, "application/problem+json");
    message.headers.set(header::STATUS, Value::U16(status));
    message.headers.set(header::ERROR, detail.as_str());
    address(&mut message, reply, asked.headers.text(known::CORRELATION_ID));
    message
}

fn problem(value: &Json) -> Bytes {
    value.to_string().into()
}

fn address(message: &mut Message, reply: &ReplyTo, correlation_id: Option<&str>) {
    if let Some(own) = correlation_id {
        message.headers.set(known::CORRELATION_ID, own);
    }
    if reply.queue.as_str() == DIRECT_REPLIES {
        message.headers.set(known::REPLY_TO, reply.to.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallId, Fault, ResultHead};

    fn record(reply: ReplyTo) -> Record {
        let id = CallId(MessageId::new(Millis(5), 7));
        let (reply, correlation_id) = (Some(reply), Some("mine".to_owned()));
        Record { reply, correlation_id, ..crate::record::tests::record(id) }
    }

    #[test]
    fn a_result_goes_as_the_worker_gave_it_under_the_callers_own_correlation_id() {
        let queue = Name::new("replies").expect("a name");
        let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
        let result = Some(ResultHead { status: 201, headers, bytes: 2 });
        let record = Record { state: State::Succeeded, result, ..record(ReplyTo::new("replies", queue)) };
        let (to, message) = super::message(&record, &"ok".into(), Millis(9)).expect("a reply");
        let text = |name: &str| message.headers.text(name).map(str::to_owned);
        assert_eq!((to.as_str(), &message.body[..]), ("replies", &b"ok"[..]));
        assert_eq!(text(known::CORRELATION_ID).as_deref(), Some("mine"));
        assert_eq!((text("content-type").as_deref(), text(header::ERROR)), (Some("text/plain"), None));
        assert_eq!(
            (text(header::ID), text(header::STATE).as_deref()),
            (Some(record.id.to_string()), Some("succeeded"))
        );
        assert_eq!(text(known::REPLY_TO), None);
    }

    #[test]
    fn without_a_result_the_problem_goes_and_a_direct_reply_says_to_whom() {
        let direct = ReplyTo::new("amq.rabbitmq.reply-to.x", own(DIRECT_REPLIES));
        let fault = Some(Fault::new(504, "call-expired", "too late"));
        let record = Record { state: State::Expired, fault, ..record(direct) };
        let (to, message) = super::message(&record, &Bytes::new(), Millis(9)).expect("a reply");
        let problem: Json = serde_json::from_slice(&message.body).expect("JSON");
        assert_eq!((to.as_str(), &problem["status"]), (DIRECT_REPLIES, &504.into()));
        assert_eq!(message.headers.text(header::ERROR), Some("too late"));
        assert_eq!(message.headers.text(known::REPLY_TO), Some("amq.rabbitmq.reply-to.x"));
        assert_eq!(super::message(&crate::record::tests::record(record.id), &Bytes::new(), Millis(9)), None);
    }
}
