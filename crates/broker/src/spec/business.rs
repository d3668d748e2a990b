//! Business keys: what people call the thing that a message is about, and where in a message that stands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use waystation_base::limits::HEADER_NAME_BYTES_MAX;

use super::{Error, error, path::Path};

/// Business keys of one address.
pub const BUSINESS_KEYS_MAX: usize = 16;
/// Bytes of a business key's name.
pub const BUSINESS_NAME_BYTES_MAX: usize = 64;

/// Business keys by their names.
pub type BusinessKeys = BTreeMap<SmolStr, KeyFrom>;

/// Where a business key's value is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyFrom {
    /// In this header.
    Header(SmolStr),
    /// At this path of the JSON body, as jq writes paths.
    Jq(Path),
}

/// Whether these keys can be used; else why not.
pub fn check_keys(keys: &BusinessKeys) -> Result<(), String> {
    if keys.len() > BUSINESS_KEYS_MAX {
        let count = keys.len();
        return Err(format!("an address may have {BUSINESS_KEYS_MAX} business keys, here are {count}"));
    }
    for (name, from) in keys {
        if name.is_empty() || name.len() > BUSINESS_NAME_BYTES_MAX || name.contains(['=', ':']) {
            return Err(format!(
                "'{name}' is no name for a business key: it has 1 to {BUSINESS_NAME_BYTES_MAX} bytes, and neither = nor :"
            ));
        }
        if let KeyFrom::Header(header) = from
            && !(1..=HEADER_NAME_BYTES_MAX).contains(&header.len())
        {
            return Err(format!("the header of '{name}' must have 1 to {HEADER_NAME_BYTES_MAX} bytes"));
        }
    }
    Ok(())
}

/// The same of a declaration's field.
pub(super) fn check(keys: Option<&BusinessKeys>) -> Result<(), Error> {
    keys.map_or(Ok(()), |keys| check_keys(keys).map_err(|reason| error("business", reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: impl IntoIterator<Item = String>, header: &str) -> BusinessKeys {
        names.into_iter().map(|name| (name.into(), KeyFrom::Header(header.into()))).collect()
    }

    #[test]
    fn keys_are_few_and_have_names_that_can_be_asked_for() {
        let many = |count: usize| keys((0..count).map(|n| format!("k{n}")), "x");
        assert!(check_keys(&many(BUSINESS_KEYS_MAX)).is_ok());
        assert!(check_keys(&many(BUSINESS_KEYS_MAX + 1)).is_err());
        for (name, is_good) in [("order", true), ("", false), ("a:b", false), ("a=b", false)] {
            assert_eq!(check_keys(&keys([name.to_owned()], "x")).is_ok(), is_good, "{name}");
        }
        let long = |bytes: usize| check_keys(&keys(["k".repeat(bytes)], "x")).is_ok();
        assert!(long(BUSINESS_NAME_BYTES_MAX) && !long(BUSINESS_NAME_BYTES_MAX + 1));
        let header = |bytes: usize| check_keys(&keys(["k".to_owned()], &"h".repeat(bytes))).is_ok();
        assert!(header(HEADER_NAME_BYTES_MAX) && !header(HEADER_NAME_BYTES_MAX + 1) && !header(0));
    }

    #[test]
    fn a_key_is_a_header_or_a_path() {
        let json = r#"{"customer": {"header": "x-customer"}, "order": {"jq": ".order.id"}}"#;
        let keys: BusinessKeys = serde_json::from_str(json).expect("keys");
        assert_eq!(serde_json::to_string(&keys).expect("JSON").replace(':', ": ").replace(',', ", "), json);
        assert!(serde_json::from_str::<BusinessKeys>(r#"{"order": {"jq": ".order[]"}}"#).is_err());
        assert!(serde_json::from_str::<BusinessKeys>(r#"{"order": {"xpath": "/order"}}"#).is_err());
    }
}
