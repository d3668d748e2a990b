//! Entries come back from their bytes as they were, and no bytes do harm.

use proptest::prelude::*;

use super::*;
use crate::spec::QueueSpec;

fn check(entry: Entry<'_>) {
    let mut bytes = Vec::new();
    entry.write(&mut bytes);
    assert_eq!(read(entry.kind(), &bytes).expect("an entry"), entry);
}

#[test]
fn each_entry_comes_back() {
    let log = LogId { entity: EntityId(7), log: 300 };
    let item = |due| Item {
        log: 3,
        offset: 1 << 40,
        attempt: Attempt(2),
        bytes: 1000,
        due: Millis(due),
        client: ClientId(0),
    };
    let spec = Spec::Queue(QueueSpec { ttl_ms: Some(5), ..QueueSpec::default() });
    check(Entry::Declare(EntityId(1), Declaration { name: Name::new("a.b").expect("a name"), spec }));
    check(Entry::Delete(EntityId(1)));
    check(Entry::Take(EntityId(1), Millis::NEVER, vec![item(0), item(0)]));
    check(Entry::Take(EntityId(1), Millis(77), vec![]));
    check(Entry::Take(EntityId(1), Millis(77), vec![Item { client: ClientId(300), ..item(0) }]));
    check(Entry::Done(EntityId(1), Reason::Expired, 12, vec![(1, 2, 3), (4, 5, 6)]));
    check(Entry::Return(EntityId(1), vec![item(0), item(99)]));
    check(Entry::Dying(EntityId(1), Reason::Rejected, Some("bad".into()), item(0)));
    check(Entry::Dying(EntityId(1), Reason::Attempts, None, item(0)));
    check(Entry::Extend(EntityId(1), Millis(9), vec![(1, 2), (3, 4)]));
    check(Entry::Source(EntityId(1), 2, log, Offset(5)));
    check(Entry::Seek(EntityId(1), 2, Offset(5)));
    check(Entry::Trim(log, Offset(5)));
    let run = SettledRun {
        file: 1,
        log,
        first: Offset(1),
        last: Offset(2),
        messages: 2,
        bytes: 3,
        min_timestamp: Millis(4),
        max_timestamp: Millis(5),
    };
    check(Entry::Settled(Outcome { leaving: Leaving::Journal(Position(9)), runs: vec![run] }));
    check(Entry::Settled(Outcome { leaving: Leaving::Files(vec![1, 2]), runs: vec![] }));
    check(Entry::Count(EntityId(1), 3));
    let bound = |arguments: &str| Bound {
        route: EntityId(1),
        to: EntityId(2),
        key: "orders.#".into(),
        arguments: serde_json::from_str(arguments).expect("JSON"),
    };
    check(Entry::Bind(bound("{}")));
    check(Entry::Unbind(bound(r#"{"x-match": "any", "a": null}"#)));
    let document = |body| Entry::Document(Name::new("a/b").expect("a name"), body);
    check(document(None));
    check(document(Some(b"")));
    check(document(Some(b"text")));
    let fault = |class, text| Fault::of(class, text).unwrap_or_default();
    check(Entry::Failed(EntityId(1), fault(Some("busy"), Some("no room")), vec![(1, 2), (3, 4)]));
    check(Entry::Failed(EntityId(1), fault(None, Some("no room")), vec![(1, 2)]));
    check(Entry::Failed(EntityId(1), fault(None, None), vec![]));
    check(Entry::Tenant(EntityId(1), 127, "acme".into()));
    assert!(read(kind::TENANT, &[1, 0x80, 1]).is_err(), "slots end with TENANTS_MAX");
    check(Entry::Unrouted(Unrouted { route: EntityId(4), told: true, omitted: 300, batch: b"batch" }));
    check(Entry::Moment(Moment { at: Millis(1 << 40), client: ClientId(70_000), step: Step::Timer }));
    let client = Client { id: ClientId(7), door: "test", address: "[::1]:1", user: "shop", name: "" };
    check(Entry::Client(client));
}

#[test]
fn a_take_of_a_version_that_did_not_tell_to_whom_is_read() {
    let mut bytes = Vec::new();
    put(&mut bytes, 1);
    put(&mut bytes, 77);
    let item =
        Item { log: 3, offset: 9, attempt: Attempt(2), bytes: 10, due: Millis(0), client: ClientId(0) };
    put_item(&mut bytes, &item);
    let entry = read(kind::TAKE, &bytes).expect("an entry");
    assert_eq!(entry, Entry::Take(EntityId(1), Millis(77), vec![item]));
}

proptest! {
    #[test]
    fn any_bytes_give_an_entry_or_an_error(kind in 0u8..24, bytes: Vec<u8>) {
        let _ = read(kind, &bytes);
    }
}

#[test]
fn every_kind_has_a_name() {
    let named: Vec<u8> = (0..=u8::MAX).filter(|kind| kind_name(*kind).is_some()).collect();
    assert_eq!(named, (kind::DECLARE..=kind::UNROUTED).collect::<Vec<_>>());
}
