//! What happens when a log cannot be read: it is told, and tried again later.

use super::{Ctx, outlet::Outlet, timers::Timer};
use crate::{Effect, effect::Notice};

/// Milliseconds until a log that could not be read is read again.
const REREAD_MS: u64 = 2_000;

impl Outlet {
    /// Tells of a log that cannot be read, and tries again after a while: the disk may have been mended.
    pub(super) fn damaged(&mut self, number: u16, detail: String, ctx: &mut Ctx<'_>) {
        let Some(cursor) = self.cursors.get(&number) else { return };
        let timer = Timer::Reread(self.id, number, cursor.generation, cursor.find_generation);
        ctx.timers.push((ctx.now.plus(REREAD_MS), timer));
        let (kind, name) = (self.kind, self.name.clone());
        ctx.effects.push(Effect::Notice(Notice::Damaged { kind, name, detail }));
    }

    /// Lets a log that could not be read be read again, unless it has been purged or passed by a seek since.
    pub fn reread(&mut self, number: u16, generations: (u32, u32)) {
        let Some(cursor) = self.cursors.get_mut(&number) else { return };
        if (cursor.generation, cursor.find_generation) == generations {
            cursor.generation = cursor.generation.wrapping_add(1);
            cursor.find_generation = cursor.find_generation.wrapping_add(1);
            cursor.loading = false;
            cursor.finding.clear();
        }
    }
}
