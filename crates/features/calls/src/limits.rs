//! How large calls may get: every bound, named, with its unit last.

use waystation_base::limits::DELAY_MS_MAX;

/// Bytes of an operation's name.
pub const OPERATION_NAME_BYTES_MAX: usize = 200;
/// Operations together.
pub const OPERATIONS_MAX: usize = 10_000;
/// Bytes that an operation may allow a request's body.
pub const BODY_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a result's body; a larger one fails its call.
pub const RESULT_BYTES_MAX: usize = 16 << 20;
/// Headers that a result keeps.
pub const RESULT_HEADERS_MAX: usize = 64;
/// Bytes of names and values of a result's headers.
pub const RESULT_HEADER_BYTES_MAX: usize = 16 << 10;
/// Milliseconds after which a call expires, and for which a result is kept.
pub const TIMEOUT_MS_MAX: u64 = DELAY_MS_MAX;
/// Milliseconds that one request may wait for a call.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Attempts that an operation may allow.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Patterns of callback addresses of one operation.
pub const CALLBACK_PATTERNS_MAX: usize = 64;
/// Secrets of one operation.
pub const CALLBACK_SECRETS_MAX: usize = 8;
/// Bytes of a callback's address, and of a pattern of them.
pub const CALLBACK_URL_BYTES_MAX: usize = 2_048;
/// Bytes of a result's body that a callback carries; a larger one is to be fetched.
pub const CALLBACK_BODY_BYTES_MAX: usize = 256 << 10;
/// Request headers that an operation hands on.
pub const HANDED_HEADERS_MAX: usize = 32;
/// Bytes of an idempotency key.
pub const KEY_BYTES_MAX: usize = 255;
/// Bytes of a correlation id by which a call can be found; a longer one only goes along.
pub const CORRELATION_BYTES_MAX: usize = 1_024;
/// Queues or patterns of queues that an operation may reply to.
pub const REPLY_PATTERNS_MAX: usize = 64;
/// Messages of one intake that are on their way to be calls.
pub const INTAKE_HELD_MAX: u32 = 64;
/// Bytes of a worker's error text or note; what is longer is cut.
pub const NOTE_BYTES_MAX: usize = 2_048;
/// Calls that are kept at all, open and finished.
pub const CALLS_MAX: usize = 2_000_000;
/// Ids of forgotten calls that are still known as gone.
pub const GONE_MAX: usize = 200_000;
/// Changes on their way to the journal at a time.
pub const FLIGHTS_MAX: usize = 4_096;
/// Requests that wait for the engine.
pub const ASKS_MAX: usize = 1_024;
/// Changes that wait for one call.
pub const WAITING_MAX: usize = 256;
/// Requests with one idempotency key that wait for the first of them.
pub const TWINS_MAX: usize = 256;
/// Calls on one page of a list.
pub const PAGE_CALLS_MAX: usize = 1_000;
/// Calls that are looked at for one page of a list.
pub const SCAN_CALLS_MAX: usize = 50_000;
/// Calls ahead that are counted one by one for a place in the queue.
pub const PLACE_MAX: usize = 10_000;
/// Replies that the engine holds at a time.
pub const REPLIES_HELD_MAX: u32 = 512;
/// Calls that a worker may receive at a time.
pub const RECEIVE_MAX: u32 = 100;
/// Bytes of records after which what stands in memory is written down, so that a start need not read them.
pub const BEHIND_BYTES_MIN: u64 = 16 << 20;
/// Milliseconds after which it is written down however few they are: long before the record goes that a call was forgotten, which
/// pages that are older would bring back.
pub const BEHIND_MS_MAX: u64 = GONE_MS / 4;
/// Bytes of pages that are written together; one more page may follow.
pub const PAGES_BYTES_MAX: usize = 256 << 10;
/// Timers that are carried out before anything else has its turn.
pub const TIMERS_MAX: usize = 256;
/// Bytes of late results that are kept as facts.
pub const LATE_BYTES: u64 = 256 << 20;
/// Milliseconds for which they are kept.
pub const LATE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Milliseconds for which the record that a call was forgotten is kept, and after a restart the answer is still "gone".
pub const GONE_MS: u64 = 24 * 60 * 60 * 1000;
/// Operations with an upstream.
pub const UPSTREAMS_MAX: usize = 1_000;
/// Requests to one upstream at a time.
pub const UPSTREAM_CONCURRENCY_MAX: u32 = 256;
/// Milliseconds that one request to an upstream may take.
pub const UPSTREAM_TIMEOUT_MS_MAX: u64 = 60 * 60 * 1000;
/// Headers that requests to an upstream get by declaration, and headers of its answers that are named to be kept.
pub const UPSTREAM_HEADERS_MAX: usize = 32;
/// Bytes of the value of one of them.
pub const UPSTREAM_HEADER_BYTES_MAX: usize = 8 << 10;
/// Statuses and classes of them that are declared to be tried again.
pub const UPSTREAM_STATUSES_MAX: usize = 64;
/// Failures of one upstream that are remembered; the oldest is forgotten first.
pub const UPSTREAM_FAILURES_MAX: usize = 20;
/// Bytes of requests to upstreams and their answers that a server must be allowed to hold at a time: one of the largest kind.
pub const UPSTREAM_BUFFER_BYTES_MIN: u64 = BODY_BYTES_MAX + RESULT_BYTES_MAX as u64;

/// The bounds of one engine, as tests may narrow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`CALLS_MAX`].
    pub calls_max: usize,
    /// See [`OPERATIONS_MAX`].
    pub operations_max: usize,
    /// See [`FLIGHTS_MAX`].
    pub flights_max: usize,
    /// See [`ASKS_MAX`].
    pub asks_max: usize,
    /// See [`WAITING_MAX`].
    pub waiting_max: usize,
    /// See [`SCAN_CALLS_MAX`].
    pub scan_calls_max: usize,
    /// See [`REPLIES_HELD_MAX`].
    pub replies_held_max: u32,
    /// See [`TIMERS_MAX`].
    pub timers_max: usize,
    /// See [`BEHIND_BYTES_MIN`].
    pub behind_bytes_min: u64,
    /// See [`BEHIND_MS_MAX`].
    pub behind_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            calls_max: CALLS_MAX,
            operations_max: OPERATIONS_MAX,
            flights_max: FLIGHTS_MAX,
            asks_max: ASKS_MAX,
            waiting_max: WAITING_MAX,
            scan_calls_max: SCAN_CALLS_MAX,
            replies_held_max: REPLIES_HELD_MAX,
            timers_max: TIMERS_MAX,
            behind_bytes_min: BEHIND_BYTES_MIN,
            behind_ms_max: BEHIND_MS_MAX,
        }
    }
}
