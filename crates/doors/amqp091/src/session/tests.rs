//! Scenarios of one connection, and any frames in any order against a model.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use smol_str::SmolStr;
use waystation_base::{Attempt, Name, Offset, Tag, value::Value};
use waystation_broker::Source;

use super::*;
use crate::wire::{
    Content, ContentHeader, Frame, Method, Whole,
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

/// One thing that a client, or the broker, does.
#[derive(Clone, Debug)]
enum Step {
    Say(u16, Method),
    Content(u16, usize),
    Header(u16, u64),
    /// A message whose three frames came at once.
    Whole(u16, basic::Publish, usize),
    Deliver(u16),
    /// Answer the oldest call of this channel.
    Answer(u16),
    /// Answer a publish: which of those open, and how.
    Confirm(usize, bool),
    Fail(u16),
}

fn any_method() -> impl Strategy<Value = Method> {
    let numbers = (0..8u64, any::<bool>());
    prop_oneof![
        8 => proptest::sample::select(Method::all().into_iter().filter(|it| it.numbers().0 != 10).collect::<Vec<_>>()),
        2 => proptest::sample::select(Method::all()),
        4 => Just(Method::ChannelOpen(channel::Open::default())),
        2 => Just(Method::ChannelCloseOk(channel::CloseOk {})),
        4 => numbers.prop_map(|(delivery_tag, multiple)| basic::Ack { delivery_tag, multiple }.into()),
        4 => Just(basic::Publish { routing_key: "q".into(), ..Default::default() }.into()),
        2 => Just(queue::Declare { queue: "q".into(), ..Default::default() }.into()),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let channel = 0..4u16;
    prop_oneof![
        10 => (channel.clone(), any_method()).prop_map(|(id, method)| Step::Say(id, method)),
        2 => (1..4u16, 0..40usize).prop_map(|(id, bytes)| Step::Content(id, bytes)),
        2 => (1..4u16, 0..40u64).prop_map(|(id, bytes)| Step::Header(id, bytes)),
        4 => (0..4u16, any::<bool>(), proptest::sample::select(vec![1, 40, BODY_MAX, BODY_MAX + 1]))
            .prop_map(|(id, immediate, bytes)| Step::Whole(id, basic::Publish { immediate, ..Default::default() }, bytes)),
        3 => (1..4u16).prop_map(Step::Deliver),
        6 => (1..4u16).prop_map(Step::Answer),
        3 => (0..5usize, any::<bool>()).prop_map(|(at, ack)| Step::Confirm(at, ack)),
        1 => (1..4u16).prop_map(Step::Fail),
    ]
}

/// What must hold whatever happens: a held message is settled, given back or still held, once; a channel that is gone hears
/// nothing; each publish is answered at most once.
#[derive(Default)]
struct Model {
    open: BTreeMap<u16, ChannelKey>,
    held: BTreeMap<u64, ChannelKey>,
    calls: BTreeMap<u16, (ChannelKey, Call)>,
    tickets: Vec<Ticket>,
    is_over: bool,
}

impl Model {
    fn settle(&mut self, key: ChannelKey, settled: &[Held]) {
        for offset in offsets(settled) {
            let owner = self.held.remove(&offset);
            assert_eq!(owner, Some(key), "a message is settled by who holds it, and once");
        }
    }

    fn see(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert!(!self.is_over, "{action:?} after the end");
            match action {
                Action::Opened(key) => assert_eq!(self.open.insert(key.id.0, key), None),
                Action::Ended(remains) => {
                    assert_eq!(self.open.remove(&remains.channel.id.0), Some(remains.channel));
                    self.settle(remains.channel, &remains.held);
                    assert!(!self.held.values().any(|key| *key == remains.channel), "all of it comes back");
                    self.calls.remove(&remains.channel.id.0);
                }
                Action::Settle(key, held, _) => {
                    assert_eq!(self.open.get(&key.id.0), Some(&key));
                    self.settle(key, &held);
                }
                Action::Call(key, call) => {
                    assert_eq!(self.open.get(&key.id.0), Some(&key));
                    if let Call::Commit(transaction) = &call {
                        let settled: Vec<Held> =
                            transaction.settlements.iter().map(|(_, held, _)| held.clone()).collect();
                        self.settle(key, &settled);
                    }
                    assert!(self.calls.insert(key.id.0, (key, call)).is_none(), "one call at a time");
                }
                Action::Publish(publishing) => {
                    let key = publishing.ticket.channel;
                    assert_eq!(self.open.get(&key.id.0), Some(&key));
                    self.tickets.push(publishing.ticket);
                }
                Action::Hangup => self.is_over = true,
                _ => {}
            }
        }
    }
}

fn answer(call: &Call, keys: &mut u64) -> Answer {
    *keys += 1;
    match call {
        Call::Topology(Method::QueueDeclare(declare)) => {
            Answer::Queue { name: declare.queue.clone(), messages: 0, consumers: 0 }
        }
        Call::Topology(_) => Answer::Done(queue::BindOk {}.into()),
        Call::Consume { .. } => {
            Answer::Consuming { tag: SmolStr::new(format!("t{keys}")), key: ConsumerKey(*keys) }
        }
        Call::ConsumeReplies { tag } => Answer::ConsumingReplies { tag: tag.clone(), address: "a".into() },
        Call::Cancel { tag, .. } => Answer::Cancelled { tag: tag.clone() },
        Call::Get(_) => Answer::Sent,
        Call::Commit(_) => Answer::Done(tx::CommitOk {}.into()),
    }
}

proptest! {
    #[test]
    fn whatever_is_said_messages_are_settled_once_and_the_gone_hear_nothing(steps in proptest::collection::vec(any_step(), 0..120)) {
        let (mut desk, key) = Desk::open();
        // It hears each whole message frame by frame, and wants the same.
        let (mut twin, _) = Desk::open();
        let mut model = Model::default();
        model.open.insert(1, key);
        let (mut next, mut keys) = (0, 0);
        for step in steps {
            let mut both = |hear: &mut dyn FnMut(&mut Desk)| [&mut desk, &mut twin].into_iter().for_each(hear);
            match step {
                Step::Say(id, method) => both(&mut |desk| desk.say(id, method.clone())),
                Step::Content(id, bytes) => {
                    let body = Frame::Body(ChannelId(id), Bytes::from(vec![0; bytes]));
                    both(&mut |desk| desk.session.frame(body.clone(), &mut desk.actions));
                }
                Step::Header(id, body_bytes) => {
                    let header = ContentHeader { class: 60, body_bytes, properties: Bytes::from_static(&[0, 0]) };
                    let header = Frame::Header(ChannelId(id), header);
                    both(&mut |desk| desk.session.frame(header.clone(), &mut desk.actions));
                }
                Step::Whole(id, publish, bytes) => {
                    let content = Content { properties: Bytes::from_static(&[0, 0]), body: Bytes::from(vec![0; bytes]) };
                    let whole = Whole { channel: ChannelId(id), publish, content };
                    desk.session.publish(whole.clone(), &mut desk.actions);
                    whole.into_frames().into_iter().for_each(|frame| twin.session.frame(frame, &mut twin.actions));
                }
                Step::Deliver(id) => if let Some(key) = model.open.get(&id).copied() {
                    next += 1;
                    both(&mut |desk| assert!(desk.session.deliver(key, Some(held(next))).is_some()));
                    model.held.insert(next, key);
                },
                Step::Answer(id) => if let Some((key, call)) = model.calls.remove(&id) {
                    let answer = answer(&call, &mut keys);
                    both(&mut |desk| desk.session.answered(key, answer.clone(), &mut desk.actions));
                },
                Step::Confirm(at, is_ack) => if !model.tickets.is_empty() {
                    let at = at % model.tickets.len();
                    let ticket = model.tickets.remove(at);
                    both(&mut |desk| {
                        desk.session.published(ticket, is_ack, &mut desk.actions);
                        let mut told = Vec::new();
                        desk.session.tell_confirms(|key, _| told.push(key));
                        assert!(told.iter().all(|key| model.open.get(&key.id.0) == Some(key)));
                    });
                },
                Step::Fail(id) => if let Some(key) = model.open.get(&id).copied() {
                    both(&mut |desk| desk.session.fail(key, Failure::precondition("so"), &mut desk.actions));
                },
            }
            prop_assert_eq!(format!("{:?}", desk.actions), format!("{:?}", twin.take()));
            model.see(desk.take());
            for (id, key) in &model.open {
                prop_assert_eq!(desk.session.is_busy(*key), model.calls.contains_key(id));
            }
        }
        let mut rest = Vec::new();
        desk.session.abandon(&mut rest);
        model.is_over = false;
        model.see(rest);
        prop_assert!(model.held.is_empty(), "nothing stays behind");
    }
}
