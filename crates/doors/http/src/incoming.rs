//! How is a request's body read: in bounded time, within its own limit and within what all bodies together may hold?

use std::time::Duration;

use axum::{body::Body, http::HeaderMap};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};
use waystation_net::Permit;

use crate::{
    door::{BUFFER_UNIT, Counts, Door},
    failure::{Failure, Kind},
};

/// Bytes up to which a body is not counted against what all bodies may hold: no more than a connection's own buffer.
const FREE_BYTES: usize = 64 << 10;

/// Bytes a second at which a body must come on the whole, once it has taken twice the time that one part of it may take: a
/// client that lets it drip would hold a request's place for as long as it likes.
const BYTES_A_SECOND_MIN: usize = 1 << 10;

/// A body that is wholly there.
#[derive(Debug)]
pub(crate) struct Whole {
    pub bytes: Bytes,
    /// Gives the room back when the request is done with.
    _room: Option<Permit>,
}

/// Room among what all bodies may hold, or a refusal.
pub(crate) fn make_room(door: &Door, room: &mut Option<Permit>, bytes: usize) -> Result<(), Failure> {
    let units = bytes.div_ceil(BUFFER_UNIT);
    let made = match room {
        None => {
            *room = door.buffered.take_many(units);
            room.is_some()
        }
        Some(permit) => units <= permit.count() || permit.grow(units - permit.count()),
    };
    let detail = "request bodies fill the memory that is set aside for them";
    if made { Ok(()) } else { Err(Failure::new(Kind::Overloaded, detail)) }
}

/// The next part of a body, or `None` at its end.
pub(crate) async fn next(door: &Door, body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = timeout(door.body_time(), body.frame()).await.map_err(|_| {
            let detail = format!("no part of the body came for {} ms", door.limits.body_ms);
            Failure::new(Kind::Timeout, detail)
        })?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(Failure::new(Kind::Malformed, format!("the body is cut: {error}")));
            }
            Some(Ok(frame)) => {
                // Trailers mean nothing here.
                if let Ok(data) = frame.into_data() {
                    Counts::add(&door.counts.received_bytes, data.len() as u64);
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The next part of a body of which so many bytes have come since it began.
async fn next_in_time(
    door: &Door,
    body: &mut Body,
    begun: Instant,
    bytes: usize,
) -> Result<Option<Bytes>, Failure> {
    let earned = Duration::from_millis((bytes * 1000 / BYTES_A_SECOND_MIN) as u64);
    let end = begun + 2 * door.body_time() + earned;
    timeout_at(end, next(door, body)).await.map_err(|_| {
        let detail =
            format!("the body came too slowly: send it at {BYTES_A_SECOND_MIN} bytes a second at least");
        Failure::new(Kind::Timeout, detail)
    })?
}

/// Reads a body to its end, at most `limit` bytes.
pub(crate) async fn whole(
    door: &Door,
    headers: &HeaderMap,
    mut body: Body,
    what: &str,
    limit: usize,
) -> Result<Whole, Failure> {
    let declared = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(Failure::too_large(what, limit));
    }
    let mut room = None;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let begun = Instant::now();
    while let Some(part) = next_in_time(door, &mut body, begun, first.len() + all.len()).await? {
        let length = first.len() + all.len() + part.len();
        if length > limit {
            return Err(Failure::too_large(what, limit));
        }
        if length > FREE_BYTES {
            make_room(door, &mut room, length)?;
        }
        if first.is_empty() && all.is_empty() {
            first = part;
            continue;
        }
        if all.is_empty() {
            all.reserve(declared.unwrap_or(0).max(length));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&part);
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Whole { bytes, _room: room })
}
