//! Which classes does an exchange that did not succeed belong to, for the policies by which it is tried again?
//!
//! Each has a class of its own and a wider one: a policy that says nothing of the one may speak of the other.

/// The wider class of answers that say themselves that another try may succeed.
pub const LATER: &str = "http_later";
/// The wider class of requests without a whole answer.
pub const UNANSWERED: &str = "unanswered";
/// No whole answer within the time limit.
pub const TIMEOUT: &str = "timeout";
/// No connection, or one that broke.
pub const CONNECTION: &str = "connection";
/// The address may not be asked, or its name leads nowhere.
pub const REFUSED: &str = "refused";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    own: String,
    wider: &'static str,
}

impl Classes {
    /// Those of an answer: `http_503`, `http_5xx`.
    pub fn of_status(status: u16) -> Classes {
        let wider = match status {
            // RFC 9110 §15.5.9, RFC 8470 §5.2, RFC 6585 §4.
            408 | 425 | 429 => LATER,
            500.. => "http_5xx",
            400..=499 => "http_4xx",
            300..=399 => "http_3xx",
            _ => "http_2xx",
        };
        Classes { own: format!("http_{status}"), wider }
    }

    /// Those of a request that was not answered: one of the names above.
    pub fn unanswered(own: &str) -> Classes {
        Classes { own: own.to_owned(), wider: UNANSWERED }
    }

    /// The narrowest class that is known; its own if none is.
    pub fn known(&self, is_known: impl Fn(&str) -> bool) -> &str {
        if !is_known(&self.own) && is_known(self.wider) { self.wider } else { &self.own }
    }

    /// Its own class.
    pub fn own(&self) -> &str {
        &self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_class_that_is_known_counts() {
        let check = |classes: Classes, known: &[&str], expected: &str| {
            assert_eq!(classes.known(|class| known.contains(&class)), expected, "{classes:?}");
        };
        check(Classes::of_status(503), &[], "http_503");
        check(Classes::of_status(503), &["http_5xx"], "http_5xx");
        check(Classes::of_status(503), &["http_5xx", "http_503"], "http_503");
        check(Classes::of_status(404), &["http_4xx", "http_later"], "http_4xx");
        check(Classes::of_status(429), &["http_4xx", "http_later"], "http_later");
        check(Classes::of_status(429), &["http_4xx"], "http_429");
        check(Classes::of_status(302), &["http_3xx"], "http_3xx");
        check(Classes::unanswered(TIMEOUT), &["unanswered"], "unanswered");
        check(Classes::unanswered(TIMEOUT), &["unanswered", "timeout"], "timeout");
    }
}
