//! Push subscriptions: a queue or subscription delivered to an endpoint.

pub mod addressed;
pub mod callbacks;
mod document;
pub mod ledger;
mod live;
mod plan;
mod pusher;
mod pushes;
pub mod record;
pub mod redrive;
mod settle;
pub mod spec;

pub use addressed::{Addressed, Signing};
pub use callbacks::Callbacks;
pub use ledger::{Fate, Ledger, Standing};
pub use live::{Live, PushState};
pub use plan::{Endpoint, Plan};
pub use pusher::{Ended, Options, Pusher};
pub use pushes::{Error, Figures, PUSHES_MAX, PushInfo, Pushes, TEST_TYPE, Tested, test_event};
pub use spec::{Format, PushSpec};
