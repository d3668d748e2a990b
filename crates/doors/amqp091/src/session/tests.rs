//! Scenarios of one connection.

mod model;

use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;
use waystation_base::{Attempt, Name, Offset, Tag, value::Value};
use waystation_broker::Source;

use super::*;
use crate::wire::{
    ContentHeader, Frame, Method,
    methods::{basic, channel, confirm, connection, queue, tx},
};

const BODY_MAX: usize = 1_000;

fn settings() -> Settings {
    Settings {
        channel_max: 3,
        frame_max: 131_072,
        heartbeat: 60,
        body_max: BODY_MAX as u64,
        mechanisms: "PLAIN".to_owned(),
        server_properties: Table::default(),
        certificate: None,
    }
}

/// A session, and what it wanted since the last look.
struct Desk {
    session: Session,
    actions: Vec<Action>,
}

impl Desk {
    fn new() -> Desk {
        let mut actions = Vec::new();
        let session = Session::start(settings(), &mut actions);
        Desk { session, actions }
    }

    /// With an open virtual host and channel 1.
    fn open() -> (Desk, ChannelKey) {
        Desk::open_as(Table::default())
    }

    /// The same for a client that says this about itself.
    fn open_as(client_properties: Table) -> (Desk, ChannelKey) {
        let mut desk = Desk::new();
        let start = connection::StartOk {
            client_properties,
            mechanism: "PLAIN".into(),
            response: Bytes::from_static(b"\0guest\0guest"),
            ..Default::default()
        };
        desk.say(0, start);
        desk.session.logged_in(Some("guest"), &mut desk.actions);
        desk.say(0, connection::TuneOk { channel_max: 3, frame_max: 131_072, heartbeat: 0 });
        desk.say(0, connection::Open { virtual_host: "/".into(), ..Default::default() });
        desk.session.entered(Ok(()), &mut desk.actions);
        let key = desk.channel(1);
        desk.actions.clear();
        (desk, key)
    }

    fn channel(&mut self, id: u16) -> ChannelKey {
        self.say(id, channel::Open::default());
        let opened = |action: &Action| if let Action::Opened(key) = action { Some(*key) } else { None };
        self.actions.iter().rev().find_map(opened).expect("opened")
    }

    fn say(&mut self, channel: u16, method: impl Into<Method>) {
        let frame = Frame::Method(ChannelId(channel), method.into());
        self.session.frame(frame, &mut self.actions);
    }

    fn publish(&mut self, body: &'static str) {
        self.say(1, basic::Publish { routing_key: "q".into(), ..Default::default() });
        let header = ContentHeader {
            class: 60,
            body_bytes: body.len() as u64,
            properties: Bytes::from_static(&[0, 0]),
        };
        self.session.frame(Frame::Header(ChannelId(1), header), &mut self.actions);
        if !body.is_empty() {
            let body = Frame::Body(ChannelId(1), Bytes::from_static(body.as_bytes()));
            self.session.frame(body, &mut self.actions);
        }
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The one method that was sent.
    #[track_caller]
    fn sent(&mut self) -> Method {
        let sent: Vec<Method> = self
            .take()
            .into_iter()
            .filter_map(|action| if let Action::Send(_, method) = action { Some(method) } else { None })
            .collect();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.into_iter().next().expect("one")
    }

    /// The channel was closed with this code and text.
    #[track_caller]
    fn channel_closed(&mut self, code: u16, text: &str) {
        let Method::ChannelClose(close) = self.sent() else { panic!("no channel.close") };
        assert_eq!((close.reply_code, close.reply_text.as_str()), (code, text));
    }

    fn confirms(&mut self) -> Vec<(u64, bool, bool)> {
        let mut told = Vec::new();
        self.session.tell_confirms(|_, it| told.push((it.seq.0, it.multiple, it.is_ack)));
        told
    }
}

fn held(offset: u64) -> Held {
    let source = Arc::new(Source::Queue(Name::new("q").expect("a name")));
    Held {
        source,
        tag: Tag::new(0, Offset(offset)),
        attempt: Attempt(1),
        consumer: Some(ConsumerKey(1)),
        timeout: None,
    }
}

fn offsets(held: &[Held]) -> Vec<u64> {
    held.iter().map(|held| held.tag.offset().0).collect()
}

fn tickets(actions: &[Action]) -> Vec<Ticket> {
    let ticket = |action: &Action| {
        if let Action::Publish(publishing) = action { Some(publishing.ticket) } else { None }
    };
    actions.iter().filter_map(ticket).collect()
}

#[test]
fn a_handshake_goes_from_start_to_open_and_nothing_is_skipped() {
    let mut desk = Desk::new();
    assert!(matches!(desk.sent(), Method::ConnectionStart(_)));
    desk.say(0, connection::Open::default());
    let Method::ConnectionClose(close) = desk.sent() else { panic!("no close") };
    assert_eq!(close.reply_text, "CHANNEL_ERROR - unexpected method in connection state starting");
    assert!(desk.session.is_ending());
    desk.say(0, connection::CloseOk {});
    assert_eq!(desk.take(), [Action::Hangup]);
}

#[test]
fn a_refused_login_is_told_only_to_clients_that_understand_it() {
    let mut desk = Desk::new();
    let start = connection::StartOk {
        mechanism: "PLAIN".into(),
        response: Bytes::from_static(b"\0a\0b"),
        ..Default::default()
    };
    desk.say(0, start);
    assert!(desk.session.is_waiting());
    desk.take();
    desk.session.logged_in(None, &mut desk.actions);
    assert_eq!(desk.take(), [Action::Hangup]);
}

#[test]
fn what_comes_behind_an_unanswered_request_waits_for_it_in_order() {
    let (mut desk, key) = Desk::open();
    desk.say(1, queue::Declare { queue: "a".into(), ..Default::default() });
    desk.publish("one");
    desk.say(1, queue::Purge::default());
    let actions = desk.take();
    assert!(
        matches!(&actions[..], [Action::Call(_, Call::Topology(Method::QueueDeclare(_)))]),
        "{actions:?}"
    );
    assert_eq!(desk.session.backlog().0, 2);
    // Another channel is not held up.
    desk.channel(2);
    desk.take();
    let answer = Answer::Queue { name: "a".into(), messages: 0, consumers: 0 };
    desk.session.answered(key, answer, &mut desk.actions);
    let actions = desk.take();
    let [Action::Send(_, Method::QueueDeclareOk(_)), Action::Publish(publishing)] = &actions[..] else {
        panic!("{actions:?}")
    };
    desk.session.published(publishing.ticket, true, &mut desk.actions);
    let actions = desk.take();
    let [Action::Call(_, Call::Topology(Method::QueuePurge(purge)))] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(purge.queue, "a", "the queue that was declared last");
    assert_eq!(desk.session.backlog(), (0, 0));
}

#[test]
fn an_error_closes_the_channel_drops_what_waited_and_gives_back_what_was_held() {
    let (mut desk, key) = Desk::open();
    desk.session.deliver(key, Some(held(7)));
    desk.session.deliver(key, Some(held(8)));
    desk.say(1, basic::Get { queue: "nope".into(), ..Default::default() });
    desk.publish("lost");
    desk.take();
    let resource = Resource::queue(&"/".into(), "nope");
    desk.session.answered(key, Answer::Failed(Failure::not_found(&resource)), &mut desk.actions);
    let actions = desk.take();
    let [Action::Ended(remains), Action::Send(_, Method::ChannelClose(close))] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(offsets(&remains.held), [7, 8]);
    assert_eq!((close.class_id, close.method_id), (60, 70));
    assert_eq!(close.reply_text, "NOT_FOUND - no queue 'nope' in vhost '/'");
    // Nothing is done for it until the client has agreed; then its number is free.
    desk.publish("ignored");
    assert!(desk.take().is_empty() && !desk.session.is_open(key));
    desk.say(1, channel::CloseOk {});
    assert_ne!(desk.channel(1), key);
}

#[test]
fn acknowledgements_take_what_they_name_and_an_unknown_tag_closes_the_channel() {
    let (mut desk, key) = Desk::open();
    for offset in 1..=5 {
        desk.session.deliver(key, Some(held(offset)));
    }
    desk.say(1, basic::Ack { delivery_tag: 2, multiple: false });
    desk.say(1, basic::Nack { delivery_tag: 4, multiple: true, requeue: true });
    desk.say(1, basic::Reject { delivery_tag: 5, requeue: false });
    let settled: Vec<(Vec<u64>, Verdict)> = desk
        .take()
        .iter()
        .map(|action| match action {
            Action::Settle(_, held, verdict) => (offsets(held), *verdict),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        [(vec![2], Verdict::Accepted), (vec![1, 3, 4], Verdict::Requeued), (vec![5], Verdict::Rejected)];
    assert_eq!(settled, expected);
    desk.say(1, basic::Ack { delivery_tag: 5, multiple: false });
    desk.channel_closed(406, "PRECONDITION_FAILED - unknown delivery tag 5");
}

#[test]
fn confirms_are_told_in_few_frames_and_not_on_a_channel_that_is_gone() {
    let (mut desk, _) = Desk::open();
    desk.say(1, confirm::Select::default());
    for _ in 0..4 {
        desk.publish("m");
    }
    let tickets = tickets(&desk.take());
    for (at, is_ack) in [(1, true), (0, true), (3, false)] {
        desk.session.published(tickets[at], is_ack, &mut desk.actions);
    }
    assert_eq!(desk.confirms(), [(2, true, true)]);
    desk.session.published(tickets[2], false, &mut desk.actions);
    assert_eq!(desk.confirms(), [(4, true, false)]);
    desk.publish("m");
    let ticket = super::tests::tickets(&desk.take())[0];
    desk.session.fail(ticket.channel, Failure::precondition("so"), &mut desk.actions);
    desk.say(1, channel::CloseOk::default());
    desk.channel(1);
    desk.session.published(ticket, true, &mut desk.actions);
    assert_eq!(desk.confirms(), []);
}

#[test]
fn what_has_an_answer_waits_for_the_publishes_before_it_and_what_has_none_does_not() {
    let (mut desk, key) = Desk::open();
    let seen = |desk: &mut Desk| {
        let name = |action| match action {
            Action::Send(_, method) => Some(method.name()),
            Action::Publish(_) => Some("published"),
            _ => None,
        };
        desk.take().into_iter().filter_map(name).collect::<Vec<_>>()
    };
    desk.take();
    desk.publish("m");
    desk.publish("m");
    let tickets = tickets(&desk.actions);
    desk.say(1, basic::Qos { prefetch_count: 1, ..Default::default() });
    desk.publish("behind");
    assert_eq!(seen(&mut desk), ["published", "published"]);
    desk.session.published(tickets[0], true, &mut desk.actions);
    assert_eq!(seen(&mut desk), Vec::<&str>::new());
    desk.session.published(tickets[1], true, &mut desk.actions);
    assert_eq!(seen(&mut desk), ["basic.qos-ok", "published"]);
    // An error that a publish brings is told instead of what was asked behind it.
    desk.say(1, basic::Qos { prefetch_count: 2, ..Default::default() });
    desk.session.fail(key, Failure::access("internal"), &mut desk.actions);
    assert_eq!(seen(&mut desk), ["channel.close"]);
}

#[test]
fn a_transaction_is_carried_out_at_its_commit_and_undone_by_a_rollback() {
    let (mut desk, key) = Desk::open();
    desk.session.deliver(key, Some(held(1)));
    desk.say(1, tx::Select {});
    desk.take();
    desk.publish("m");
    desk.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    assert!(desk.take().is_empty(), "nothing yet");
    desk.say(1, tx::Rollback {});
    assert!(matches!(desk.sent(), Method::TxRollbackOk(_)));
    desk.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    desk.say(1, tx::Commit {});
    let actions = desk.take();
    let [Action::Call(_, Call::Commit(transaction))] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((transaction.publishes.len(), transaction.settlements.len()), (0, 1));
}

#[test]
fn what_was_acknowledged_and_never_committed_comes_back_with_the_channel() {
    let (mut desk, key) = Desk::open();
    desk.say(1, tx::Select {});
    for offset in 1..=3 {
        desk.session.deliver(key, Some(held(offset)));
    }
    desk.say(1, basic::Ack { delivery_tag: 2, multiple: true });
    desk.take();
    desk.say(1, channel::Close::default());
    let actions = desk.take();
    let [Action::Ended(remains), Action::Send(_, Method::ChannelCloseOk(_))] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(offsets(&remains.held), [1, 2, 3]);
}

#[test]
fn confirms_and_transactions_do_not_mix() {
    let (mut desk, _) = Desk::open();
    desk.say(1, confirm::Select { no_wait: true });
    desk.say(1, tx::Select {});
    desk.channel_closed(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode");
    let (mut desk, _) = Desk::open();
    desk.say(1, tx::Select {});
    desk.take();
    desk.say(1, confirm::Select::default());
    desk.channel_closed(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode");
    let (mut desk, _) = Desk::open();
    desk.say(1, tx::Commit {});
    desk.channel_closed(406, "PRECONDITION_FAILED - channel is not transactional");
}

#[test]
fn a_channel_holds_no_more_than_its_own_prefetch() {
    let (mut desk, key) = Desk::open();
    desk.say(1, basic::Qos { prefetch_size: 0, prefetch_count: 2, global: true });
    (0..2).for_each(|offset| _ = desk.session.deliver(key, Some(Held { consumer: None, ..held(offset) })));
    let by_consumer = |offset| Some(Held { consumer: Some(ConsumerKey(1)), ..held(offset) });
    assert!(desk.session.may_deliver(key), "what was got by itself does not count");
    desk.session.deliver(key, by_consumer(2));
    assert!(desk.session.may_deliver(key));
    desk.session.deliver(key, by_consumer(3));
    assert!(!desk.session.may_deliver(key));
    desk.say(1, basic::Ack { delivery_tag: 3, multiple: false });
    assert!(desk.session.may_deliver(key));
    // What is acknowledged in a transaction counts until its commit.
    desk.session.deliver(key, by_consumer(4));
    assert!(!desk.session.may_deliver(key));
    desk.say(1, tx::Select {});
    desk.say(1, basic::Ack { delivery_tag: 5, multiple: true });
    assert!(!desk.session.may_deliver(key));
    desk.say(1, tx::Commit {});
    assert!(desk.session.may_deliver(key));
}

#[test]
fn a_queue_that_is_left_out_is_the_one_declared_last_if_there_is_one() {
    let (mut desk, key) = Desk::open();
    desk.say(1, basic::Consume::default());
    desk.channel_closed(404, "NOT_FOUND - no previously declared queue");
    let _ = key;
    let (mut desk, key) = Desk::open();
    desk.say(1, queue::Declare::default());
    let answer = Answer::Queue { name: "amq.gen-1".into(), messages: 0, consumers: 0 };
    desk.session.answered(key, answer, &mut desk.actions);
    desk.take();
    desk.say(1, queue::Bind { exchange: "e".into(), ..Default::default() });
    let actions = desk.take();
    let [Action::Call(_, Call::Topology(Method::QueueBind(bind)))] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((bind.queue.as_str(), bind.routing_key.as_str()), ("amq.gen-1", "amq.gen-1"));
}

#[test]
fn who_deletes_a_queue_that_he_consumes_from_hears_first_that_it_is_gone() {
    let capability = Value::Map(vec![("consumer_cancel_notify".into(), Value::Bool(true))]);
    let (mut open, key) = Desk::open_as(Table(vec![("capabilities".into(), capability)]));
    for tag in ["a", "b"] {
        open.say(1, basic::Consume { queue: "q".into(), consumer_tag: tag.into(), ..Default::default() });
        let answer = Answer::Consuming { tag: tag.into(), key: ConsumerKey(1) };
        open.session.answered(key, answer, &mut open.actions);
    }
    open.take();
    open.session.consumer_ended(key, "a", &mut open.actions);
    assert!(matches!(open.sent(), Method::BasicCancel(_)));
    open.say(1, queue::Delete { queue: "q".into(), ..Default::default() });
    open.take();
    open.session.consumer_ended(key, "b", &mut open.actions);
    assert!(open.take().is_empty());
    open.session.answered(key, Answer::Done(queue::DeleteOk::default().into()), &mut open.actions);
    let actions = open.take();
    let [Action::Send(_, Method::QueueDeleteOk(_)), Action::Send(_, Method::BasicCancel(cancel))] =
        &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(cancel.consumer_tag, "b");
}

#[test]
fn a_transaction_past_its_bound_closes_the_channel() {
    let (mut desk, key) = Desk::open();
    desk.say(1, tx::Select {});
    desk.take();
    for _ in 0..crate::limits::TRANSACTION_PARTS_MAX {
        desk.publish("");
    }
    assert!(desk.take().is_empty() && desk.session.is_open(key));
    desk.publish("");
    assert!(!desk.session.is_open(key));
    desk.take();
}
