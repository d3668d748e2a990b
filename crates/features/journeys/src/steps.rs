//! Facts in people's words.

use waystation_broker::entry::{Reason, Step as Cause};
use waystation_record::{Client, Event, Happening, Sweep, What};

use crate::journey::{Sender, Step};

pub(crate) fn sender(client: &Client) -> Sender {
    let Client { door, address, user, name } = client.clone();
    Sender { door, address, user, name }
}

/// What a reason for being done is called.
pub(crate) fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Accepted => "acknowledged",
        Reason::Rejected => "rejected",
        Reason::Expired => "expired",
        Reason::Attempts => "max_attempts",
        Reason::Overflow => "max_length",
        Reason::Purged => "purged",
        Reason::DeadLettered => "dead_lettered",
        Reason::Filtered => "filtered",
        Reason::Withdrawn => "withdrawn",
        Reason::Age => "max_age",
    }
}

/// Why a message came back, where nobody asked for it.
fn came_back(step: Cause) -> Option<&'static str> {
    match step {
        Cause::Request | Cause::Dispatch => None,
        Cause::Timer => Some("its lease was over"),
        Cause::Gone => Some("its consumer was gone"),
        Cause::Start => Some("the server was started anew while it was held"),
    }
}

/// One thing that happened. Publishing is told of elsewhere.
pub(crate) fn step(event: &Event) -> Option<Step> {
    let by = event.client.as_ref().map(sender);
    let plain = Step { at: event.at.0, by, ..Step::default() };
    let named = |what: &str| Step { what: what.to_owned(), ..plain.clone() };
    Some(match &event.what {
        Happening::Fact(What::Published(_)) => return None,
        Happening::Fact(What::Handed { attempt, held_ms }) => {
            let ms = Some(*held_ms).filter(|ms| *ms > 0);
            Step { attempt: Some(attempt.0), ms, ..named("delivered") }
        }
        Happening::Fact(What::Returned { attempt, delay_ms, step }) => {
            let what = if *delay_ms > 0 { "delayed" } else { "returned" };
            let ms = Some(*delay_ms).filter(|ms| *ms > 0);
            let why = came_back(*step).map(str::to_owned);
            Step { attempt: Some(attempt.0), ms, why, ..named(what) }
        }
        Happening::Fact(What::Extended { held_ms }) => Step { ms: Some(*held_ms), ..named("extended") },
        Happening::Fact(What::Condemned { reason: cause, attempt, error }) => {
            Step { attempt: Some(attempt.0), why: error.clone(), ..named(reason(*cause)) }
        }
        Happening::Fact(What::Called { to, status, took_ms, error }) => Step {
            to: Some(to.clone()).filter(|to| !to.is_empty()),
            status: *status,
            ms: Some(*took_ms),
            why: error.clone(),
            ..named("called")
        },
        Happening::Fact(What::Failed { class, error }) => {
            let words: Vec<&str> = [class, error].into_iter().flatten().map(String::as_str).collect();
            Step { why: Some(words.join(": ")).filter(|why| !why.is_empty()), ..named("failed") }
        }
        Happening::Fact(What::Done { reason: Reason::Accepted, step: Cause::Dispatch }) => Step {
            why: Some("its consumer acknowledges whatever it gets".to_owned()),
            ..named("acknowledged")
        },
        Happening::Fact(What::Done { reason: cause, .. }) => named(reason(*cause)),
        Happening::Swept(Sweep::Retention) => named("retired"),
        Happening::Swept(Sweep::Deleted) => named("deleted"),
        Happening::Swept(Sweep::Moved) => named("passed"),
        Happening::Swept(sweep) => named(sweep.reason().map_or("gone", reason)),
    })
}

/// Whether it is over with this, for the queue or subscription that it happened in.
pub(crate) fn ends(event: &Event) -> bool {
    match &event.what {
        Happening::Fact(What::Done { .. }) => true,
        Happening::Fact(_) => false,
        Happening::Swept(_) => true,
    }
}
