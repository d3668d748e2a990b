//! Is each message told of as if it had a fact of its own, whichever messages are told of together?

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use waystation_base::{
    EntityId, Headers, Message, Position,
    batch::{self, Encoder, Scratch},
    os::OsDisk,
};
use waystation_broker::{entry::Step, place::LogId};
use waystation_journal::record::Store;

use super::*;
use crate::{
    block::Block,
    fact::{Fate, Place},
    publish::{Before, Sought, Stored, Wanted},
    recent::Recent,
    rules::Terms,
    shelf::Shelf,
};

const LOG: LogId = LogId { entity: EntityId(3), log: 1 };
const NOW: Millis = Millis(1_700_000_000_000);
/// One in the last byte of an id.
const ONE: u128 = 1 << 48;

type Facts = BTreeMap<Place, Vec<Fact>>;

/// How a message differs from the one before it.
#[derive(Clone, Debug)]
struct Differs {
    offsets: u64,
    ids: u128,
    bytes: usize,
    says: u8,
    delay: Option<u64>,
}

fn differs() -> impl Strategy<Value = Differs> {
    let mostly = |value: u64, other: std::ops::Range<u64>| prop_oneof![20 => Just(value), 1 => other];
    let delay = prop_oneof![20 => Just(None), 1 => (1..3u64).prop_map(Some)];
    let says = prop_oneof![20 => Just(0u8), 1 => 1..3u8];
    (mostly(1, 1..400), mostly(1, 0..300), 0..200usize, says, delay).prop_map(
        |(offsets, ids, bytes, says, delay)| Differs { offsets, ids: ids.into(), bytes, says, delay },
    )
}

fn messages(all: &[Differs]) -> Vec<(Offset, Message)> {
    let (mut offset, mut id) = (0, 200);
    let message = |it: &Differs| {
        (offset, id) = (offset + it.offsets, id + it.ids);
        let headers = match it.says {
            0 => vec![],
            said => vec![("correlation-id".into(), format!("c-{said}").as_str().into())],
        };
        let message = Message {
            id: MessageId::new(NOW, id * ONE),
            headers: Headers(headers),
            body: Bytes::from(vec![b'x'; it.bytes]),
            deliver_at: it.delay.map(|ms| NOW.plus(ms)),
            ..Message::default()
        };
        (Offset(offset), message)
    };
    all.iter().map(message).collect()
}

/// Facts of messages, each told with those before it if it may be, or each by itself; and other facts about some of them between batches.
fn recent(messages: &[(Offset, Message)], together: bool) -> Recent {
    let mut recent = Recent::begin(Position(0));
    let name = waystation_base::Name::new("q").expect("a name");
    let terms = Terms::of(&[], Some(&name), false, None);
    for part in messages.chunks(600) {
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        let mut encoder = Encoder::new(&mut out, &mut scratch, part[0].0, NOW);
        for (offset, message) in part {
            encoder.push(*offset, message);
        }
        encoder.finish();
        let mut shared = Before::default();
        for record in batch::records(&out).expect("a batch") {
            let record = record.expect("a record");
            let stored =
                Stored { record: &record, at: NOW, client: 3, step: Step::Request, fate: Fate::Stored };
            let place = Place { log: LOG, offset: record.offset };
            let mut alone = Before::default();
            let before = if together { &mut shared } else { &mut alone };
            recent.publish(place, &stored, &terms, before).expect("taken");
        }
        for (offset, _) in part.iter().step_by(3) {
            let what = What::Extended { held_ms: offset.0 };
            recent.push(
                Place { log: LOG, offset: *offset },
                &Fact { at: NOW, client: 3, subscription: None, what },
            );
        }
    }
    recent
}

fn add(facts: &mut Facts, place: Place, fact: Fact) {
    facts.entry(place).or_default().push(fact);
}

/// What is told of one message by a file, looked for as the record does.
fn in_file(shelf: &Shelf, place: Place) -> Vec<Fact> {
    let opened = shelf.open(1).expect("a file");
    assert!(opened.meta.may_hold(place));
    let mut facts = Vec::new();
    for number in opened.blocks_of(place) {
        let (first, bytes) = opened.table.block(number).expect("a block");
        facts.extend(Block::new(Place::of_key(first), &bytes, opened.meta.base).of(place));
    }
    facts
}

fn check(all: &[Differs]) -> Recent {
    let messages = messages(all);
    let (alone, together) = (recent(&messages, false), recent(&messages, true));
    let places: Vec<Place> = messages.iter().map(|(offset, _)| Place { log: LOG, offset: *offset }).collect();
    let (mut expected, mut lives) = (Facts::new(), Facts::new());
    alone.life(&places, |place, fact| add(&mut expected, place, fact));
    assert_eq!(expected.len(), messages.len());
    together.life(&places, |place, fact| add(&mut lives, place, fact));
    assert_eq!(lives, expected);
    assert_eq!((together.facts(), together.messages()), (alone.facts(), alone.messages()));
    for (offset, message) in &messages {
        let place = Place { log: LOG, offset: *offset };
        let found = together.find(&Wanted::of(&[Sought::id(message.id)]), 9);
        let meant: Vec<_> = found.iter().filter(|(at, _)| *at == place).collect();
        assert_eq!(meant, [&(place, expected[&place][0].clone())]);
    }
    for said in ["c-1", "c-2"] {
        let wanted = Wanted::of(&[Sought::text(said)]);
        assert_eq!(together.find(&wanted, usize::MAX), alone.find(&wanted, usize::MAX));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let shelf = Shelf::new(Store::open(Arc::new(OsDisk), dir.path()).expect("opened"));
    shelf.write(1, &together, Vec::new()).expect("written");
    for place in &places {
        assert_eq!(in_file(&shelf, *place), expected[place], "{place:?}");
    }
    let (mut meta, other) = (together.meta(Vec::new()), alone.meta(Vec::new()));
    meta.more_max = 0;
    assert_eq!(meta, other);
    together
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn messages_that_are_told_of_together_are_told_of_as_alone(all in prop::collection::vec(differs(), 1..900)) {
        check(&all);
    }
}

#[test]
fn what_differs_in_the_body_alone_is_one_fact_as_far_as_the_last_byte_of_the_id_goes() {
    let same = Differs { offsets: 1, ids: 1, bytes: 16, says: 1, delay: None };
    // The first id ends in 201.
    let recent = check(&vec![same; 400]);
    let told = 3;
    let others = 400usize.div_ceil(3);
    assert_eq!(recent.slots(), told + others);
    assert_eq!(recent.meta(Vec::new()).more_max, 255);
}
