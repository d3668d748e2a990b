//! Any frames in any order against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::{
    Content, ContentHeader, Frame, Whole,
    methods::{basic, channel, queue, tx},
};

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
        4 => (0..4u16, any::<bool>(), proptest::sample::select(vec![0, 1, 40, BODY_MAX, BODY_MAX + 1]))
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
