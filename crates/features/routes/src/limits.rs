//! How large may a route and what it does get?

/// Routes with steps of one server.
pub const ROUTES_MAX: usize = 10_000;
/// Declarations that are compiled at a time.
pub const COMPILING_MAX: usize = 2;
/// Steps of one route, those in its branches included.
pub const STEPS_MAX: usize = 1_000;
/// Cases of one `choose`.
pub const CASES_MAX: usize = 10_000;
/// How deep branches with steps of their own may be nested.
pub const NESTING_MAX: usize = 8;
/// How deep `all`, `any` and `not` may be nested.
pub const CONDITION_DEPTH_MAX: usize = 8;
/// Parts of one `all` or `any`.
pub const CONDITION_PARTS_MAX: usize = 64;
/// Addresses of one `to`, `tap` or list of recipients.
pub const TARGETS_MAX: usize = 256;
/// Bytes of one jq program or selector.
pub const PROGRAM_BYTES_MAX: usize = 64 << 10;
/// Bytes of a whole declaration as JSON.
pub const SPEC_BYTES_MAX: usize = 900 << 10;
/// Milliseconds that one jq evaluation may be allowed.
pub const TIME_MS_MAX: u64 = 60_000;
/// Bytes of all outputs of one message that may be allowed.
pub const OUTPUT_BYTES_MAX: usize = 24 << 20;
/// Outputs of one message that may be allowed.
pub const OUTPUTS_MAX: u32 = 10_000;
/// Routes that a message may pass one after the other, if that is allowed.
pub const HOPS_MAX: u32 = 1_000;
/// Messages of its source that a route works on at a time.
pub const WINDOW_MESSAGES_MAX: u32 = 512;
/// Bytes of them, past which it takes no more.
pub const WINDOW_BYTES_MAX: usize = 32 << 20;
/// Messages that are settled in one transaction.
pub const BATCH_MESSAGES_MAX: usize = 256;
/// Bytes of what such a transaction publishes, unless one message alone has more.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes of an error's text in a dead letter.
pub const ERROR_BYTES_MAX: usize = 1_000;
/// Messages that a trial may be given, or may take from the source.
pub const TRIAL_MESSAGES_MAX: usize = 1_000;
/// Milliseconds after which a trial takes no further message.
pub const TRIAL_MS_MAX: u64 = 30_000;
/// Messages of a source that are looked through for its last ones.
pub const TRIAL_SCAN_MAX: usize = 200_000;
/// Records that are looked through for the one that explains a message.
pub const EXPLAIN_SCAN_MAX: usize = 200_000;
/// Cases of a `choose` up to which a record says of each why it did not match; of longer ones it counts those that want another value.
pub const CASES_RECORDED_MAX: usize = 20;
/// What a trial or an explanation says of cases that did not match; the rest is counted.
pub const REASONS_MAX: usize = 100;
/// What the steps may say of one message; the rest is counted.
pub const TRAIL_MAX: usize = 1_000;
/// Bytes of it.
pub const TRAIL_BYTES_MAX: usize = 1 << 20;
/// Messages that a step holds at a time; past it the oldest go on as they are.
pub const HELD_MESSAGES_MAX: usize = 50_000;
/// Bytes of them, unless the route says otherwise.
pub const HELD_BYTES: usize = 128 << 20;
/// Bytes of them that a route may allow.
pub const HELD_BYTES_MAX: usize = 1 << 30;
/// Messages that a step has let go and that are not stored yet, as when a service behind it does not answer; past it, it takes no more.
pub const HELD_DUE_MAX: usize = 10_000;
/// Messages on a step's queue, those that it holds and those that it has let go with them; past it, what comes to it is held up.
pub const HELD_TOTAL_MAX: usize = HELD_MESSAGES_MAX + HELD_DUE_MAX;
/// What a step lets go that is worked on at a time, each of another key.
pub const HELD_WORKED_ON_MAX: usize = 64;
/// Bytes of all bodies that are put together.
pub const AGGREGATE_BYTES_MAX: usize = 16 << 20;
/// Milliseconds that a service may be given to answer.
pub const ENRICH_MS_MAX: u64 = 60_000;
/// Bytes of a service's answer.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Answers that one step may keep.
pub const CACHE_ENTRIES_MAX: usize = 100_000;
/// Bytes of the answers that one step keeps.
pub const CACHE_BYTES_MAX: usize = 16 << 20;
/// Tables on topics that are known at a time.
pub const TABLES_MAX: usize = 1_000;
/// Entries of one such table.
pub const TABLE_ENTRIES_MAX: usize = 100_000;
/// Bytes of its keys and addresses, with what it costs to hold them.
pub const TABLE_BYTES_MAX: usize = 16 << 20;
/// Bytes of all such tables together.
pub const TABLES_BYTES_MAX: usize = 256 << 20;
/// Bytes of the body of one entry: room for [`TARGETS_MAX`] addresses.
pub const TABLE_ENTRY_BYTES_MAX: usize = 128 << 10;
/// Milliseconds after which a table that was too large is read again.
pub const TABLE_AGAIN_MS: u64 = 60_000;
