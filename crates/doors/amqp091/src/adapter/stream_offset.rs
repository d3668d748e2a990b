//! Where does a consumer of a stream begin: what `x-stream-offset` may say?

use waystation_base::{Millis, value::Value};
use waystation_broker::{spec::Start, view::TopicInfo};

use crate::session::Failure;

/// Reads the argument. `topic` is the stream as it is now.
pub(super) fn start(argument: Option<&Value>, topic: &TopicInfo, now: Millis) -> Result<Start, Failure> {
    let invalid = || {
        let text = argument.map(|value| format!("{value:?}")).unwrap_or_default();
        Failure::precondition(format!("invalid value for x-stream-offset: {text}"))
    };
    match argument {
        None => Ok(Start::Latest),
        Some(Value::Timestamp(at)) => Ok(Start::Time(at.0)),
        Some(Value::String(text)) => match text.as_str() {
            "first" => Ok(Start::Earliest),
            "next" => Ok(Start::Latest),
            "last" => Ok(last(topic)),
            interval => {
                interval_ms(interval).map(|ms| Start::Time(now.0.saturating_sub(ms))).ok_or_else(invalid)
            }
        },
        Some(number) => {
            let offset = number.as_i64().and_then(|offset| u64::try_from(offset).ok());
            offset.filter(|offset| *offset < 1 << 48).map(Start::Offset).ok_or_else(invalid)
        }
    }
}

/// The last message that is there.
fn last(topic: &TopicInfo) -> Start {
    let partition = topic.partitions.first();
    let offset = partition.map_or(0, |it| it.end_offset.saturating_sub(1).max(it.start_offset));
    Start::Offset(offset)
}

/// `7D`, `12h` and so on.
fn interval_ms(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "Y" => 365 * 86_400,
        "M" => 30 * 86_400,
        "D" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds * 1_000)
}

#[cfg(test)]
mod tests {
    use waystation_base::Name;
    use waystation_broker::{spec::TopicSpec, view::PartitionInfo};

    use super::*;

    fn check(argument: Option<Value>, expected: Option<Start>) {
        let topic = TopicInfo {
            name: Name::new("s").expect("a name"),
            spec: TopicSpec::default(),
            effective: None,
            partitions: vec![PartitionInfo { start_offset: 3, end_offset: 9, bytes: 1 }],
            subscriptions: Vec::new(),
            counters: Default::default(),
        };
        assert_eq!(start(argument.as_ref(), &topic, Millis(10_000_000)).ok(), expected, "{argument:?}");
    }

    #[test]
    fn a_stream_is_read_from_where_the_argument_says() {
        check(None, Some(Start::Latest));
        check(Some("first".into()), Some(Start::Earliest));
        check(Some("last".into()), Some(Start::Offset(8)));
        check(Some("next".into()), Some(Start::Latest));
        check(Some(Value::I64(5)), Some(Start::Offset(5)));
        check(Some(Value::I64(-5)), None);
        check(Some(Value::Timestamp(Millis(7_000))), Some(Start::Time(7_000)));
        check(Some("1h".into()), Some(Start::Time(6_400_000)));
        check(Some("1x".into()), None);
        check(Some("h".into()), None);
        check(Some("".into()), None);
        check(Some(Value::Bool(true)), None);
    }
}
