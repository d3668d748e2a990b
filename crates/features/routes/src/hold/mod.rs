//! Steps that hold messages until others have come or time has passed. What they hold is a queue of the route's own, consumed and not
//! settled: the queue is the state, so that it is there again after a crash, and a step of it is one transaction.

mod act;
mod combine;
mod draft;
pub(crate) mod groups;
pub(crate) mod plan;
pub(crate) mod says;
pub(crate) mod sequence;
mod worker;

pub(crate) use plan::Plan;
pub(crate) use worker::Holder;
