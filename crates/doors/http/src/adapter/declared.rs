//! What is answered to whoever declares something, or lets it rest and work again?

use axum::{http::StatusCode, response::Response};
use waystation_broker::effect;

use super::{json, ok};
use crate::{
    api::{Declaration, Declared},
    failure::Failure,
};

impl From<effect::Declared> for Declared {
    fn from(declared: effect::Declared) -> Declared {
        match declared {
            effect::Declared::Created => Declared::Created,
            effect::Declared::Changed => Declared::Changed,
            effect::Declared::Unchanged => Declared::Unchanged,
        }
    }
}

/// The status that goes with it; what was only tried is not there (RFC 9110 §15.3.2).
pub(super) fn status(declared: Declared, dry_run: bool) -> StatusCode {
    if declared == Declared::Created && !dry_run { StatusCode::CREATED } else { StatusCode::OK }
}

/// What a declaration did, or would do.
pub(super) fn declared(done: impl Into<Declared>, dry_run: bool) -> Result<Response, Failure> {
    let declared = done.into();
    json(status(declared, dry_run), &Declaration { declared })
}

/// Whether a pause, or its end, changed anything.
pub(super) fn changed(is_new: bool) -> Result<Response, Failure> {
    ok(&Declaration { declared: if is_new { Declared::Changed } else { Declared::Unchanged } })
}
