//! How large anything on the wire may get.

/// The smallest frame size that a peer may ask for (AMQP 0-9-1 §4.2.3, `frame-min-size`).
pub const FRAME_BYTES_MIN: u32 = 4_096;
/// What RabbitMQ offers, and so what clients are built for.
pub const FRAME_BYTES_DEFAULT: u32 = 131_072;
/// The largest frame size that is agreed to, whatever a client asks for.
pub const FRAME_BYTES_MAX: u32 = 16 << 20;
/// The largest frame before the size has been agreed on (AMQP 0-9-1 §4.2.3): RabbitMQ takes no more either.
pub const FRAME_BYTES_HANDSHAKE: u32 = FRAME_BYTES_MIN;
/// Bytes of a frame besides its payload: type, channel, size and end.
pub const FRAME_OVERHEAD_BYTES: usize = 8;
/// Bytes of a short string (its length is one byte).
pub const SHORT_BYTES_MAX: usize = 255;
/// Tables and arrays within each other in one table, the table itself not counted; as deep as a message header may be.
pub const TABLE_DEPTH_MAX: usize = waystation_base::limits::VALUE_DEPTH_MAX;
/// Values in one table, those of inner tables and arrays counted.
pub const TABLE_VALUES_MAX: usize = 16_384;
/// Bodies up to this size are copied behind their frame header; larger ones are written from where they lie.
pub const COPIED_BODY_BYTES_MAX: usize = 4_096;
