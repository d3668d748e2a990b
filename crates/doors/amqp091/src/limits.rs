//! How much may be asked of this door at once, and for how long?

use serde::{Deserialize, Serialize};

use crate::wire::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, FRAME_BYTES_MIN};

/// Channels of one connection, as RabbitMQ offers them.
pub const CHANNELS_DEFAULT: u16 = 2047;
/// Seconds between heartbeats that are proposed, as RabbitMQ does.
pub const HEARTBEAT_SECONDS_DEFAULT: u16 = 60;
/// Bytes of a consumer tag: a short string.
pub const CONSUMER_TAG_BYTES_MAX: usize = 255;
/// Consumers of one channel; one more is refused with 530.
pub const CONSUMERS_PER_CHANNEL_MAX: usize = 4_096;
/// Bytes that are read from a socket in one go.
pub const READ_BYTES: usize = 256 << 10;
/// Bytes of answers and deliveries that wait for a client to read them; above it its consumers are paused.
pub const WRITE_BYTES_HIGH: usize = 1 << 20;
/// The same above which nothing more is read from the client either: it asks, and does not take the answers.
pub const WRITE_BYTES_MAX: usize = 4 << 20;
/// Publishes of one connection that are not durable yet; above it nothing more is read from the client.
pub const PUBLISHES_OPEN_MAX: usize = 65_536;
/// Bytes of them; one publish at least is taken.
pub const PUBLISHES_OPEN_BYTES_MAX: usize = 16 << 20;
/// Settlements on their way to the broker, in batches; above it nothing more is read from the client.
pub const SETTLES_OPEN_MAX: usize = 256;
/// Requests that wait behind an unanswered one, over all channels of a connection; above it nothing more is read.
pub const BACKLOG_MAX: usize = 1_024;
/// Bytes of the messages among them; above it nothing more is read.
pub const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// Frames that are listened to after the server has said `close` and before it hangs up.
pub const FRAMES_AFTER_CLOSE_MAX: usize = 100_000;
/// Channels of a connection that were closed for an error and wait for the client's `close-ok`.
pub const CHANNELS_CLOSING_MAX: usize = 256;
/// Bytes of publishes in one open transaction; past it the channel is closed.
pub const TRANSACTION_BYTES_MAX: usize = 32 << 20;
/// Publishes and acknowledgements in one open transaction; past it the channel is closed.
pub const TRANSACTION_PARTS_MAX: usize = 65_536;
/// Messages that a consumer without acknowledgements is given ahead of what was written to its socket.
pub const WINDOW_WITHOUT_ACK: u32 = 2_048;
/// Messages by direct reply-to that wait for one connection; further ones count as not routable.
pub const REPLIES_WAITING_MAX: usize = 4_096;

/// The bounds that a deployment may choose. An unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections; one more is closed at once.
    pub connections_max: usize,
    /// Channels of one connection.
    pub channels_max: u16,
    /// Bytes of one frame.
    pub frame_bytes_max: u32,
    /// Bytes of one message's body.
    pub message_bytes_max: usize,
    /// Seconds between heartbeats that are proposed; 0: none are.
    pub heartbeat_seconds: u16,
    /// Milliseconds from the first byte to an open connection, TLS included.
    pub handshake_ms: u64,
    /// Milliseconds for which a client may leave what is written to it untaken.
    pub write_ms: u64,
    /// Milliseconds for connections to say goodbye when the server shuts down.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            channels_max: CHANNELS_DEFAULT,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            // A message's properties and headers need room beside its body.
            message_bytes_max: waystation_base::limits::MESSAGE_BYTES_MAX - (256 << 10),
            heartbeat_seconds: HEARTBEAT_SECONDS_DEFAULT,
            handshake_ms: 10_000,
            write_ms: 60_000,
            drain_ms: 5_000,
        }
    }
}

impl Limits {
    /// The first bound that is out of its range, with lower and upper end.
    pub fn check(&self) -> Result<(), (&'static str, u64, u64, u64)> {
        let message_max = waystation_base::limits::MESSAGE_BYTES_MAX as u64;
        let ranges = [
            ("connections_max", self.connections_max as u64, 1, 1_000_000),
            ("channels_max", self.channels_max.into(), 1, u16::MAX.into()),
            ("frame_bytes_max", self.frame_bytes_max.into(), FRAME_BYTES_MIN.into(), FRAME_BYTES_MAX.into()),
            ("message_bytes_max", self.message_bytes_max as u64, 1, message_max),
            ("heartbeat_seconds", self.heartbeat_seconds.into(), 0, u16::MAX.into()),
            ("handshake_ms", self.handshake_ms, 1, 3_600_000),
            ("write_ms", self.write_ms, 1, 3_600_000),
            ("drain_ms", self.drain_ms, 1, 3_600_000),
        ];
        let wrong = ranges.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value));
        wrong.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: fn(&mut Limits), expected: Option<&str>) {
        let mut limits = Limits::default();
        change(&mut limits);
        assert_eq!(limits.check().err().map(|(name, ..)| name), expected, "{limits:?}");
    }

    #[test]
    fn each_bound_is_checked_at_its_ends_and_past_them() {
        check(|_| (), None);
        check(|it| it.connections_max = 0, Some("connections_max"));
        check(|it| it.channels_max = 0, Some("channels_max"));
        check(|it| it.frame_bytes_max = FRAME_BYTES_MIN, None);
        check(|it| it.frame_bytes_max = FRAME_BYTES_MIN - 1, Some("frame_bytes_max"));
        check(|it| it.frame_bytes_max = FRAME_BYTES_MAX + 1, Some("frame_bytes_max"));
        check(|it| it.message_bytes_max = usize::MAX, Some("message_bytes_max"));
        check(|it| it.heartbeat_seconds = 0, None);
        check(|it| it.handshake_ms = 0, Some("handshake_ms"));
    }
}
