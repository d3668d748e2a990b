//! What do RabbitMQ's words for queues mean in ours? Shared by declarations, which say them as arguments, and policies. Pure.

use waystation_base::{limits::DELAY_MS_MAX, vhost};
use waystation_broker::spec::{Overflow, QueueSpec, Spec};

/// What kind of queue RabbitMQ would make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// A queue.
    #[default]
    Classic,
    /// A queue that counts deliveries; always durable.
    Quorum,
    /// A topic.
    Stream,
}

impl QueueType {
    /// As `x-queue-type` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
            QueueType::Stream => "stream",
        }
    }

    /// The type that `x-queue-type` names.
    pub fn read(text: &str) -> Option<QueueType> {
        [QueueType::Classic, QueueType::Quorum, QueueType::Stream]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// The type of a queue or topic that is there; for others, whatever they are, classic.
pub fn queue_type(spec: &Spec) -> QueueType {
    match spec {
        Spec::Topic(_) => QueueType::Stream,
        Spec::Queue(spec) if spec.arguments.get("x-queue-type").is_some_and(|kind| kind == "quorum") => {
            QueueType::Quorum
        }
        _ => QueueType::Classic,
    }
}

/// Sends dead letters to an exchange. The default exchange is the route without a name, under which keys are names of ours: a
/// message's own key is one only if it came by the default exchange too, or in the virtual host whose names stand alone.
pub fn set_dead_letter(
    spec: &mut QueueSpec,
    vhost: &str,
    name: &str,
    exchange: Option<&str>,
    key: Option<&str>,
) {
    match (exchange, key) {
        (None, _) => {}
        (Some(""), None) if vhost != vhost::DEFAULT => spec.dead_letter = Some(vhost::join(vhost, name)),
        (Some(""), key) => {
            spec.dead_letter_route = Some(String::new());
            spec.dead_letter_key = key.map(|key| vhost::join(vhost, key));
        }
        (Some(exchange), key) => {
            spec.dead_letter_route = Some(vhost::join(vhost, exchange));
            spec.dead_letter_key = key.map(str::to_owned);
        }
    }
}

/// What happens at the length limit; without a limit, nothing can. RabbitMQ drops the oldest unless told otherwise.
pub fn set_overflow(spec: &mut QueueSpec, overflow: Option<&str>) {
    if spec.max_messages.is_none() && spec.max_bytes.is_none() {
        return;
    }
    spec.overflow = match (overflow, spec.has_dead_letters()) {
        (Some("reject-publish"), _) | (Some("reject-publish-dlx"), false) => Overflow::RejectPublish,
        (Some("reject-publish-dlx"), true) => Overflow::DeadLetterPublish,
        (_, true) => Overflow::DeadLetterHead,
        (_, false) => Overflow::DropHead,
    };
}

/// `7D`, `12h` and so on in milliseconds; years have 365 days and months 30.
pub fn age_ms(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit_ms: u64 = match &text[digits..] {
        "Y" => 365 * 86_400_000,
        "M" => 30 * 86_400_000,
        "D" => 86_400_000,
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1_000,
        _ => return None,
    };
    let count: u64 = text[..digits].parse().ok().filter(|count| *count > 0)?;
    // Past what a topic may say, nothing gets old.
    Some(count.checked_mul(unit_ms)?.min(DELAY_MS_MAX))
}
