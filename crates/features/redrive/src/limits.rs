//! The bounds of dead letters and redrives.

/// Dead letters whose group is kept in memory, over all queues, at 12 bytes each; more are counted as not looked at.
pub const LETTERS_MAX: usize = 4_000_000;
/// Groups of all queues, each by its origin; letters of more are counted together as others.
pub const CELLS_MAX: usize = 10_000;
/// Characters of an error text that groups go by.
pub const ERROR_CHARS_MAX: usize = 512;
/// Groups or members in one answer.
pub const PAGE_MAX: usize = 1_000;
/// Messages that are looked at together.
pub const LOOK_MESSAGES: usize = 1_000;
/// Bytes of them.
pub const LOOK_BYTES: usize = 8 << 20;
/// Messages that a redrive moves in one transaction.
pub const BATCH_MESSAGES: usize = 500;
/// Bytes of messages that a redrive looks at for one transaction.
pub const BATCH_BYTES: usize = 4 << 20;
/// Ids that one redrive may name.
pub const IDS_MAX: usize = 10_000;
/// Samples in a preview.
pub const SAMPLES: usize = 5;
/// Messages that a preview looks at, if no group answers without; then it says that there are more.
pub const PREVIEW_LOOK_MAX: usize = 1_000_000;
/// Redrives that work at a time; one more is refused.
pub const ACTIVE_MAX: usize = 16;
/// Redrives that are kept after their end; the oldest goes when there is one more.
pub const ENDED_MAX: usize = 1_000;
/// Messages a second that a redrive may be held to.
pub const RATE_MAX: u32 = 1_000_000;
/// Reasons that a redrive keeps of what it left where it was.
pub const REASONS_MAX: usize = 20;
/// Targets that a redrive may bring messages to; those for more are left where they are.
pub const TARGETS_MAX: usize = 1_000;
/// Milliseconds for which a message is kept as it was before a redrive edited it.
pub const ORIGINALS_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Bytes of such messages.
pub const ORIGINALS_BYTES: u64 = 10 << 30;
