//! Filters: any JSON gives a filter or an error; one that passes its check is written and read again as itself.

use waystation_base::{Message, filter::Filter};

use crate::Target;

pub const TARGET: Target = Target { name: "filter", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"exact":{"type":"flight.late","key":"N14228"}}"#,
        r#"{"all":[{"prefix":{"topic":"eu."}},{"not":{"suffix":{"type":".test"}}}]}"#,
        r#"{"any":[{"exact":{"priority":"9"}},{"all":[{"exact":{"a":"b"}}]}]}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn run(data: &[u8]) -> bool {
    let Ok(filter) = serde_json::from_slice::<Filter>(data) else { return false };
    if filter.check().is_err() {
        return false;
    }
    filter.matches("flights", &Message::default());
    let text = serde_json::to_vec(&filter).expect("a filter is JSON");
    assert_eq!(serde_json::from_slice::<Filter>(&text).expect("our own text"), filter);
    true
}
