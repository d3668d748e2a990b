//! Does a message become one call, worked on like any other, whose outcome goes back to whoever sent it?

mod common;

use common::{PATIENCE, Running, complete, message, op, topic};
use tempfile::TempDir;
use waystation_base::{Message, Name, Value, message::header as known};
use waystation_broker::{
    Source,
    spec::{QueueSpec, Spec},
};
use waystation_calls::{
    CallId, Error, Filter, Operation, Replied, Seen, State,
    names::{self, header},
};

fn operation() -> Operation {
    Operation {
        intake: Some("op.requests".into()),
        reply_allow: vec!["shop.*".into()],
        ..Operation::default()
    }
}

async fn queue(running: &Running, name: &str, spec: QueueSpec) {
    running.broker.declare(op(name), Spec::Queue(spec), false, Default::default()).await.expect("declared");
}

fn asked(body: &str, correlation_id: &str, reply_to: Option<&str>) -> Message {
    let mut message = message(body);
    message.headers.set(known::CORRELATION_ID, correlation_id);
    message.headers.set("x-colour", "blue");
    if let Some(to) = reply_to {
        message.headers.set(known::REPLY_TO, to);
    }
    message
}

async fn ask(running: &Running, message: Message) {
    running.broker.publish(op("op.requests"), vec![message]).await.expect("published");
}

/// Calls with this correlation id, once there are so many.
async fn found(running: &Running, correlation_id: &str, count: usize) -> Vec<Seen> {
    let filter = Filter { correlation_id: Some(correlation_id.into()), max: 100, ..Filter::default() };
    let all = async {
        loop {
            let calls = running.calls.list(filter.clone()).await.expect("a page").calls;
            if calls.len() >= count {
                return calls;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("calls")
}

async fn the_call(running: &Running, correlation_id: &str) -> CallId {
    found(running, correlation_id, 1).await[0].id
}

#[tokio::test]
async fn a_message_is_a_call_and_its_outcome_goes_back_under_the_senders_own_correlation_id() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    queue(&running, "shop.replies", QueueSpec::default()).await;
    running.declare("op", operation()).await;
    ask(&running, asked("hello", "mine", Some("shop.replies"))).await;
    let id = the_call(&running, "mine").await;
    let work = running.receive("op").await.pop().expect("work");
    let request = &work.delivery.message;
    let text = |name: &str| request.headers.text(name).map(str::to_owned);
    assert_eq!((work.id, &request.body[..]), (id, &b"hello"[..]));
    assert_eq!(text(known::CORRELATION_ID), Some(id.to_string()));
    assert_eq!(text(known::REPLY_TO).as_deref(), Some(names::REPLIES));
    assert_eq!(text(header::CALLER_CORRELATION_ID).as_deref(), Some("mine"));
    assert_eq!(text("x-colour").as_deref(), Some("blue"));
    let pending = running.calls.show(id).await.expect("shown").record;
    assert_eq!(pending.reply.expect("an address").state, Replied::Pending);
    running.calls.change(id, complete(Some(1), 201, "done")).await.expect("completed");
    let call = running.outcome(id).await;
    assert_eq!((call.record.state, &call.body[..]), (State::Succeeded, &b"done"[..]));
    let reply = call.record.reply.expect("an address");
    assert_eq!((reply.state, reply.to.as_str()), (Replied::Sent, "shop.replies"));
    let reply = running.take("shop.replies").await.expect("a reply").message;
    assert_eq!(&reply.body[..], b"done");
    assert_eq!(reply.headers.text(known::CORRELATION_ID), Some("mine"));
    assert_eq!(reply.headers.text(header::ID), Some(id.to_string().as_str()));
    assert_eq!(reply.headers.get(header::STATUS), Some(&Value::U16(201)));
    assert_eq!(running.broker.queue(op("op.requests")).await.expect("a queue").in_flight, 0);
    running.crash().await;
}

#[tokio::test]
async fn each_message_is_one_call_with_one_reply_though_the_broker_crashes_again_and_again() {
    let dir = TempDir::new().expect("a folder");
    let mut running = Running::start(dir.path());
    queue(&running, "shop.replies", QueueSpec::default()).await;
    running.declare("op", operation()).await;
    let mut sent = 0;
    for round in 0..5 {
        for _ in 0..20 {
            ask(&running, asked(&sent.to_string(), &format!("id-{sent}"), Some("shop.replies"))).await;
            sent += 1;
        }
        // Some are calls by now, some are messages still; some are worked on.
        for _ in 0..round * 2 {
            let work = running.receive("op").await.pop().expect("work");
            running.calls.change(work.id, complete(None, 200, "ok")).await.expect("completed");
        }
        running.crash().await;
        running = Running::start(dir.path());
    }
    for number in 0..sent {
        let calls = found(&running, &format!("id-{number}"), 1).await;
        assert_eq!(calls.len(), 1, "id-{number}");
        if !calls[0].state.is_finished() {
            running.calls.change(calls[0].id, complete(None, 200, "ok")).await.expect("completed");
        }
    }
    let mut replies = Vec::new();
    for _ in 0..sent {
        let reply = running.take("shop.replies").await.expect("one reply for each").message;
        replies.push(reply.headers.text(known::CORRELATION_ID).expect("an id").to_owned());
    }
    replies.sort();
    replies.dedup();
    assert_eq!(replies.len(), sent);
    let queue = |name: &str| running.broker.queue(op(name));
    assert_eq!(queue("shop.replies").await.expect("a queue").ready, 0);
    assert_eq!(queue("op.requests").await.expect("a queue").ready, 0);
    running.crash().await;
}

#[tokio::test]
async fn an_outcome_counts_though_the_queue_for_it_is_gone() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    queue(&running, "shop.replies", QueueSpec::default()).await;
    running.declare("op", operation()).await;
    ask(&running, asked("x", "mine", Some("shop.replies"))).await;
    let id = the_call(&running, "mine").await;
    let delete = waystation_broker::command::Delete {
        kind: waystation_broker::Kind::Queue,
        name: op("shop.replies"),
        if_unused: false,
        if_empty: false,
        counted: Default::default(),
        session: Default::default(),
    };
    running.broker.delete(delete).await.expect("deleted");
    running.calls.change(id, complete(None, 200, "done")).await.expect("completed");
    let reply = running.outcome(id).await.record.reply.expect("an address");
    assert_eq!(reply.state, Replied::Undeliverable);
    assert!(reply.error.expect("a reason").contains("shop.replies"));
    running.crash().await;
}

#[tokio::test]
async fn a_reply_goes_only_where_it_may_and_what_is_no_call_is_kept_with_the_reason() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    for name in ["other", "shop.replies", "mine.alone"] {
        let session = running.broker.session();
        let exclusive = name == "mine.alone";
        let spec = QueueSpec { exclusive, durable: !exclusive, ..QueueSpec::default() };
        running.broker.declare(op(name), Spec::Queue(spec), false, session).await.expect("declared");
    }
    running.declare("op", Operation { body_bytes_max: 4, ..operation() }).await;
    ask(&running, asked("x", "exclusive", Some("mine.alone"))).await;
    the_call(&running, "exclusive").await;
    ask(&running, asked("x", "nobody", None)).await;
    the_call(&running, "nobody").await;
    for to in ["other", "nothing", "$calls.replies"] {
        ask(&running, asked("x", "refused", Some(to))).await;
    }
    ask(&running, asked("12345", "large", Some("shop.replies"))).await;
    let mut refused = Vec::new();
    while refused.len() < 4 {
        refused = topic(&running.broker, names::REFUSED).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let reasons: Vec<_> = refused
        .iter()
        .map(|it| it.message.headers.text(header::REFUSED).expect("a reason").to_owned())
        .collect();
    for expected in [
        "may have 4 bytes",
        "'other' is no queue of the caller's alone",
        "'nothing' is no queue",
        "'$calls.replies'",
    ] {
        assert!(reasons.iter().any(|it| it.contains(expected)), "{expected}: {reasons:?}");
    }
    let answer = running.take("shop.replies").await.expect("an answer").message;
    assert_eq!(answer.headers.get(header::STATUS), Some(&Value::U16(413)));
    assert_eq!(answer.headers.text(known::CORRELATION_ID), Some("large"));
    assert_eq!(running.broker.queue(op("other")).await.expect("a queue").ready, 0);
    assert_eq!(running.broker.queue(op("op.requests")).await.expect("a queue").ready, 0);
    running.crash().await;
}

#[tokio::test]
async fn an_intake_belongs_to_one_operation_and_goes_with_it() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", operation()).await;
    let declare = |name: &str, operation: Operation| {
        running.calls.declare(running.broker.clone(), op(name), operation, true)
    };
    for (field, wrong) in [
        ("intake", Operation { intake: Some("op.requests".into()), ..Operation::default() }),
        ("intake", Operation { intake: Some("op".into()), ..Operation::default() }),
        ("queue", Operation { queue: Some("op.requests".into()), ..Operation::default() }),
    ] {
        let refused = declare("other", wrong).await;
        assert!(matches!(&refused, Err(Error::Spec(error)) if error.field == field), "{refused:?}");
    }
    let moved = Operation { intake: Some("new.requests".into()), ..Operation::default() };
    declare("op", moved).await.expect("changed");
    ask(&running, asked("x", "old", None)).await;
    running.broker.publish(op("new.requests"), vec![asked("x", "new", None)]).await.expect("published");
    the_call(&running, "new").await;
    running.calls.remove(running.broker.clone(), op("op")).await.expect("removed");
    let source = |name: &str| Source::Queue(Name::new(name).expect("a name"));
    let consumed = async {
        for name in ["op.requests", "new.requests"] {
            while running.broker.queue(source(name).name().clone()).await.expect("a queue").consumers > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, consumed).await.expect("nobody listens any more");
    assert_eq!(running.broker.queue(op("op.requests")).await.expect("a queue").ready, 1);
    running.crash().await;
}
