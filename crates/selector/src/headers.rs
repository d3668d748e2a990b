//! The names that JMS gives to what is part of every message.

/// What a selector may ask of a message besides its properties (JMS 2.0 §3.8.1.1). The text in each is what a client of JMS sees:
/// `JMSDeliveryMode` is `'PERSISTENT'` or `'NON_PERSISTENT'`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// `JMSDeliveryMode`.
    DeliveryMode,
    /// `JMSPriority`.
    Priority,
    /// `JMSMessageID`.
    MessageId,
    /// `JMSTimestamp`: when it was published, in milliseconds.
    Timestamp,
    /// `JMSCorrelationID`.
    CorrelationId,
    /// `JMSType`.
    Type,
}

const HEADERS: &[(&str, Header)] = &[
    ("JMSDeliveryMode", Header::DeliveryMode),
    ("JMSPriority", Header::Priority),
    ("JMSMessageID", Header::MessageId),
    ("JMSTimestamp", Header::Timestamp),
    ("JMSCorrelationID", Header::CorrelationId),
    ("JMSType", Header::Type),
];

impl Header {
    /// The header of that name, if it is one.
    pub fn named(name: &str) -> Option<Header> {
        HEADERS.iter().find(|(known, _)| *known == name).map(|(_, header)| *header)
    }
}

/// Refuses what looks like a header of JMS and is none that a selector may ask for. `JMSX…` and `JMS_…` are properties (§3.5.9).
pub fn check(name: &str) -> Result<(), String> {
    let is_other = name.starts_with("JMS") && !name.starts_with("JMSX") && !name.starts_with("JMS_");
    if !is_other || Header::named(name).is_some() {
        return Ok(());
    }
    let known: Vec<_> = HEADERS.iter().map(|(known, _)| *known).collect();
    Err(format!("{name} cannot be asked for: there are {}", known.join(", ")))
}
