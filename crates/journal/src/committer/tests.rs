//! Does the committer share syncs, release what is durable in order, and stop after a failure?

use std::{collections::HashMap, sync::mpsc};

use super::*;
use crate::{Entry, MemoryJournal};

/// Every entry of the groups that were told durable, as (position, payload).
fn entries(events: impl IntoIterator<Item = Event>) -> Vec<(Position, Vec<u8>)> {
    let mut seen = Vec::new();
    for event in events {
        if let Event::Durable { start, end, bytes } = event {
            assert_eq!(end.0 - start.0, bytes.len() as u64);
            let frame = Group::parse(&bytes).expect("whole");
            for entry in frame.entries() {
                let Entry { position, payload, .. } = entry.expect("whole");
                seen.push((position, payload.to_vec()));
            }
        }
    }
    seen
}

fn spawn(mode: Mode) -> (Committer, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::sync_channel(1 << 20);
    let committer = Committer::spawn(MemoryJournal::new(), mode, Epoch(1), move |event| {
        let _ = sender.send(event);
    });
    (committer.expect("spawned"), events)
}

#[test]
fn entries_of_many_threads_are_each_there_once_and_in_their_thread_s_order() {
    const THREADS: u32 = 8;
    const EACH: u32 = 5_000;
    for mode in [Mode::Sync, Mode::Interval(1), Mode::Os] {
        let (committer, events) = spawn(mode);
        let positions: Vec<(Position, Vec<u8>)> = std::thread::scope(|scope| {
            let committer = &committer;
            let writers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn(move || {
                        let put = |n: u32| {
                            let payload = [thread.to_le_bytes(), n.to_le_bytes()].concat();
                            let position = committer
                                .with_group(|group| group.push(1, |b| b.extend_from_slice(&payload)))
                                .expect("taken");
                            (position, payload)
                        };
                        (0..EACH).map(put).collect::<Vec<_>>()
                    })
                })
                .collect();
            writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect()
        });
        let end = committer.flush_and_stop().expect("stopped");
        let seen = entries(events);
        assert!(seen.iter().all(|(position, _)| *position < end));
        assert_eq!(seen.len() as u32, THREADS * EACH);
        let by_position: HashMap<_, _> = seen.iter().cloned().collect();
        for (position, payload) in &positions {
            assert_eq!(&by_position[position], payload, "the position that was given is where it lies");
        }
        let mut next = [0u32; THREADS as usize];
        for (_, payload) in &seen {
            let thread = u32::from_le_bytes(payload[..4].try_into().expect("four")) as usize;
            let n = u32::from_le_bytes(payload[4..].try_into().expect("four"));
            assert_eq!(n, next[thread]);
            next[thread] += 1;
        }
    }
}

#[test]
fn a_unit_that_is_too_large_leaves_nothing_behind() {
    let (committer, events) = spawn(Mode::Sync);
    let refused = committer.with_group(|group| {
        group.push(1, |b| b.push(1));
        group.push(1, |b| b.resize(b.len() + UNIT_BYTES_MAX, 0))
    });
    assert!(matches!(refused, Err(Refused::TooLarge { .. })));
    committer.with_group(|group| group.push(2, |b| b.push(7))).expect("taken");
    committer.flush_and_stop().expect("stopped");
    let payloads: Vec<_> = entries(events).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [[7]]);
}

#[test]
fn a_unit_that_panics_leaves_nothing_behind() {
    let (committer, events) = spawn(Mode::Sync);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        committer.with_group(|group| {
            group.push(1, |b| b.push(1));
            panic!("a mistake of the caller");
        })
    }));
    assert!(caught.is_err());
    committer.with_group(|group| group.push(2, |b| b.push(7))).expect("taken");
    committer.flush_and_stop().expect("stopped");
    let payloads: Vec<_> = entries(events).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [[7]]);
}
