//! Which protocol does a new connection speak? Its first eight bytes say so (AMQP 0-9-1 §4.2.2).

/// What a client of AMQP 0-9-1 sends first, and what the server answers to any other greeting before it closes.
pub const GREETING: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The first eight bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// AMQP 0-9-1.
    Amqp091,
    /// Some other version of AMQP: answer [`GREETING`] and close.
    OtherVersion([u8; 8]),
    /// Not AMQP at all: answer [`GREETING`] and close.
    Foreign,
}

impl Greeting {
    /// Reads the greeting; none while more bytes are needed to tell.
    pub fn read(bytes: &[u8]) -> Option<Greeting> {
        let have = bytes.len().min(4);
        if bytes[..have] != GREETING[..have] {
            return Some(Greeting::Foreign);
        }
        let greeting: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
        Some(if greeting == GREETING { Greeting::Amqp091 } else { Greeting::OtherVersion(greeting) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_told_as_soon_as_its_bytes_allow() {
        assert_eq!(Greeting::read(b""), None);
        assert_eq!(Greeting::read(b"AMQP\0\0\x09"), None);
        assert_eq!(Greeting::read(b"AMQP\0\0\x09\x01"), Some(Greeting::Amqp091));
        assert_eq!(
            Greeting::read(b"AMQP\0\x01\0\0 and more"),
            Some(Greeting::OtherVersion(*b"AMQP\0\x01\0\0"))
        );
        assert_eq!(Greeting::read(b"G"), Some(Greeting::Foreign));
        assert_eq!(Greeting::read(b"AMQX"), Some(Greeting::Foreign));
    }
}
