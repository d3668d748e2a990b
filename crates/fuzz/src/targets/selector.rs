//! Selectors: any text gives a selector or an error that points into it; a selector gives an answer for any message.

use waystation_selector::{Selector, Value};

use crate::Target;

pub const TARGET: Target = Target { name: "selector", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "region = 'eu' AND total BETWEEN 10 AND 1e2 AND note IS NOT NULL",
        "NOT (a LIKE 'x!_%' ESCAPE '!') OR \"x-b\" NOT IN ('p', 'it''s')",
        "-a * (2 + 0x1F) / 7.5 <> +.5 OR flag = TRUE",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
            return false;
        }
    };
    let values = [
        None,
        Some(Value::Exact(i64::MIN)),
        Some(Value::Approximate(0.5)),
        Some("eu".into()),
        Some(true.into()),
    ];
    for value in values {
        let said = selector.evaluate(&|_| value.clone());
        assert_eq!(selector.matches(&|_| value.clone()), said == Some(true));
    }
    true
}
