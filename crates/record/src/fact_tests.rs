//! Do facts come back as they were written, and is anything else refused?

use proptest::prelude::*;

use super::*;
use crate::block::{Block, put_key};

fn take(bytes: &[u8]) -> Option<Fact> {
    Fact::take(&mut &bytes[..], BASE)?.next()
}

const BASE: Millis = Millis(1_700_000_000_000);

fn place(entity: u32, log: u16, offset: u64) -> Place {
    Place { log: LogId { entity: EntityId(entity), log }, offset: Offset(offset) }
}

fn facts() -> Vec<Fact> {
    let published = Published {
        id: MessageId::new(BASE, 77),
        bytes: 300,
        step: Step::Request,
        fate: Fate::Stored,
        delay_ms: Some(5),
        life_ms: None,
        attributes: Attribute::ALL.into_iter().map(|it| (it, SmolStr::new(format!("{it:?}")))).collect(),
    };
    let unrouted = |fate| What::Published(Published { fate, life_ms: Some(7), ..published.clone() });
    let whats = vec![
        What::Published(published.clone()),
        What::Handed { attempt: Attempt(3), held_ms: 30_000 },
        What::Returned { attempt: Attempt(3), delay_ms: 9, step: Step::Gone },
        What::Extended { held_ms: 1 },
        What::Condemned { reason: Reason::Rejected, attempt: Attempt(2), error: Some("bad".into()) },
        What::Condemned { reason: Reason::Attempts, attempt: Attempt(2), error: None },
        What::Done { reason: Reason::DeadLettered, step: Step::Dispatch },
        What::Failed { class: Some("busy".into()), error: None },
        unrouted(Fate::Dropped),
        unrouted(Fate::Told),
        What::Called { to: "https://shop".into(), status: Some(503), took_ms: 7, error: Some("busy".into()) },
        What::Called { to: "https://shop".into(), status: None, took_ms: 0, error: None },
    ];
    let fact = |(n, what)| Fact {
        at: Millis(BASE.0 + n as u64 * 7 - 3),
        client: n as u32,
        subscription: (n % 2 == 1).then_some(EntityId(9)),
        what,
    };
    whats.into_iter().enumerate().map(fact).collect()
}

#[test]
fn facts_of_a_block_come_back() {
    let places = [
        place(1, 0, 5),
        place(1, 0, 5),
        place(1, 0, 6),
        place(1, 0, 900),
        place(1, 2, 1),
        place(3, 0, 0),
        place(3, 0, u64::MAX - 1),
        place(3, 0, u64::MAX - 1),
        place(4, 0, 1),
        place(4, 0, 2),
        place(4, 0, 3),
        place(4, 0, 3),
    ];
    let mut bytes = Vec::new();
    let mut before = places[0];
    for (place, fact) in places.iter().zip(facts()) {
        put_key(&mut bytes, before, *place);
        fact.put(&mut bytes, BASE);
        before = *place;
    }
    let read: Vec<_> = Block::new(places[0], &bytes, BASE)
        .map(|fact| fact.map(|(place, alike)| (place, alike.collect::<Vec<_>>())).expect("a fact"))
        .collect();
    assert_eq!(read, places.into_iter().zip(facts().into_iter().map(|fact| vec![fact])).collect::<Vec<_>>());
}

#[test]
fn keys_order_as_places_do_and_come_back() {
    let places =
        [place(1, 0, 5), place(1, 0, 6), place(1, 1, 0), place(2, 0, 0), place(u32::MAX, u16::MAX, u64::MAX)];
    assert!(places.is_sorted_by_key(|place| place.key()));
    places.into_iter().for_each(|place| assert_eq!(Place::of_key(place.key()), place));
}

#[test]
fn long_texts_and_many_attributes_are_cut_at_their_bounds() {
    let long = "ä".repeat(ATTRIBUTE_BYTES_MAX);
    let fact = |count: usize| {
        let attributes = vec![(Attribute::Type, SmolStr::new(&long)); count];
        let mut published = facts().remove(0);
        let What::Published(it) = &mut published.what else { panic!("not published") };
        it.attributes = attributes;
        let mut bytes = Vec::new();
        published.put(&mut bytes, BASE);
        let Some(Fact { what: What::Published(it), .. }) = take(&bytes) else { panic!("no fact") };
        it.attributes
    };
    assert_eq!(fact(ATTRIBUTES_MAX).len(), ATTRIBUTES_MAX);
    assert_eq!(fact(ATTRIBUTES_MAX + 1).len(), ATTRIBUTES_MAX);
    assert_eq!(fact(1)[0].1.len(), ATTRIBUTE_BYTES_MAX);
    let error = Some("x".repeat(ERROR_BYTES_MAX + 1));
    let what = What::Condemned { reason: Reason::Rejected, attempt: Attempt(1), error };
    let mut bytes = Vec::new();
    Fact { at: BASE, client: 0, subscription: None, what }.put(&mut bytes, BASE);
    let read = take(&bytes).expect("a fact");
    let What::Condemned { error: Some(error), .. } = read.what else { panic!("{read:?}") };
    assert_eq!(error.len(), ERROR_BYTES_MAX);
}

proptest! {
    #[test]
    fn any_bytes_give_facts_or_an_error(bytes: Vec<u8>) {
        Block::new(place(1, 0, 5), &bytes, BASE).for_each(drop);
    }
}
