//! How are rates and fairness said in one word of the command line?

use serde_json::{Map, Value, json};

use super::upstream::RateText;

/// A rate: `100/s`, or `100/s,burst=200`.
pub fn rate(text: &str) -> Result<Value, String> {
    let (rate, burst) = match text.split_once(",burst=") {
        Some((rate, burst)) => (rate, Some(number(burst)?)),
        None => (text, None),
    };
    let rate: RateText = rate.parse()?;
    let mut fields = json!({"messages": rate.requests, "per_ms": rate.per_ms});
    if let Some(burst) = burst {
        fields["burst"] = burst;
    }
    Ok(fields)
}

/// Fair to whom a header names: `tenant`, or `tenant,concurrency=5,rate=10/s`; `@virtual_host` for virtual hosts.
pub fn fair(text: &str) -> Result<Value, String> {
    let mut parts = text.split(',');
    let header = parts.next().filter(|header| !header.is_empty() && !header.contains('='));
    let header =
        header.ok_or("begin with the header that names the tenant, like tenant,concurrency=5,rate=10/s")?;
    let mut fields = match header {
        "@virtual_host" => Map::from_iter([("virtual_host".to_owned(), Value::from(true))]),
        header => Map::from_iter([("header".to_owned(), Value::from(header))]),
    };
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some(("concurrency", value)) => ("concurrency", number(value)?),
            Some(("rate", value)) => ("rate", rate(value)?),
            _ => return Err(format!("'{part}' is neither concurrency=N nor rate=N/s")),
        };
        fields.insert(name.to_owned(), value);
    }
    Ok(Value::Object(fields))
}

/// A whole number.
pub fn number(text: &str) -> Result<Value, String> {
    text.parse::<u32>().map(Value::from).map_err(|_| format!("'{text}' is not a whole number in range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_fairness_are_said_in_one_word() {
        assert_eq!(rate("100/s"), Ok(json!({"messages": 100, "per_ms": 1_000})));
        assert_eq!(rate("5/200ms,burst=9"), Ok(json!({"messages": 5, "per_ms": 200, "burst": 9})));
        assert_eq!(fair("tenant"), Ok(json!({"header": "tenant"})));
        let hosts = json!({"virtual_host": true, "concurrency": 5});
        assert_eq!(fair("@virtual_host,concurrency=5"), Ok(hosts));
        let all = json!({"header": "tenant", "concurrency": 5, "rate": {"messages": 10, "per_ms": 60_000}});
        assert_eq!(fair("tenant,concurrency=5,rate=10/m"), Ok(all));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_write() {
        for (text, expected) in [
            ("", "begin with the header"),
            ("concurrency=5", "begin with the header"),
            ("tenant,often", "neither concurrency=N"),
            ("tenant,concurrency=x", "'x' is not a whole number"),
            ("tenant,rate=fast", "like 10/s"),
        ] {
            let error = fair(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
        assert!(rate("10/s,burst=x").is_err());
    }
}
