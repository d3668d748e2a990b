//! Which header of a message is which property of AMQP, and which is an entry of its headers table?

use waystation_base::message::header;

/// The property flags as sent (low 16 bits) and the delivery mode (bits 16-23): that a message came through this door.
pub(crate) const FLAGS: &str = "ws-amqp-flags";
/// The property `cluster-id`.
pub(crate) const CLUSTER_ID: &str = "ws-amqp-cluster-id";
/// A timestamp too far in the future to be a message's time.
pub(crate) const TIMESTAMP: &str = "ws-amqp-timestamp";
/// In front of a name that would be taken for one of ours.
pub(crate) const ESCAPED: &str = header::ESCAPED_PREFIX;
/// What consumers are told beside `x-death`: the error, of a route with steps which one and at which step, and redrives. Senders
/// cannot set them.
const TOLD: [&str; 5] =
    [header::DEATH_ERROR, "ws-death-route", "ws-death-step", header::REDRIVE, header::REDRIVE_COUNT];
/// The property `app-id`.
pub(crate) const APP_ID: &str = "app-id";
/// RabbitMQ's header for further routing keys that nobody gets to see.
pub(crate) const BCC: &str = "BCC";

/// The short-string properties, numbered.
pub(crate) mod text {
    pub const CONTENT_TYPE: usize = 0;
    pub const CONTENT_ENCODING: usize = 1;
    pub const CORRELATION_ID: usize = 2;
    pub const REPLY_TO: usize = 3;
    pub const EXPIRATION: usize = 4;
    pub const MESSAGE_ID: usize = 5;
    pub const KIND: usize = 6;
    pub const USER_ID: usize = 7;
    pub const APP_ID: usize = 8;
    pub const CLUSTER_ID: usize = 9;
    /// How many there are.
    pub const COUNT: usize = 10;
}

/// What a header of a message is to AMQP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role<'a> {
    /// A short-string property, by its number in [`text`].
    Text(usize),
    /// An entry of the headers table, under this name.
    Entry(&'a str),
    /// [`FLAGS`].
    Flags,
    /// [`TIMESTAMP`].
    Timestamp,
    /// [`header::ROUTE`].
    Route,
    /// [`header::ROUTING_KEY`].
    RoutingKey,
    /// [`header::DEATHS`]: shown as `x-death`.
    Deaths,
    /// [`header::DEATH_FIRST_SOURCE`]: shown as `x-first-death-queue`.
    FirstQueue,
    /// [`header::DEATH_FIRST_REASON`]: shown as `x-first-death-reason`.
    FirstReason,
    /// [`header::DEATH_FIRST_ROUTE`]: shown as `x-first-death-exchange`.
    FirstExchange,
    /// Waystation's own, not shown.
    Hidden,
}

/// The role of a header.
#[inline]
pub(crate) fn role(name: &str) -> Role<'_> {
    match name {
        header::CONTENT_TYPE => Role::Text(text::CONTENT_TYPE),
        header::CONTENT_ENCODING => Role::Text(text::CONTENT_ENCODING),
        header::CORRELATION_ID => Role::Text(text::CORRELATION_ID),
        header::REPLY_TO => Role::Text(text::REPLY_TO),
        header::MESSAGE_ID => Role::Text(text::MESSAGE_ID),
        header::TYPE => Role::Text(text::KIND),
        header::USER_ID => Role::Text(text::USER_ID),
        APP_ID => Role::Text(text::APP_ID),
        _ if !name.starts_with("ws-") => Role::Entry(name),
        _ => own_role(name),
    }
}

fn own_role(name: &str) -> Role<'_> {
    match name {
        FLAGS => Role::Flags,
        header::ROUTE => Role::Route,
        header::ROUTING_KEY => Role::RoutingKey,
        header::EXPIRATION => Role::Text(text::EXPIRATION),
        CLUSTER_ID => Role::Text(text::CLUSTER_ID),
        TIMESTAMP => Role::Timestamp,
        header::DEATHS => Role::Deaths,
        header::DEATH_FIRST_SOURCE => Role::FirstQueue,
        header::DEATH_FIRST_REASON => Role::FirstReason,
        header::DEATH_FIRST_ROUTE => Role::FirstExchange,
        _ if header::is_shared(name) || is_told(name) => Role::Entry(name),
        _ => name.strip_prefix(ESCAPED).map_or(Role::Hidden, Role::Entry),
    }
}

/// Whether a header is Waystation's word, and shown as it is.
pub(crate) fn is_told(name: &str) -> bool {
    TOLD.contains(&name)
}
