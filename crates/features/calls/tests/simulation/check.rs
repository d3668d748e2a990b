//! What must be true at the end of a story, as the journal has it.

use std::collections::{BTreeMap, HashMap, HashSet};

use waystation_base::Name;
use waystation_calls::{
    CallId, Error, Filter, Record, State,
    names::{CALLBACKS, CALLS, INDEX, LATE, header::WEBHOOK_ID},
};
use waystation_host::{Browse, Delivery, Target};

use crate::world::{DEAD, OPERATIONS, World, name};

/// What happened in a story, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub outcomes: BTreeMap<String, u64>,
    pub crashes: u64,
    pub late: u64,
    pub replayed: u64,
    pub retried: u64,
    pub forgotten: u64,
    pub read_at_start: u64,
    pub pages: u64,
    /// All that was written of calls, in order.
    trail: Vec<String>,
}

impl Account {
    pub fn add(&mut self, other: &Account) {
        for (state, count) in &other.outcomes {
            *self.outcomes.entry(state.clone()).or_default() += count;
        }
        self.crashes += other.crashes;
        self.late += other.late;
        self.replayed += other.replayed;
        self.retried += other.retried;
        self.forgotten += other.forgotten;
        self.read_at_start += other.read_at_start;
        self.pages += other.pages;
    }
}

async fn all(world: &World, target: Target) -> Vec<Delivery> {
    let browse = Browse { max: 100_000, bytes_max: 64 << 20, ..Browse::default() };
    world.life().broker.browse(target, browse).await.expect("browsed").messages
}

async fn topic(world: &World, name: &str) -> Vec<Delivery> {
    all(world, Target::Topic(Name::reserved(name).expect("a name"))).await
}

/// The records of each call, in order; and those that were forgotten.
type Records = (HashMap<CallId, Vec<(Record, String)>>, HashSet<CallId>);

fn records(found: &[Delivery]) -> Records {
    let (mut records, mut forgotten) = (HashMap::<CallId, Vec<_>>::new(), HashSet::new());
    for delivery in found {
        let body = &delivery.message.body;
        if body.is_empty() {
            forgotten.insert(CallId(delivery.message.id));
            continue;
        }
        let end = body.iter().position(|byte| *byte == b'\n').expect("a line");
        let record: Record = serde_json::from_slice(&body[..end]).expect("a record");
        records
            .entry(record.id)
            .or_default()
            .push((record, String::from_utf8_lossy(&body[end + 1..]).into_owned()));
    }
    (records, forgotten)
}

/// Waits until every call has its outcome: they expire.
async fn settle(world: &World) {
    loop {
        let page =
            world.life().calls.list(Filter { max: 10_000, ..Filter::default() }).await.expect("a page");
        let Some(open) = page.calls.iter().find(|seen| !seen.state.is_finished()) else { return };
        let ended = world.life().calls.wait(open.id, None, std::time::Duration::from_secs(5)).await;
        assert!(matches!(ended, Ok(true) | Err(Error::Gone)), "{world}: {} never ended: {ended:?}", open.id);
    }
}

pub async fn check(mut world: World) -> Account {
    settle(&world).await;
    world.restart().await;
    let found = topic(&world, CALLS).await;
    let (records, forgotten) = records(&found);
    check_outcomes(&world, &records);
    check_told(&world, &records);
    check_callbacks(&world, &records).await;
    check_index(&world, &records, &forgotten).await;
    check_dead_letters(&world, &records).await;
    let mut account = Account {
        crashes: world.crashes,
        late: topic(&world, LATE).await.len() as u64,
        forgotten: forgotten.len() as u64,
        read_at_start: world.read_at_start,
        pages: topic(&world, INDEX).await.len() as u64,
        replayed: world.told.lock().expect("nobody failed").replayed,
        trail: found.iter().map(|it| format!("{} {:?}", it.offset, it.message)).collect(),
        ..Account::default()
    };
    for state in State::ALL.into_iter().filter(|state| state.is_finished()) {
        let has = |all: &&Vec<(Record, String)>| all.last().is_some_and(|(record, _)| record.state == state);
        account.outcomes.insert(state.to_string(), records.values().filter(has).count() as u64);
    }
    account.retried = records.values().filter(|all| all[0].0.retry_of.is_some()).count() as u64;
    account
}

/// Each call has one outcome, which nothing changes any more, and is tried anew by one call at most.
fn check_outcomes(world: &World, records: &HashMap<CallId, Vec<(Record, String)>>) {
    let mut anew = HashMap::new();
    for (id, all) in records {
        let versions: Vec<u32> = all.iter().map(|(record, _)| record.version).collect();
        assert!(versions.iter().copied().eq(1..=versions.len() as u32), "{world}: {id}: steps {versions:?}");
        let finals: Vec<_> = all.iter().filter(|(record, _)| record.state.is_finished()).collect();
        let (outcome, body) = finals.first().unwrap_or_else(|| panic!("{world}: {id} never ended"));
        for (again, same) in &finals {
            let is_same = again.state == outcome.state && again.finished == outcome.finished && same == body;
            assert!(is_same, "{world}: {id} has two outcomes: {outcome:?} and {again:?}");
        }
        let is_once = finals.len() == 1 || finals.len() == 2 && finals[1].0.retried_as.is_some();
        assert!(is_once, "{world}: {id}: {finals:?}");
        if let Some(earlier) = all[0].0.retry_of {
            assert_eq!(anew.insert(earlier, *id), None, "{world}: {earlier} was tried anew twice");
        }
    }
    let tried = |all: &Vec<(Record, String)>| all.iter().find_map(|(record, _)| record.retried_as);
    let links: HashMap<CallId, CallId> =
        records.iter().filter_map(|(id, all)| Some((*id, tried(all)?))).collect();
    assert_eq!(links, anew, "{world}: each that was tried anew has one that does so");
}

/// What was told is so.
fn check_told(world: &World, records: &HashMap<CallId, Vec<(Record, String)>>) {
    let told = world.told.lock().expect("nobody failed");
    let outcome = |id: &CallId| {
        let (record, body) =
            records.get(id).and_then(|all| all.last()).unwrap_or_else(|| panic!("{world}: {id} is lost"));
        (record.state, body.clone())
    };
    for id in &told.accepted {
        outcome(id);
    }
    for (id, said) in &told.outcomes {
        assert!(said.len() <= 1, "{world}: {id}: several were told that theirs is the outcome: {said:?}");
        said.iter().for_each(|said| assert_eq!(outcome(id), *said, "{world}: {id}"));
    }
    for (id, seen) in &told.seen {
        seen.iter().for_each(|seen| assert_eq!(outcome(id), *seen, "{world}: {id}"));
    }
    for (key, ids) in &told.keys {
        assert!(
            ids.iter().all(|id| *id == ids[0]),
            "{world}: key {key} was answered by several calls: {ids:?}"
        );
    }
}

/// Each outcome asks for one callback.
async fn check_callbacks(world: &World, records: &HashMap<CallId, Vec<(Record, String)>>) {
    let queue = Target::Queue(Name::reserved(CALLBACKS).expect("a name"));
    let mut callbacks: HashMap<String, usize> = HashMap::new();
    for delivery in all(world, queue).await {
        let id = delivery.message.headers.text(WEBHOOK_ID).expect("an id").to_owned();
        *callbacks.entry(id).or_default() += 1;
    }
    for id in records.keys() {
        assert_eq!(callbacks.get(&id.to_string()), Some(&1), "{world}: callbacks of {id}");
    }
    assert_eq!(callbacks.len(), records.len(), "{world}");
}

/// The request of each call that has failed is a dead letter, once, wherever its message was by then.
async fn check_dead_letters(world: &World, records: &HashMap<CallId, Vec<(Record, String)>>) {
    let life = world.life();
    for text in OPERATIONS {
        let wait = std::time::Duration::from_millis(100);
        while !life
            .calls
            .receive(&name(text), 100, wait, None, life.clock.as_ref())
            .await
            .expect("received")
            .is_empty()
        {}
    }
    let mut dead: HashMap<CallId, usize> = HashMap::new();
    for delivery in all(world, Target::Queue(name(DEAD))).await {
        *dead.entry(CallId(delivery.message.id)).or_default() += 1;
    }
    for (id, all) in records {
        let (record, _) = all.last().expect("a record");
        let count = dead.get(id).copied().unwrap_or_default();
        assert!(count <= 1, "{world}: {id} is {count} dead letters");
        assert!(
            record.state != State::Failed || count == 1,
            "{world}: {id} failed, and is no dead letter: {record:?}"
        );
    }
}

/// What was read at the start is what the records say.
async fn check_index(
    world: &World,
    records: &HashMap<CallId, Vec<(Record, String)>>,
    forgotten: &HashSet<CallId>,
) {
    for (id, all) in records {
        match world.life().calls.show(*id).await {
            Ok(call) => {
                let (record, body) = all.last().expect("a record");
                assert_eq!((&call.record, call.body.as_ref()), (record, body.as_bytes()), "{world}: {id}");
                assert_eq!(
                    (call.seen.state, call.seen.version),
                    (record.state, record.version),
                    "{world}: {id}"
                );
            }
            // Its time may be over since the records were read.
            Err(Error::Gone) => {
                assert!(forgotten.contains(id) || all[0].0.operation.as_str() == "short", "{world}: {id}")
            }
            Err(error) => panic!("{world}: {id}: {error}"),
        }
    }
    for id in forgotten {
        assert_eq!(world.life().calls.see(*id).await.err(), Some(Error::Gone), "{world}: {id}");
    }
}
