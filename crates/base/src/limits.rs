//! How large anything may get: every bound that the heart relies on, named, with its unit last.

/// Bytes of one message: body, key and headers together.
pub const MESSAGE_BYTES_MAX: usize = 23 << 20;
/// Bytes of one stored record batch.
pub const BATCH_BYTES_MAX: usize = 32 << 20;
/// Messages in one publish command.
pub const PUBLISH_MESSAGES_MAX: usize = 65_536;
/// Headers of one message.
pub const HEADERS_MAX: usize = 256;
/// Bytes of one header name.
pub const HEADER_NAME_BYTES_MAX: usize = 255;
/// Bytes of one message key.
pub const KEY_BYTES_MAX: usize = 32 << 10;
/// Nesting of lists and maps in a header value.
pub const VALUE_DEPTH_MAX: usize = 16;
/// Bytes of the name of a queue, topic, subscription, route or document.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Queues, topics, subscriptions and routes together.
pub const ENTITIES_MAX: usize = 100_000;
/// Bindings of all routes together.
pub const BINDINGS_MAX: usize = 1_000_000;
/// Bytes of one routing key or binding key.
pub const ROUTING_KEY_BYTES_MAX: usize = 1_024;
/// Messages of one route that nothing took and that the journal is told of in a second; the others are counted.
pub const UNROUTED_TOLD_MAX: usize = 100;
/// Bytes of the body of such a message past which the journal is told of it without.
pub const UNROUTED_BODY_BYTES_MAX: usize = 4_096;
/// Routing keys of one publish.
pub const ROUTING_KEYS_MAX: usize = 256;
/// Bytes of the JSON text of a declaration's or binding's arguments.
pub const ARGUMENTS_BYTES_MAX: usize = 64 << 10;
/// Bytes of one document.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Documents together.
pub const DOCUMENTS_MAX: usize = 100_000;
/// Bytes of all documents together: they are held in memory.
pub const DOCUMENTS_BYTES_MAX: usize = 256 << 20;
/// Partitions of one topic.
pub const PARTITIONS_MAX: u32 = 4_096;
/// Logs (topic partitions) that one subscription may read.
pub const SUBSCRIPTION_LOGS_MAX: usize = 65_535;
/// Credit pools of one session.
pub const POOLS_PER_SESSION_MAX: usize = 65_536;
/// Consumers attached to one queue or subscription.
pub const CONSUMERS_MAX: usize = 100_000;
/// Messages that one consumer may hold unacknowledged.
pub const CREDIT_MAX: u32 = 65_535;
/// Messages of one log that stand ready in memory ahead of delivery.
pub const WINDOW_MESSAGES_MAX: usize = 1_024;
/// Messages of one log that may be set aside because another one with their key is being worked on.
pub const PARKED_MESSAGES_MAX: usize = 10_000;
/// Delayed messages of one queue; a publish past it is refused.
pub const DELAYED_MESSAGES_MAX: usize = 2_000_000;
/// Message ids that one queue remembers for deduplication; the oldest is forgotten first.
pub const DEDUPLICATION_IDS_MAX: usize = 1_000_000;
/// Stretches of acknowledged offsets above the oldest unacknowledged one, for each log: there nothing new is handed out until
/// older messages are settled.
pub const ACKED_RANGES_MAX: usize = 100_000;
/// The same stretches of one log, for messages that are moved elsewhere while they wait: past it none is moved until older messages
/// have left. A million messages, every second one moved.
pub const WITHDRAWN_RANGES_MAX: usize = 500_000;
/// Messages of one log that may wait to be tried again: while there are as many nothing new of that log is handed out.
pub const RETRIES_WAITING_MAX: usize = 2_000_000;
/// Bytes of the error text that is kept of a failed attempt; a longer one is cut.
pub const ERROR_TEXT_BYTES_MAX: usize = 4 << 10;
/// Messages that a subscription that is fair to tenants reads ahead: beyond them tenants are not told apart.
pub const FAIR_AHEAD_MAX: usize = 100_000;
/// Tenants that have lanes of their own in one queue at a time: more of them share one lane until another tenant's is empty.
pub const TENANTS_MAX: usize = 127;
/// Depth of a filter expression.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Longest lease in milliseconds.
pub const LEASE_MS_MAX: u64 = 12 * 60 * 60 * 1000;
/// Longest delay in milliseconds: ten years.
pub const DELAY_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
