//! Does the committer share syncs, release what is durable in order, and stop after a failure?

use std::{collections::HashMap, ops::ControlFlow, path::Path, sync::mpsc};

use super::*;
use crate::{
    Entry, FileJournal, MemoryJournal, Options, Preparation, Verify,
    test_disk::{Random, Tear, TestDisk},
};

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

const DIR: &str = "/journal";

fn spawn_on(disk: &TestDisk, mode: Mode, file_bytes: u64) -> (Committer, mpsc::Receiver<Event>) {
    let options = Options {
        file_bytes,
        first_file_bytes: file_bytes,
        align_bytes: 64,
        preparation: Preparation::Inline,
        spare_files_max: 2,
        free_bytes_min: 0,
        salt_seed: 1,
    };
    let opened = FileJournal::open(Arc::new(disk.clone()), Path::new(DIR), options, Verify::All);
    let journal = opened.expect("opened").0;
    let (sender, events) = mpsc::sync_channel(1 << 16);
    let committer = Committer::spawn(journal, mode, Epoch(1), move |event| {
        let _ = sender.send(event);
    });
    (committer.expect("spawned"), events)
}

fn push(committer: &Committer, bytes: usize) -> Result<Position, Refused> {
    committer.with_group(|group| group.push(1, |b| b.resize(b.len() + bytes, 7)))
}

#[test]
fn a_lone_writer_pays_one_write_and_one_sync() {
    let disk = TestDisk::default();
    let (committer, events) = spawn_on(&disk, Mode::Sync, 1 << 20);
    let before = disk.operations();
    for _ in 0..10 {
        let position = push(&committer, 100).expect("taken");
        let Ok(Event::Durable { start, end, .. }) = events.recv() else { panic!("not durable") };
        assert!(start < position && position < end);
        assert!(committer.durable() >= end && committer.synced() >= end);
    }
    assert_eq!(disk.operations() - before, 20);
}

#[test]
fn a_failed_sync_ends_writing_and_says_why() {
    for fail_in in 0..4 {
        let disk = TestDisk::default();
        let (committer, events) = spawn_on(&disk, Mode::Sync, 1 << 20);
        disk.fail_in(Some(fail_in));
        let mut durable = 0;
        let failure = loop {
            push(&committer, 100).expect("nothing has failed yet");
            match events.recv().expect("an event") {
                Event::Durable { .. } => durable += 1,
                Event::Failed(failure) => break failure,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(durable, fail_in / 2);
        assert!(failure.to_string().contains("the disk was told to fail"), "{failure}");
        disk.fail_in(None);
        assert_eq!(push(&committer, 100), Err(Refused::Failed(failure.clone())));
        assert_eq!(committer.sync_through(Position(1 << 40)), Err(Refused::Failed(failure.clone())));
        assert!(events.try_recv().is_err(), "it is never tried again");
        assert_eq!(committer.flush_and_stop(), Err(failure));
    }
}

#[test]
fn weaker_modes_release_before_the_sync_and_sync_when_asked() {
    for mode in [Mode::Os, Mode::Interval(1 << 40)] {
        let disk = TestDisk::default();
        let (committer, events) = spawn_on(&disk, mode, 1 << 20);
        push(&committer, 100).expect("taken");
        let Ok(Event::Durable { end, .. }) = events.recv() else { panic!("not released") };
        assert!(committer.synced() < end);
        committer.sync_through(end).expect("synced");
        assert!(committer.synced() >= end);
        let Ok(Event::Synced { through }) = events.recv() else { panic!("not told") };
        assert_eq!(through, end);
    }
}

#[test]
fn the_interval_mode_syncs_without_being_asked() {
    let disk = TestDisk::default();
    let (committer, events) = spawn_on(&disk, Mode::Interval(1), 1 << 20);
    push(&committer, 100).expect("taken");
    let synced = events.iter().find_map(|event| match event {
        Event::Synced { through } => Some(through),
        _ => None,
    });
    assert_eq!(synced, Some(committer.durable()));
}

#[test]
fn on_a_full_disk_publishing_is_refused_and_goes_on_when_there_is_room() {
    let disk = TestDisk::default();
    let (committer, events) = spawn_on(&disk, Mode::Sync, 64 << 10);
    disk.set_capacity(Some(disk.used()));
    let told_low = |event: Event| matches!(event, Event::Space(Space::Low { .. }));
    let mut low = false;
    let room = loop {
        match push(&committer, 1000) {
            Ok(_) => low |= events.recv().is_ok_and(told_low),
            Err(Refused::NoSpace { room_bytes }) => break room_bytes,
            Err(other) => panic!("{other}"),
        }
    };
    low |= events.try_iter().any(told_low);
    assert!(low, "the owner is told before it is refused");
    assert!(matches!(push(&committer, room as usize + 1), Err(Refused::NoSpace { .. })));
    push(&committer, 1).expect("an acknowledgement still fits");
    disk.set_capacity(None);
    assert!(events.iter().any(|event| matches!(event, Event::Space(Space::Enough))));
    push(&committer, 1000).expect("taken again");
    committer.flush_and_stop().expect("nothing has failed");
}

#[test]
fn a_group_for_which_there_is_no_room_waits_for_it() {
    let disk = TestDisk::default();
    let (committer, events) = spawn_on(&disk, Mode::Sync, 64 << 10);
    disk.set_capacity(Some(disk.used()));
    push(&committer, 100 << 10).expect("nobody knows yet");
    let Ok(Event::Space(Space::Low { .. })) = events.recv() else { panic!("not told") };
    assert!(matches!(push(&committer, 100 << 10), Err(Refused::NoSpace { .. })));
    disk.set_capacity(None);
    assert!(events.iter().any(|event| matches!(event, Event::Durable { .. })));
    assert!(events.iter().any(|event| matches!(event, Event::Space(Space::Enough))));
    push(&committer, 1000).expect("taken again");
    committer.flush_and_stop().expect("nothing has failed");
    assert_eq!(disk.names().iter().filter(|name| *name == "failed").count(), 0);
}

#[test]
fn what_waits_is_bounded() {
    // A notify that does not return is a disk that is slow without end.
    let (hold, held) = mpsc::sync_channel::<()>(0);
    let (sender, events) = mpsc::sync_channel(1 << 16);
    let committer = Committer::spawn(MemoryJournal::new(), Mode::Sync, Epoch(1), move |event| {
        let _ = sender.send(event);
        let _ = held.recv();
    })
    .expect("spawned");
    push(&committer, 1).expect("taken");
    let first = events.recv().expect("durable");
    let mut waiting = 0;
    let refused = loop {
        match push(&committer, 1 << 20) {
            Ok(_) => waiting += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Refused::Busy { open_bytes } if open_bytes >= GROUP_BYTES_REFUSE));
    assert_eq!(waiting, GROUP_BYTES_REFUSE >> 20);
    assert!(committer.is_busy());
    drop(hold);
    committer.flush_and_stop().expect("stopped");
    assert_eq!(entries([first]).len() + entries(events).len(), 1 + waiting);
}

#[test]
fn a_unit_at_the_limit_is_taken_by_a_group_that_is_nearly_full() {
    let (hold, held) = mpsc::sync_channel::<()>(0);
    let (sender, events) = mpsc::sync_channel(1 << 16);
    let committer = Committer::spawn(MemoryJournal::new(), Mode::Sync, Epoch(1), move |event| {
        let _ = sender.send(event);
        let _ = held.recv();
    })
    .expect("spawned");
    push(&committer, 1).expect("taken");
    let first = events.recv().expect("durable");
    push(&committer, GROUP_BYTES_REFUSE - 70).expect("taken");
    let half = UNIT_BYTES_MAX / 2 - 5;
    let unit = committer.with_group(|group| {
        group.push(1, |b| b.resize(b.len() + half, 1));
        group.push(1, |b| b.resize(b.len() + half, 1))
    });
    unit.expect("a unit of full size");
    drop(hold);
    committer.flush_and_stop().expect("stopped");
    assert_eq!(entries([first]).len() + entries(events).len(), 4);
}

#[test]
fn a_stopped_committer_has_written_everything() {
    let disk = TestDisk::default();
    let (committer, events) = spawn_on(&disk, Mode::Sync, 16 << 10);
    for _ in 0..500 {
        push(&committer, 500).expect("taken");
    }
    let end = committer.flush_and_stop().expect("stopped");
    assert_eq!(entries(events).len(), 500);
    disk.crash(&mut Random(1), Tear::Garbage);
    let options = Options { align_bytes: 64, preparation: Preparation::Inline, ..Options::default() };
    let mut seen = 0;
    let (journal, report) =
        FileJournal::open_and_replay(Arc::new(disk), Path::new(DIR), options, Verify::All, &mut |_| {
            seen += 1;
            ControlFlow::Continue(())
        })
        .expect("opened");
    assert_eq!((seen, report.torn_groups, journal.end()), (500, 0, end));
}
