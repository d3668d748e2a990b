//! What was asked for is there: messages that were read ahead, and where those are that came back.

use waystation_base::Millis;

use super::{
    Ctx,
    cursor::{Reason, tag},
    keys::Key,
    outlet::{Finished, Outlet},
};
use crate::{
    Kind,
    place::{Loaded, Meta},
};

impl Outlet {
    /// Takes in what a window load found. Returns whether the answer was wanted.
    pub fn window_loaded(&mut self, number: u16, generation: u32, loaded: Loaded, ctx: &mut Ctx<'_>) -> bool {
        let since = self.policy.since;
        let subscription = self.kind == Kind::Subscription;
        let Some(cursor) = self.cursors.get_mut(&number).filter(|cursor| cursor.generation == generation)
        else {
            return false;
        };
        if let Some(detail) = loaded.damaged {
            // The load stays "under way": this log is not read past the damage.
            self.damaged(number, detail, ctx);
            return false;
        }
        cursor.loading = false;
        let mut at = cursor.scan;
        for (meta, _) in loaded.messages {
            let offset = meta.offset.0;
            if offset < at {
                continue;
            }
            // What the load left out is not there, or not wanted.
            cursor.done.insert(at, offset);
            at = offset + 1;
            if cursor.done.contains(offset) || cursor.skip.remove(&offset) {
                continue;
            }
            if subscription && since.is_some_and(|since| meta.timestamp < since) {
                cursor.done.add(offset);
                continue;
            }
            self.expiring |= meta.expires_at != Millis::NEVER;
            cursor.window.push_back(meta);
        }
        cursor.done.insert(at, loaded.next.0);
        cursor.scan = cursor.scan.max(loaded.next.0);
        true
    }

    /// Takes in where messages are that came back.
    pub fn returned_found(&mut self, number: u16, generation: u32, loaded: Loaded, ctx: &mut Ctx<'_>) {
        let Some(cursor) =
            self.cursors.get_mut(&number).filter(|cursor| cursor.find_generation == generation)
        else {
            return;
        };
        cursor.find_failed = loaded.damaged.is_some();
        if let Some(detail) = loaded.damaged {
            return self.damaged(number, detail, ctx);
        }
        let asked = std::mem::take(&mut cursor.finding);
        let mut finished = Finished::default();
        let mut found = loaded.messages.iter().map(|(meta, _)| meta).peekable();
        for offset in asked {
            let meta = found.next_if(|meta| meta.offset.0 == offset).copied();
            cursor.holders.remove(&offset);
            cursor.learn_key(offset, meta.map(|meta| meta.key_hash));
            let held = cursor.flying.get(&offset).filter(|flight| flight.dying.is_none());
            let whose = meta.filter(|_| held.is_some_and(|flight| flight.tenant.is_none()));
            let whose = whose.map(|meta| meta.tenant);
            let tenant = self.shares.as_mut().and_then(|it| it.learn(number, offset, whose));
            if let Some(returned) = cursor.returned_mut(offset) {
                match meta {
                    Some(_) => returned.meta = meta,
                    None => finished.add(Reason::Filtered, number, offset, returned.bytes),
                }
            } else if let Some(flight) = cursor.flying.get_mut(&offset) {
                flight.meta = meta.or(flight.meta);
                flight.tenant = flight.tenant.or(tenant);
            }
            // One that was done meanwhile, or purged, has no key any more.
            let by_key = self.policy.by_key && !cursor.done.contains(offset);
            // What stands ready and has expired goes without being handed out: before the restart another one may have had its key.
            let is_over = |meta: &Meta| meta.expires_at <= ctx.now && cursor.has_returned(offset);
            if let Some(meta) = meta.filter(|meta| by_key && meta.key_hash != 0 && !is_over(meta)) {
                let holder = tag(number, offset);
                self.keys.entry(meta.key_hash).or_insert_with(|| Key::held_by(holder));
            }
        }
        self.finish(finished, ctx);
    }
}
