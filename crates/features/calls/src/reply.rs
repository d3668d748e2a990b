//! What does a message on the reply queue say? Any queue client can send one; see [`crate::names::header`].

use waystation_base::{Message, Value, message::header as known};

use crate::{
    Answer, CallId, Progress,
    names::header::{ERROR, PROGRESS, STATUS},
    record::cut,
};

/// A reply, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// How far the worker is.
    Progress(Progress),
    /// The outcome.
    Answer(Answer),
}

/// The call that a reply belongs to.
pub(crate) fn call_of(message: &Message) -> Option<CallId> {
    message.headers.text(known::CORRELATION_ID)?.trim().parse().ok()
}

/// A header's whole number, whether it was sent as a number or as text.
fn number(message: &Message, name: &str) -> Option<i64> {
    let value = message.headers.get(name)?;
    Some(value.as_i64().or_else(|| value.as_str()?.trim().parse().ok()).unwrap_or(-1))
}

fn text(value: &Value) -> String {
    let mut plain = Vec::new();
    value.put_plain(&mut plain);
    String::from_utf8_lossy(&plain).into_owned()
}

/// Reads a reply. A status or number that is none becomes one that [`Answer::fault`] refuses.
pub(crate) fn read(message: &Message) -> Reply {
    if let Some(percent) = number(message, PROGRESS) {
        let note = (!message.body.is_empty()).then(|| cut(&String::from_utf8_lossy(&message.body)));
        return Reply::Progress(Progress { percent: Some(percent.clamp(0, 100) as u8), note });
    }
    let error = message.headers.get(ERROR).map(|value| cut(&text(value)));
    let default = if error.is_some() { 500 } else { 200 };
    let status = number(message, STATUS).unwrap_or(default);
    Reply::Answer(Answer {
        status: u16::try_from(status).unwrap_or(0),
        headers: headers(message),
        body: message.body.clone(),
        error,
    })
}

/// What a result keeps of a message's headers: its type and coding, and the sender's own.
pub(crate) fn headers(message: &Message) -> Vec<(String, String)> {
    const LEFT_OUT: [&str; 8] = [
        known::CORRELATION_ID,
        known::REPLY_TO,
        known::MESSAGE_ID,
        known::TYPE,
        STATUS,
        ERROR,
        known::TRACEPARENT,
        known::TRACESTATE,
    ];
    let kept = |name: &str| !LEFT_OUT.contains(&name) && !name.starts_with("ws-") && is_field_name(name);
    let is_text = |text: &str| text.bytes().all(|byte| (32..127).contains(&byte) || byte >= 128);
    let fields = message.headers.0.iter().filter(|(name, _)| kept(name));
    fields
        .map(|(name, value)| (name.to_ascii_lowercase(), text(value)))
        .filter(|(_, value)| is_text(value))
        .collect()
}

/// Whether it can be the name of an HTTP field (RFC 9110 §5.1), and is none that belongs to the connection or the framing.
pub(crate) fn is_field_name(name: &str) -> bool {
    const FRAMING: [&str; 7] =
        ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token) && !FRAMING.iter().any(|it| name.eq_ignore_ascii_case(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(headers: &[(&str, Value)], body: &'static [u8]) -> Reply {
        let mut message = Message { body: body.into(), ..Message::default() };
        for (name, value) in headers {
            message.headers.set(*name, value.clone());
        }
        read(&message)
    }

    #[test]
    fn a_plain_reply_is_a_success_with_its_own_headers() {
        let found = reply(
            &[
                ("content-type", "text/plain".into()),
                ("correlation-id", "x".into()),
                ("ws-routing-key", "r".into()),
                ("X-Colour", "blue".into()),
                ("x-count", Value::I32(3)),
                ("content-length", "9".into()),
                ("bad name", "x".into()),
                ("bad-value", "a\r\nb".into()),
            ],
            b"done",
        );
        let headers = [("content-type", "text/plain"), ("x-colour", "blue"), ("x-count", "3")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let answer = Answer { status: 200, headers, body: "done".into(), error: None };
        assert_eq!(found, Reply::Answer(answer));
    }

    #[test]
    fn status_and_error_say_how_it_went_as_number_or_text() {
        let status = |headers: &[(&str, Value)]| match reply(headers, b"") {
            Reply::Answer(answer) => (answer.status, answer.error),
            other => panic!("{other:?}"),
        };
        assert_eq!(status(&[(STATUS, Value::I32(201))]), (201, None));
        assert_eq!(status(&[(STATUS, "404".into())]), (404, None));
        assert_eq!(status(&[(ERROR, "no".into())]), (500, Some("no".into())));
        assert_eq!(status(&[(ERROR, "no".into()), (STATUS, "422".into())]), (422, Some("no".into())));
        assert_eq!(status(&[(STATUS, "soon".into())]), (0, None));
        assert_eq!(status(&[(STATUS, Value::I64(1 << 40))]), (0, None));
    }

    #[test]
    fn progress_is_no_outcome() {
        let progress = Progress { percent: Some(40), note: Some("half".into()) };
        assert_eq!(reply(&[(PROGRESS, "40".into())], b"half"), Reply::Progress(progress));
        let most = Progress { percent: Some(100), note: None };
        assert_eq!(reply(&[(PROGRESS, Value::I32(900))], b""), Reply::Progress(most));
    }
}
