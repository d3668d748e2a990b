//! Are documents kept as they were written, within their limits?

mod common;

use bytes::Bytes;
use common::{World, name};
use waystation_base::limits::{DOCUMENT_BYTES_MAX, DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX};
use waystation_broker::{
    Command, Kind, ROUTE_CLAIM, Refusal, Reply,
    spec::{QueueSpec, RouteKind, RouteSpec, Spec},
};

fn write(world: &mut World, of: &str, body: impl Into<Bytes>) -> Result<Reply, Refusal> {
    world.run(Command::Document { name: name(of), body: Some(body.into()) })
}

fn erase(world: &mut World, of: &str) -> Result<Reply, Refusal> {
    world.run(Command::Document { name: name(of), body: None })
}

fn names(world: &World, prefix: &str) -> String {
    let all = world.shard.documents(prefix);
    all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn documents_are_found_by_how_their_names_begin_and_survive_restarts() {
    let mut world = World::new();
    for (name, body) in [("users/b", "1"), ("users/a", "2"), ("user", "3"), ("users/c", ""), ("users/a", "4")]
    {
        write(&mut world, name, body).expect("written");
    }
    erase(&mut world, "users/b").expect("erased");
    erase(&mut world, "none").expect("nothing to do");
    for restart in [World::restart, World::restart_from_snapshot] {
        assert_eq!(names(&world, "users/"), "users/a users/c");
        assert_eq!(names(&world, ""), "user users/a users/c");
        assert_eq!(names(&world, "v"), "");
        let found = world.shard.documents("users/a");
        assert_eq!(found, [(name("users/a"), Bytes::from("4"))]);
        restart(&mut world);
    }
}

#[test]
fn a_document_that_says_the_same_writes_nothing() {
    let mut world = World::new();
    write(&mut world, "a", "x").expect("written");
    let before = world.journal.list.len();
    write(&mut world, "a", "x").expect("written");
    erase(&mut world, "b").expect("nothing to do");
    assert_eq!(world.journal.list.len(), before);
}

#[test]
fn a_document_that_claims_a_routes_name_and_a_route_are_not_there_together() {
    let mut world = World::new();
    let is_taken = |it: &Result<Reply, Refusal>| matches!(it, Err(Refusal::Exists { kind: Kind::Route, .. }));
    let declare =
        |world: &mut World, name| world.declare(name, Spec::Route(RouteSpec::new(RouteKind::Fanout)));
    write(&mut world, &format!("{ROUTE_CLAIM}a"), "steps").expect("written");
    declare(&mut world, "b").expect("declared");
    for restart in [World::restart, World::restart_from_snapshot] {
        let refused = declare(&mut world, "a");
        assert!(is_taken(&refused), "{refused:?}");
        let refused = write(&mut world, &format!("{ROUTE_CLAIM}b"), "steps");
        assert!(is_taken(&refused), "{refused:?}");
        // Of another name, of another kind, and what takes the claim away.
        write(&mut world, "other/b", "x").expect("written");
        world.declare("a", Spec::Queue(QueueSpec::default())).expect("declared");
        erase(&mut world, &format!("{ROUTE_CLAIM}b")).expect("nothing to do");
        restart(&mut world);
    }
    erase(&mut world, &format!("{ROUTE_CLAIM}a")).expect("erased");
    declare(&mut world, "a").expect("declared");
    world.delete(Kind::Route, "b").expect("deleted");
    write(&mut world, &format!("{ROUTE_CLAIM}b"), "steps").expect("written");
}

#[test]
fn a_document_may_have_document_bytes_max() {
    let mut world = World::new();
    write(&mut world, "a", vec![0; DOCUMENT_BYTES_MAX]).expect("written");
    let refused = write(&mut world, "a", vec![0; DOCUMENT_BYTES_MAX + 1]);
    assert!(matches!(refused, Err(Refusal::TooLarge { .. })), "{refused:?}");
    assert_eq!(world.shard.documents("a")[0].1.len(), DOCUMENT_BYTES_MAX);
}

#[test]
fn all_documents_together_may_have_documents_bytes_max() {
    let mut world = World::new();
    // Names count too.
    let largest = Bytes::from(vec![0; DOCUMENT_BYTES_MAX - 3]);
    for n in 0..DOCUMENTS_BYTES_MAX / DOCUMENT_BYTES_MAX {
        write(&mut world, &format!("{n:03}"), largest.clone()).expect("written");
    }
    let refused = write(&mut world, "x", "");
    assert!(matches!(refused, Err(Refusal::Limit { .. })), "{refused:?}");
    write(&mut world, "000", largest.clone()).expect("the same");
    write(&mut world, "000", largest.slice(1..)).expect("shorter");
    write(&mut world, "x", "").expect("room for one byte");
}

#[test]
fn there_may_be_documents_max_documents() {
    let mut world = World::new();
    let mut effects = Vec::new();
    for n in 0..DOCUMENTS_MAX {
        let document = Command::Document { name: name(&n.to_string()), body: Some(Bytes::new()) };
        world.shard.handle(world.now, None, document, &mut world.journal, &mut effects);
    }
    let refused = write(&mut world, "x", "");
    assert!(matches!(refused, Err(Refusal::Limit { what: "documents", .. })), "{refused:?}");
    write(&mut world, "7", "changed").expect("one that is there");
    erase(&mut world, "7").expect("erased");
    write(&mut world, "x", "").expect("written");
}
