//! What can be said of an operation's upstream?

use std::str::FromStr;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{messages::header, retry::retry};
use crate::units;

/// The fields of an upstream; all but the first need it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Upstream")]
pub struct UpstreamFields {
    /// An HTTP service that serves the calls: each becomes a request there, and its answer the result
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// The requests' method
    #[arg(long, value_name = "METHOD", requires = "upstream", value_parser = ["POST", "PUT", "PATCH", "DELETE", "GET"])]
    pub upstream_method: Option<String>,
    /// A header of the requests, which is never shown again; may be given several times
    #[arg(long, value_name = "NAME=VALUE", requires = "upstream", value_parser = header)]
    pub upstream_header: Vec<(String, String)>,
    /// How long one request may take
    #[arg(long, value_name = "DURATION", requires = "upstream", value_parser = units::duration_ms)]
    pub upstream_timeout: Option<u64>,
    /// Requests at a time
    #[arg(long, value_name = "N", requires = "upstream")]
    pub upstream_concurrency: Option<u32>,
    /// Requests in a time, like 10/s, 100/m or 5/200ms
    #[arg(long, value_name = "N/TIME", requires = "upstream")]
    pub upstream_rate: Option<RateText>,
    /// Requests that may go out at once after a quiet time [default: as many as the rate has]
    #[arg(long, value_name = "N", requires = "upstream_rate")]
    pub upstream_burst: Option<u32>,
    /// Answers that are tried again, like 503 or 5xx, or none; may be given several times, or parted by commas
    #[arg(long, value_name = "STATUS|CLASS", requires = "upstream", value_delimiter = ',')]
    pub upstream_retry_on: Vec<String>,
    /// Whether a request is sent again that got no whole answer, though it may have had its effect
    #[arg(long, value_name = "BOOL", requires = "upstream")]
    pub upstream_retry_unanswered: Option<bool>,
    /// When they are tried again: BACKOFF,first=TIME,most=TIME,attempts=N,age=TIME,timeout.give_up
    #[arg(long, value_name = "POLICY", requires = "upstream", value_parser = retry)]
    pub upstream_retry: Option<Value>,
    /// Up to which Retry-After is honoured
    #[arg(long, value_name = "DURATION", requires = "upstream", value_parser = units::duration_ms)]
    pub upstream_retry_after_max: Option<u64>,
    /// Failures in a row after which the upstream is left alone for a while
    #[arg(long, value_name = "N", requires = "upstream")]
    pub upstream_breaker_failures: Option<u32>,
    /// For how long at first; each further time is twice as long
    #[arg(long, value_name = "DURATION", requires = "upstream", value_parser = units::duration_ms)]
    pub upstream_breaker_pause: Option<u64>,
    /// The longest such time
    #[arg(long, value_name = "DURATION", requires = "upstream", value_parser = units::duration_ms)]
    pub upstream_breaker_pause_max: Option<u64>,
    /// Most bytes of an answer's body
    #[arg(long, value_name = "SIZE", requires = "upstream", value_parser = units::size_bytes)]
    pub upstream_response_bytes_max: Option<u64>,
    /// A header of answers that the result keeps, `*` for all; may be given several times
    #[arg(long, value_name = "HEADER", requires = "upstream")]
    pub upstream_response_header: Vec<String>,
    /// Send nothing; calls wait in their queue
    #[arg(long, requires = "upstream")]
    pub upstream_paused: bool,
}

/// A rate as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateText {
    pub requests: u32,
    pub per_ms: u64,
}

impl FromStr for RateText {
    type Err = String;

    fn from_str(text: &str) -> Result<RateText, String> {
        let wrong = || format!("'{text}' is no rate: write requests and their time, like 10/s or 5/200ms");
        let (requests, time) = text.split_once('/').ok_or_else(wrong)?;
        // A second is `s`, as well as `1s`.
        let time =
            if time.starts_with(|c: char| c.is_ascii_digit()) { time.to_owned() } else { format!("1{time}") };
        let per_ms = units::duration_ms(&time).map_err(|_| wrong())?;
        Ok(RateText { requests: requests.parse().map_err(|_| wrong())?, per_ms })
    }
}

fn put<T: Into<Value>>(fields: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value.into());
    }
}

/// A status as a number, a class as text.
fn statuses(text: &str) -> Value {
    text.parse::<u16>().map_or_else(|_| text.into(), Value::from)
}

impl UpstreamFields {
    /// What was said, as the declaration's field; nothing without a URL.
    pub fn field(&self) -> Option<Value> {
        let mut fields = Map::from_iter([("url".to_owned(), Value::from(self.upstream.as_deref()?))]);
        put(&mut fields, "method", self.upstream_method.clone());
        put(&mut fields, "timeout_ms", self.upstream_timeout);
        put(&mut fields, "concurrency", self.upstream_concurrency);
        put(&mut fields, "response_bytes_max", self.upstream_response_bytes_max);
        put(&mut fields, "paused", self.upstream_paused.then_some(true));
        let mut rate = Map::new();
        put(&mut rate, "requests", self.upstream_rate.map(|rate| rate.requests));
        put(&mut rate, "per_ms", self.upstream_rate.map(|rate| rate.per_ms));
        put(&mut rate, "burst", self.upstream_burst);
        put(&mut fields, "retry_unanswered", self.upstream_retry_unanswered);
        put(&mut fields, "retry", self.upstream_retry.clone());
        put(&mut fields, "retry_after_ms_max", self.upstream_retry_after_max);
        if !self.upstream_retry_on.is_empty() {
            // `none` alone: no answer is tried again.
            let named = self.upstream_retry_on.iter().filter(|it| *it != "none");
            fields.insert("retry_on".to_owned(), named.map(|it| statuses(it)).collect());
        }
        let mut breaker = Map::new();
        put(&mut breaker, "failures", self.upstream_breaker_failures);
        put(&mut breaker, "pause_ms", self.upstream_breaker_pause);
        put(&mut breaker, "pause_ms_max", self.upstream_breaker_pause_max);
        for (name, members) in [("rate", rate), ("breaker", breaker)] {
            put(&mut fields, name, (!members.is_empty()).then_some(members));
        }
        if !self.upstream_response_header.is_empty() {
            fields.insert("response_headers".to_owned(), json!(self.upstream_response_header));
        }
        if !self.upstream_header.is_empty() {
            let headers: Map<String, Value> = self
                .upstream_header
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().into()))
                .collect();
            fields.insert("headers".to_owned(), headers.into());
        }
        Some(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use waystation_calls::{Statuses, Upstream};

    use super::*;
    use crate::args::{Cli, Command, calls::OperationCommand};

    #[test]
    fn every_field_of_an_upstream_has_an_option() {
        let all = "waystation operation create o --upstream https://a.example --upstream-method PUT --upstream-header a=b \
            --upstream-timeout 1s --upstream-concurrency 2 --upstream-rate 10/s --upstream-burst 3 --upstream-retry-on \
            503,4xx --upstream-retry-unanswered false --upstream-retry linear,first=1s,http_5xx.attempts=2 \
            --upstream-retry-after-max 3s --upstream-breaker-failures 2 --upstream-breaker-pause 1s \
            --upstream-breaker-pause-max 2s --upstream-response-bytes-max 1KiB --upstream-response-header location \
            --upstream-paused";
        let cli =
            Cli::try_parse_from(all.split_whitespace()).map_err(|error| error.to_string()).expect("good");
        let Command::Operation(OperationCommand::Create { fields, .. }) = cli.command else { panic!() };
        let said = fields.upstream.field().expect("an upstream");
        let upstream: Upstream = serde_json::from_value(said.clone()).expect("a declaration");
        assert_eq!(upstream.retry_on, [Statuses::One(503), Statuses::Class("4xx".into())]);
        assert_eq!(upstream.check(), Ok(()));
        assert_eq!((upstream.retry.first_ms, upstream.retry.most_ms), (1_000, 60_000));
        let known = serde_json::to_value(&upstream).expect("JSON");
        let names =
            |value: &Value| value.as_object().map(|members| members.keys().cloned().collect::<Vec<_>>());
        assert_eq!(names(&said), names(&known));
        for name in ["rate", "breaker"] {
            assert_eq!(names(&said[name]), names(&known[name]), "{name}");
        }
    }

    #[test]
    fn a_rate_is_requests_and_their_time() {
        let check = |text: &str, expected: Option<(u32, u64)>| {
            let found = text.parse::<RateText>().ok().map(|rate| (rate.requests, rate.per_ms));
            assert_eq!(found, expected, "{text}");
        };
        check("10/s", Some((10, 1_000)));
        check("5/200ms", Some((5, 200)));
        check("100/m", Some((100, 60_000)));
        for wrong in ["", "10", "/s", "10/", "10/x", "-1/s", "x/s"] {
            check(wrong, None);
        }
    }
}
