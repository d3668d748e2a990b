//! Blocks of record files: any bytes give facts, or an error and an end; what was read is written so that it reads the same.

use waystation_base::{Attempt, EntityId, MessageId, Millis, Offset};
use waystation_broker::{
    entry::{Reason, Step},
    place::LogId,
};
use waystation_record::{
    ATTRIBUTES_MAX, Alike, Attribute, Block, Fact, Fate, Place, Published, What, put_key,
};

use crate::Target;

pub const TARGET: Target = Target { name: "record-block", seeds, run };

const BASE: Millis = Millis(1_700_000_000_000);
const FIRST: Place = Place { log: LogId { entity: EntityId(3), log: 0 }, offset: Offset(7) };

fn seeds() -> Vec<Vec<u8>> {
    let published = Published {
        id: MessageId::new(BASE, 5),
        bytes: 100,
        step: Step::Request,
        fate: Fate::Told,
        delay_ms: Some(5),
        life_ms: Some(90_000),
        attributes: vec![
            (Attribute::CorrelationId, "c-1".into()),
            (Attribute::Business, "order=4711".into()),
        ],
    };
    let whats = [
        What::Published(published),
        What::Handed { attempt: Attempt(1), held_ms: 30_000 },
        What::Returned { attempt: Attempt(1), delay_ms: 100, step: Step::Gone },
        What::Extended { held_ms: 5 },
        What::Condemned { reason: Reason::Rejected, attempt: Attempt(2), error: Some("bad".into()) },
        What::Done { reason: Reason::DeadLettered, step: Step::Dispatch },
    ];
    let mut bytes = Vec::new();
    let mut before = FIRST;
    for (n, what) in whats.into_iter().enumerate() {
        let offset = Offset(FIRST.offset.0 + n as u64 / 2);
        let place = if n == 5 {
            Place { log: LogId { entity: EntityId(4), log: 1 }, offset }
        } else {
            Place { offset, ..FIRST }
        };
        put_key(&mut bytes, before, place);
        let subscription = (n % 2 == 1).then_some(EntityId(9));
        Fact { at: Millis(BASE.0 + n as u64), client: n as u32, subscription, what }.put(&mut bytes, BASE);
        before = place;
    }
    vec![bytes, together()]
}

/// Three messages that are told of by one fact.
fn together() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_key(&mut bytes, FIRST, FIRST);
    let more_at = bytes.len() + 4;
    let what = What::Published(Published {
        id: MessageId::new(BASE, 5),
        bytes: 100,
        step: Step::Request,
        fate: Fate::Stored,
        delay_ms: None,
        life_ms: None,
        attributes: Vec::new(),
    });
    Fact { at: BASE, client: 0, subscription: None, what }.put(&mut bytes, BASE);
    bytes[more_at] = 2;
    // One byte more, one byte less.
    bytes.extend([2, 1]);
    assert_eq!(read(&bytes).len(), 3);
    bytes
}

fn read(bytes: &[u8]) -> Vec<(Place, Fact)> {
    let each = |(first, alike): (Place, Alike<'_>)| {
        (0..).map(move |steps| first.after(steps)).zip(alike).collect::<Vec<_>>()
    };
    Block::new(FIRST, bytes, BASE).map_while(Result::ok).flat_map(each).collect()
}

fn run(data: &[u8]) -> bool {
    let facts = read(data);
    let mut bytes = Vec::new();
    let mut before = FIRST;
    for (place, fact) in &facts {
        if let What::Published(published) = &fact.what {
            assert!(published.attributes.len() <= ATTRIBUTES_MAX);
        }
        put_key(&mut bytes, before, *place);
        fact.put(&mut bytes, BASE);
        before = *place;
    }
    // Texts past their bounds are cut when they are written, never when they are read.
    let again = read(&bytes);
    assert_eq!(again.len(), facts.len());
    assert!(again.iter().zip(&facts).all(|((a, _), (b, _))| a == b));
    !facts.is_empty()
}
