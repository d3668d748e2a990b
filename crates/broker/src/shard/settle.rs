//! Outcomes of work: accepted, rejected, to be tried again, given back; and leases that are prolonged.

use waystation_base::{Attempt, Millis, Tag, limits::LEASE_MS_MAX};

use super::{Ctx, Shard, cursor::Reason, entry::Entry, outlet::Finished, retry::Why, timers::Timer};
use crate::{
    Kind, Refusal, Source,
    command::{Extend, Failure, Outcome, Settle, Settlement},
};

impl Shard {
    /// Whether every message is held as its settlement says.
    pub(super) fn check_settlements(&self, settles: &[Settle]) -> Result<(), Refusal> {
        for settle in settles {
            let id = self.source(&settle.source)?;
            let is_withdrawn = |s: &&Settlement| matches!(s.outcome, Outcome::Withdrawn { .. });
            for settlement in settle.settlements.iter().filter(|settlement| !is_withdrawn(settlement)) {
                self.check_held(&settle.source, id, settlement.tag, settlement.attempt)?;
            }
            let withdrawn = settle.settlements.iter().filter(is_withdrawn);
            let withdrawn: Vec<(Tag, Attempt)> = withdrawn.map(|s| (s.tag, s.attempt)).collect();
            if !withdrawn.is_empty() {
                self.check_withdrawn(&settle.source, id, &withdrawn)?;
            }
        }
        Ok(())
    }

    fn check_held(
        &self,
        source: &Source,
        id: waystation_base::EntityId,
        tag: Tag,
        attempt: Attempt,
    ) -> Result<(), Refusal> {
        let outlet = match source.kind() {
            Kind::Queue => &self.queues[&id].outlet,
            _ => &self.subscriptions[&id].outlet,
        };
        outlet.held(tag, attempt).map(|_| ()).ok_or(Refusal::NotHeld { tag, attempt })
    }

    /// Carries out what [`Shard::check_settlements`] found good.
    pub(super) fn settle(&mut self, settle: Settle, ctx: &mut Ctx<'_>) {
        let Settle { source, settlements } = settle;
        let id = self.source(&source).expect("checked");
        self.with_outlet(source.kind(), id, |outlet, logs| {
            let mut finished = Finished::default();
            let several = settlements.len() > 1;
            let mut seen = super::HashSet::default();
            let mut withdrawn = Vec::new();
            for settlement in settlements {
                let (tag, log, offset) = (settlement.tag, settlement.tag.log(), settlement.tag.offset().0);
                // One that is named twice has the first outcome.
                if several && !seen.insert(tag) {
                    continue;
                }
                if let Outcome::Withdrawn { body_bytes } = settlement.outcome {
                    withdrawn.push((tag, body_bytes));
                    continue;
                }
                let Some(flight) = outlet.held(tag, settlement.attempt) else { continue };
                match settlement.outcome {
                    Outcome::Accepted => finished.add(Reason::Accepted, log, offset, flight.bytes),
                    Outcome::Rejected { error, class } => {
                        let failure = Failure { error, class, delay_ms: None };
                        let dying = outlet.dying_of(tag, Reason::Rejected, Why::Failed(&failure));
                        outlet.condemn(log, offset, dying, logs, &mut finished, ctx);
                    }
                    Outcome::Requeued { delay_ms } => {
                        let failure = Failure { delay_ms: Some(delay_ms), ..Failure::default() };
                        outlet.bring_back(&[tag], Why::Failed(&failure), logs, ctx);
                    }
                    Outcome::Failed(failure) => {
                        outlet.bring_back(&[tag], Why::Failed(&failure), logs, ctx);
                    }
                    Outcome::Lost => outlet.bring_back(&[tag], Why::ConsumerLost, logs, ctx),
                    Outcome::Released => outlet.bring_back(&[tag], Why::Released, logs, ctx),
                    Outcome::Withdrawn { .. } => {}
                }
            }
            outlet.withdraw(&withdrawn, &mut finished);
            outlet.finish(finished, ctx);
            outlet.last_used = ctx.now;
        });
        ctx.dirty.push((source.kind(), id));
    }

    pub(super) fn extend(&mut self, extend: &Extend, ctx: &mut Ctx<'_>) -> Result<Millis, Refusal> {
        let Extend { source, held, lease_ms } = extend;
        if *lease_ms > LEASE_MS_MAX {
            return Err(Refusal::TooLarge { what: "lease_ms", count: *lease_ms, limit: LEASE_MS_MAX });
        }
        let id = self.source(source)?;
        for (tag, attempt) in held {
            self.check_held(source, id, *tag, *attempt)?;
        }
        let until = ctx.now.plus(*lease_ms);
        let places: Vec<(u16, u64)> = held.iter().map(|(tag, _)| (tag.log(), tag.offset().0)).collect();
        let outlet = self.outlet_mut(id).expect("found");
        outlet.apply_extend(until, &places);
        outlet.last_used = ctx.now;
        ctx.timers.extend(held.iter().map(|(tag, attempt)| (until, Timer::Lease(id, *tag, *attempt))));
        Entry::Extend(id, until, places).append(ctx.log);
        Ok(until)
    }
}

impl super::outlet::Outlet {
    /// Leases end later, or sooner. What an attached consumer holds has no lease.
    pub fn apply_extend(&mut self, until: Millis, held: &[(u16, u64)]) {
        for (log, offset) in held {
            let flight = self.cursors.get_mut(log).and_then(|cursor| cursor.flying.get_mut(offset));
            if let Some(flight) = flight.filter(|flight| flight.held_until != Millis::NEVER) {
                flight.held_until = until;
            }
        }
    }
}
