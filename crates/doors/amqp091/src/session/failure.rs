//! What went wrong, with which reply code, and does it close a channel or the whole connection?

use std::fmt;

use smol_str::SmolStr;

use crate::wire::{self, ReplyCode as Code};

/// Bytes of a reply text: it travels as a short string (AMQP 0-9-1 §4.2.5.3).
pub const REPLY_TEXT_BYTES_MAX: usize = 255;

/// One error as it is told to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reply code.
    pub code: Code,
    /// What happened, without the code's name.
    pub text: String,
    /// Class and method that caused it; zeros if none did.
    pub method: (u16, u16),
}

impl Failure {
    /// An error of any code.
    pub fn new(code: Code, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into(), method: (0, 0) }
    }

    /// 406.
    pub fn precondition(text: impl Into<String>) -> Failure {
        Failure::new(Code::PreconditionFailed, text)
    }

    /// 403.
    pub fn access(text: impl Into<String>) -> Failure {
        Failure::new(Code::AccessRefused, text)
    }

    /// 530.
    pub fn not_allowed(text: impl Into<String>) -> Failure {
        Failure::new(Code::NotAllowed, text)
    }

    /// 540.
    pub fn not_implemented(text: impl Into<String>) -> Failure {
        Failure::new(Code::NotImplemented, text)
    }

    /// 404 for a queue or exchange.
    pub fn not_found(what: &Resource) -> Failure {
        Failure::new(Code::NotFound, format!("no {what}"))
    }

    /// 405 for a queue that is another connection's own.
    pub fn locked(queue: &Resource) -> Failure {
        let text = format!(
            "cannot obtain exclusive access to locked {queue}. It could be originally declared on another \
             connection or the exclusive property value does not match that of the original declaration."
        );
        Failure::new(Code::ResourceLocked, text)
    }

    /// `basic.get` from a queue that gives messages to one consumer alone: quorum queues refuse it, classic ones do not.
    pub fn no_get(queue: &Resource) -> Failure {
        let text = format!(
            "cannot obtain access to locked {queue}. basic.get operations are not supported by quorum queues with single active consumer"
        );
        Failure::new(Code::ResourceLocked, text)
    }

    /// 406 for a declaration that differs from what is there. `received` and `current` come quoted, or are `none`.
    pub fn inequivalent(what: &Resource, argument: &str, received: &str, current: &str) -> Failure {
        Failure::precondition(format!(
            "inequivalent arg '{argument}' for {what}: received {received} but current is {current}"
        ))
    }

    /// The same, caused by this class and method.
    pub fn caused_by(mut self, method: (u16, u16)) -> Failure {
        if self.method == (0, 0) {
            self.method = method;
        }
        self
    }

    /// The reply text: the code's name and the fact, cut where a short string ends.
    pub fn reply_text(&self) -> SmolStr {
        let mut text = format!("{} - {}", self.code.name(), self.text);
        if text.len() > REPLY_TEXT_BYTES_MAX {
            let cut = (0..=REPLY_TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(cut);
        }
        text.into()
    }
}

impl From<wire::Error> for Failure {
    fn from(error: wire::Error) -> Failure {
        let method = if let wire::Error::Arguments { method, .. } = &error { *method } else { (0, 0) };
        Failure { method, ..Failure::new(error.code(), error.to_string()) }
    }
}

/// A queue or exchange as error texts name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `queue` or `exchange`.
    pub kind: &'static str,
    /// The client's name for it.
    pub name: SmolStr,
    /// The virtual host.
    pub vhost: SmolStr,
}

impl Resource {
    /// A queue.
    pub fn queue(vhost: &SmolStr, name: &str) -> Resource {
        Resource { kind: "queue", name: name.into(), vhost: vhost.clone() }
    }

    /// An exchange.
    pub fn exchange(vhost: &SmolStr, name: &str) -> Resource {
        Resource { kind: "exchange", name: name.into(), vhost: vhost.clone() }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' in vhost '{}'", self.kind, self.name, self.vhost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Failure, text: &str) {
        assert_eq!(failure.reply_text(), text);
    }

    #[test]
    fn texts_read_as_clients_know_them() {
        let vhost = SmolStr::new("/");
        let (queue, exchange) = (Resource::queue(&vhost, "x"), Resource::exchange(&vhost, "e"));
        check(Failure::not_found(&queue), "NOT_FOUND - no queue 'x' in vhost '/'");
        check(Failure::not_found(&exchange), "NOT_FOUND - no exchange 'e' in vhost '/'");
        check(
            Failure::inequivalent(&queue, "durable", "'false'", "'true'"),
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'x' in vhost '/': received 'false' but current is 'true'",
        );
        let locked = Failure::locked(&queue).reply_text();
        assert!(locked.starts_with(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'x' in vhost '/'. It could be originally"
        ));
    }

    #[test]
    fn a_text_ends_where_a_short_string_does_and_between_characters() {
        let text = |length: usize| Failure::precondition("ä".repeat(length)).reply_text();
        assert_eq!(text(10).len(), 22 + 20);
        let cut = text(200);
        assert!(cut.len() <= REPLY_TEXT_BYTES_MAX && cut.ends_with('ä'), "{}", cut.len());
    }
}
