//! What is done beside requests: snapshots and settling looked after, the journal trimmed, free space and memory watched.

use waystation_base::Millis;
use waystation_broker::Command;
use waystation_journal::Space;

use super::{Driver, Parts, ROOM_LOOK_MS, Work};
use crate::{Alarms, keeper::Done, snapshots::Extent};

impl Driver {
    pub(super) fn done(&mut self, done: Done) {
        let now = self.parts.clock.now();
        match done {
            Done::Snapshot(result) => self.parts.house.snapshot_done(result, now),
            Done::Settled(result) => {
                if let Some(outcome) = self.parts.house.copy_done(result, now) {
                    self.work.push_back(Work {
                        request: None,
                        command: Command::Settled(outcome),
                        bytes: 0,
                        origin: None,
                    });
                }
            }
        }
    }

    pub(super) fn keep_house(&mut self, now: Millis) {
        let extent = self.extent();
        let low = self.alarms.disk;
        if let Some(to) = self.parts.house.look(&self.parts.shard, extent, now, low) {
            self.parts.trimmable = self.parts.trimmable.max(to);
        }
        self.trim(extent);
        let synced = self.parts.committer.synced();
        while let Some(read) = self.parts.house.removals(synced) {
            self.parts.loader.ask(read);
        }
    }

    /// Lets go of the journal that nobody needs: for the record a bounded part of it is kept, and none with the disk nearly full.
    fn trim(&mut self, extent: Extent) {
        let Parts { recorder, trimmable, committer, options, .. } = &mut self.parts;
        if *trimmable <= extent.start {
            return;
        }
        let lag_bytes = options.record.as_ref().filter(|_| !self.alarms.disk).map_or(0, |it| it.lag_bytes);
        let to = match recorder {
            Some(recorder) => recorder.feed().release(*trimmable, extent.end, lag_bytes),
            None => *trimmable,
        };
        if to > extent.start && to > self.trimmed {
            self.trimmed = to;
            committer.trim(to);
        }
    }

    pub(super) fn look_for_room(&mut self, now: Millis) {
        if self.room_looked_at.is_some_and(|at| now >= at && now.since(at) < ROOM_LOOK_MS) {
            return;
        }
        self.room_looked_at = Some(now);
        self.space = self.parts.committer.space();
        // A file system that does not say is taken to have room.
        self.free_bytes = self.parts.disk.free_bytes(self.parts.dir.path()).unwrap_or(u64::MAX);
        let disk = self.free_bytes < self.parts.options.disk_reserve_bytes || self.space != Space::Enough;
        let (used_bytes, memory) =
            self.parts.options.memory.as_ref().map_or((0, false), |bound| bound.look(self.alarms.memory));
        self.memory_used_bytes = used_bytes;
        let alarms = Alarms { disk, memory };
        if alarms != self.alarms {
            self.alarms = alarms;
            let free_bytes = self.free_bytes;
            match alarms.told() {
                Some(told) => tracing::warn!(free_bytes, used_bytes, "{told}"),
                None => tracing::info!(free_bytes, used_bytes, "there is room again: publishing goes on"),
            }
        }
    }
}
