//! Whether an implementation of [`Journal`] keeps the contract: one suite for all of them.

use std::ops::ControlFlow;

use waystation_base::Position;

use crate::{
    contract::{AppendError, Epoch, Journal, ReadError},
    group::Group,
    limits::{ENTRY_BYTES_MAX, FRAME_STEP_BYTES},
};

/// Judges fresh, empty journals that `make` returns.
///
/// # Panics
/// Where the contract is broken, saying how.
pub fn check<J: Journal>(mut make: impl FnMut() -> J) {
    an_empty_journal_has_nothing(make());
    what_was_appended_is_scanned_in_order(make());
    a_scan_starts_and_stops_where_told(make());
    payloads_are_read_by_position(make());
    an_append_elsewhere_than_at_the_end_is_refused(make());
    an_old_epoch_is_refused_and_changes_nothing(make());
    a_group_that_is_too_large_is_refused(make());
    what_was_trimmed_is_named_as_such(make());
    many_groups_of_odd_sizes_survive(make());
}

/// Appends one group of payloads and syncs; returns the payloads' positions.
fn put(journal: &mut impl Journal, epoch: u64, payloads: &[&[u8]]) -> Vec<Position> {
    let end = journal.end();
    let mut group = Group::new(end, journal.align_bytes());
    let positions = payloads.iter().map(|p| group.push(p.len() as u8, |b| b.extend_from_slice(p))).collect();
    journal.append(end, Epoch(epoch), &mut group).expect("appended");
    assert_eq!(journal.end(), group.end(), "the journal ends where the group ends");
    assert_eq!(journal.sync().expect("synced"), journal.end(), "a sync covers all that was appended");
    positions
}

fn all(journal: &impl Journal, from: Position) -> Vec<(Position, u8, Vec<u8>)> {
    let mut seen = Vec::new();
    let end = journal
        .scan(from, &mut |entry| {
            seen.push((entry.position, entry.kind, entry.payload.to_vec()));
            ControlFlow::Continue(())
        })
        .expect("scanned");
    assert_eq!(end, journal.end(), "a whole scan ends at the end");
    seen
}

fn an_empty_journal_has_nothing(journal: impl Journal) {
    assert_eq!(journal.start(), journal.end());
    assert!(all(&journal, journal.start()).is_empty());
    assert!(matches!(journal.read(journal.start(), 1), Err(ReadError::OutOfRange { .. })));
    assert!(journal.align_bytes().is_multiple_of(FRAME_STEP_BYTES));
}

fn what_was_appended_is_scanned_in_order(mut journal: impl Journal) {
    let start = journal.start();
    let first = put(&mut journal, 1, &[b"one", b""]);
    let second = put(&mut journal, 1, &[b"three"]);
    let expected =
        vec![(first[0], 3, b"one".to_vec()), (first[1], 0, Vec::new()), (second[0], 5, b"three".to_vec())];
    assert_eq!(all(&journal, start), expected);
}

fn a_scan_starts_and_stops_where_told(mut journal: impl Journal) {
    put(&mut journal, 1, &[b"one"]);
    let second = journal.end();
    put(&mut journal, 1, &[b"two", b"more"]);
    let third = journal.end();
    put(&mut journal, 1, &[b"three"]);
    let kinds: Vec<u8> = all(&journal, second).iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, [3, 4, 5]);
    let mut seen = 0;
    let stopped = journal.scan(second, &mut |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((seen, stopped.expect("scanned")), (1, third), "a scan that is stopped tells how far it came");
    assert!(all(&journal, journal.end()).is_empty());
    let past = Position(journal.end().0 + 64);
    assert!(matches!(
        journal.scan(past, &mut |_| ControlFlow::Continue(())),
        Err(ReadError::OutOfRange { .. })
    ));
}

fn payloads_are_read_by_position(mut journal: impl Journal) {
    let positions = put(&mut journal, 1, &[b"hello", b"world"]);
    assert_eq!(journal.read(positions[1], 5).expect("read").as_ref(), b"world");
    assert_eq!(journal.read(Position(positions[0].0 + 1), 3).expect("read").as_ref(), b"ell");
    assert!(matches!(journal.read(journal.end(), 1), Err(ReadError::OutOfRange { .. })));
    assert!(matches!(journal.read(positions[1], usize::MAX), Err(ReadError::OutOfRange { .. })));
}

fn an_append_elsewhere_than_at_the_end_is_refused(mut journal: impl Journal) {
    let start = journal.end();
    put(&mut journal, 1, &[b"one"]);
    let end = journal.end();
    let step = FRAME_STEP_BYTES as u64;
    for (expected, begin) in [(start, start), (start, end), (end, start), (end, Position(end.0 + step))] {
        let mut group = Group::new(begin, journal.align_bytes());
        group.push(1, |b| b.push(1));
        let refused = journal.append(expected, Epoch(1), &mut group);
        assert!(matches!(refused, Err(AppendError::NotAtEnd { .. })), "{expected} {begin}");
    }
    assert_eq!(journal.end(), end);
    put(&mut journal, 1, &[b"two"]);
    assert_eq!(all(&journal, start).len(), 2);
}

fn an_old_epoch_is_refused_and_changes_nothing(mut journal: impl Journal) {
    put(&mut journal, 5, &[b"one"]);
    let end = journal.end();
    let mut group = Group::new(end, journal.align_bytes());
    group.push(1, |b| b.push(1));
    let refused = journal.append(end, Epoch(4), &mut group);
    assert_eq!(refused, Err(AppendError::Fenced { epoch: Epoch(4), current: Epoch(5) }));
    assert_eq!(journal.end(), end);
    put(&mut journal, 5, &[b"two"]);
    put(&mut journal, 6, &[b"three"]);
    assert_eq!(all(&journal, journal.start()).len(), 3);
}

fn a_group_that_is_too_large_is_refused(mut journal: impl Journal) {
    let end = journal.end();
    let mut group = Group::new(end, journal.align_bytes());
    group.push(1, |b| b.resize(b.len() + ENTRY_BYTES_MAX + 1, 0));
    let refused = journal.append(end, Epoch(1), &mut group);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })));
    put(&mut journal, 1, &[b"small"]);
    assert_eq!(all(&journal, journal.start()).len(), 1);
}

fn what_was_trimmed_is_named_as_such(mut journal: impl Journal) {
    let mut starts = Vec::new();
    let mut positions = Vec::new();
    for _ in 0..50 {
        starts.push(journal.end());
        positions.push(put(&mut journal, 1, &[&[7; 3000]])[0]);
    }
    let before = starts[40];
    journal.trim(before).expect("trimmed");
    assert!(journal.start() <= before, "what was not allowed to go stays");
    assert_eq!(all(&journal, before).len(), 10);
    for position in positions {
        match journal.read(position, 3000) {
            Ok(bytes) => assert!(position >= journal.start() && bytes.as_ref() == [7; 3000]),
            Err(ReadError::Trimmed { start, .. }) => assert!(position < start && start <= before),
            Err(other) => panic!("{other}"),
        }
    }
    put(&mut journal, 1, &[b"goes on"]);
    assert_eq!(all(&journal, before).len(), 11);
}

fn many_groups_of_odd_sizes_survive(mut journal: impl Journal) {
    let start = journal.end();
    let mut expected = Vec::new();
    for n in 0usize..200 {
        let payload = vec![n as u8; n * 37 % 9000];
        let position = put(&mut journal, 1, &[&payload])[0];
        expected.push((position, payload.len() as u8, payload));
    }
    assert_eq!(all(&journal, start), expected);
    for (position, _, payload) in expected {
        assert_eq!(journal.read(position, payload.len()).expect("read"), payload);
    }
}
