//! How is an operation kept: one document, with what is secret in a member that no record of changes shows?

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use waystation_outbound::Hidden;

use crate::{Error, Operation};

/// `waystation_host::audit` hides this member by its name.
const SECRET: &str = "secret";

/// The document of an operation.
pub(crate) fn write(operation: &Operation) -> Result<Bytes, Error> {
    let wrong = |error: serde_json::Error| Error::Damaged(error.to_string());
    let mut document = serde_json::to_value(operation.shown()).map_err(wrong)?;
    let headers = operation.upstream.as_ref().and_then(|upstream| upstream.headers.as_ref());
    let secrets = operation.callback_secrets.as_ref();
    if let (Value::Object(members), true) = (&mut document, headers.is_some() || secrets.is_some()) {
        let secret = json!({ "upstream_headers": headers, "callback_secrets": secrets });
        members.insert(SECRET.to_owned(), secret);
    }
    Ok(serde_json::to_vec(&document).map_err(wrong)?.into())
}

/// The operation of a document.
pub(crate) fn read(document: &[u8]) -> serde_json::Result<Operation> {
    let mut document: Value = serde_json::from_slice(document)?;
    let mut secret = document.as_object_mut().and_then(|members| members.remove(SECRET)).unwrap_or_default();
    let mut operation: Operation = serde_json::from_value(document)?;
    let headers: Option<BTreeMap<String, Hidden>> =
        serde_json::from_value(secret["upstream_headers"].take())?;
    operation.callback_secrets = serde_json::from_value(secret["callback_secrets"].take())?;
    if let Some(upstream) = &mut operation.upstream {
        upstream.headers = headers;
    }
    Ok(operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Upstream;

    #[test]
    fn what_is_secret_stands_in_one_member_and_comes_back() {
        let headers = Some(BTreeMap::from([("authorization".to_owned(), Hidden("hunter2".into()))]));
        let upstream = Upstream { url: "https://a.example/".into(), headers, ..Upstream::default() };
        let callback_secrets = Some(vec![Hidden("hunter2".into())]);
        for operation in [
            Operation::default(),
            Operation { callback_secrets, ..Operation::default() },
            Operation { upstream: Some(upstream), ..Operation::default() },
        ] {
            let document = write(&operation).expect("written");
            assert_eq!(read(&document).expect("read"), operation);
            let mut json: Value = serde_json::from_slice(&document).expect("JSON");
            json.as_object_mut().expect("an object").remove(SECRET);
            assert!(!json.to_string().contains("hunter2"), "{json}");
        }
        assert_eq!(read(b"{}").expect("read"), Operation::default());
    }
}
