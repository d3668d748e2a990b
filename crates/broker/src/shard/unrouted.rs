//! Messages that nothing took: the journal is told of them, so that the record can say what became of them. No state depends on it.
//!
//! Whoever publishes to nobody, and does so a hundred thousand times a second, must not fill the journal: of each route so many a
//! second are told of, the others are counted, and the count is told of when that second is over.

use waystation_base::{
    EntityId, Message, Millis, Offset,
    batch::Encoder,
    limits::{UNROUTED_BODY_BYTES_MAX, UNROUTED_TOLD_MAX},
};

use super::{
    Ctx, Shard,
    entry::{Entry, Unrouted},
    timers::Timer,
};

/// Milliseconds in which [`UNROUTED_TOLD_MAX`] messages are told of.
const WINDOW_MS: u64 = 1_000;

/// What is told of one route.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untold {
    since: Millis,
    told: usize,
    omitted: u64,
}

impl Untold {
    /// How many of so many messages are told of now, and how many before were not.
    fn admit(&mut self, count: usize, now: Millis) -> (usize, u64) {
        if now < self.since || now.since(self.since) >= WINDOW_MS {
            (self.since, self.told) = (now, 0);
        }
        let admitted = count.min(UNROUTED_TOLD_MAX - self.told);
        let before = if admitted > 0 { std::mem::take(&mut self.omitted) } else { 0 };
        self.told += admitted;
        self.omitted += (count - admitted) as u64;
        (admitted, before)
    }
}

impl Untold {
    /// What was only counted, to be told of now; none: it is not over yet when so many a second are told of.
    fn rest(&mut self, now: Millis) -> Option<u64> {
        (now < self.since || now.since(self.since) >= WINDOW_MS).then(|| std::mem::take(&mut self.omitted))
    }
}

impl Shard {
    /// Whether the journal is to be told of messages that nothing took: somebody reads it.
    pub fn set_tells_unrouted(&mut self, tells: bool) {
        self.tells_unrouted = tells;
    }

    /// Tells of messages that were published to a route, or by a key that is no queue's, and that nothing took.
    pub(super) fn tell_unrouted(
        &mut self,
        route: Option<EntityId>,
        told: bool,
        messages: &[Message],
        ctx: &mut Ctx<'_>,
    ) {
        if !self.tells_unrouted || messages.is_empty() {
            return;
        }
        let untold = match route.and_then(|id| self.routes.get_mut(&id)) {
            Some(route) => &mut route.untold,
            None => &mut self.untold,
        };
        let before = untold.omitted;
        let (admitted, omitted) = untold.admit(messages.len(), ctx.now);
        if untold.omitted > 0 && (before == 0 || admitted > 0) {
            ctx.timers.push((untold.since.plus(WINDOW_MS), Timer::Untold(route.unwrap_or(EntityId(0)))));
        }
        if admitted == 0 {
            return;
        }
        let mut batch = Vec::new();
        let mut encoder = Encoder::new(&mut batch, self.encoding.scratch(), Offset(0), messages[0].timestamp);
        for (offset, message) in (0..).zip(&messages[..admitted]) {
            let body = match message.body.len() {
                0..=UNROUTED_BODY_BYTES_MAX => message.body.clone(),
                _ => Default::default(),
            };
            encoder.push(Offset(offset), &Message { body, ..message.clone() });
        }
        encoder.finish();
        let route = route.unwrap_or(EntityId(0));
        Entry::Unrouted(Unrouted { route, told, omitted, batch: &batch }).append(ctx.log);
    }
}

impl Shard {
    /// Tells how many messages nothing took that were only counted.
    pub(super) fn tell_the_rest(&mut self, route: EntityId, ctx: &mut Ctx<'_>) {
        let untold = match self.routes.get_mut(&route) {
            Some(route) => &mut route.untold,
            None if route == EntityId(0) => &mut self.untold,
            // The route is gone.
            None => return,
        };
        match untold.rest(ctx.now) {
            // A later second has begun, and has a timer of its own.
            None | Some(0) => {}
            Some(omitted) => {
                Entry::Unrouted(Unrouted { route, told: false, omitted, batch: &[] }).append(ctx.log);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_are_told_of_and_the_others_counted() {
        let mut untold = Untold::default();
        assert_eq!(untold.admit(UNROUTED_TOLD_MAX - 1, Millis(5000)), (UNROUTED_TOLD_MAX - 1, 0));
        assert_eq!(untold.admit(1, Millis(5999)), (1, 0));
        assert_eq!(untold.admit(1, Millis(5999)), (0, 0));
        assert_eq!(untold.admit(7, Millis(5999)), (0, 0));
        assert_eq!(untold.admit(2, Millis(6000)), (2, 8));
        assert_eq!(untold.admit(UNROUTED_TOLD_MAX + 1, Millis(7000)), (UNROUTED_TOLD_MAX, 0));
        assert_eq!(untold.admit(1, Millis(6999)), (1, 1), "a clock that goes back begins anew");
    }
}
