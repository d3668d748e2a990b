//! How is a push kept: one document `push/<name>`, with what is secret in a member that no record of changes shows?

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_base::{Millis, Name, name};

use super::spec::{Hidden, PushSpec};

/// What the names of these documents begin with.
pub const PREFIX: &str = "push/";

/// What somebody wants of a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// That it delivers.
    #[default]
    Active,
    /// That it rests.
    Paused,
    /// The endpoint wants nothing more.
    Disabled,
}

/// A push as it is stored, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    push: PushSpec,
    /// `waystation_host::audit` hides this member by its name.
    secret: Secret,
    /// What it is to do.
    pub wanted: Wanted,
    /// Since when.
    pub since: Millis,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Secret {
    secrets: Vec<Hidden>,
    headers: Option<BTreeMap<String, Hidden>>,
}

impl Document {
    /// Takes a declaration apart.
    pub fn new(spec: &PushSpec, wanted: Wanted, since: Millis) -> Document {
        let secret = Secret { secrets: spec.secrets.clone(), headers: spec.headers.clone() };
        Document { push: spec.shown(), secret, wanted, since }
    }

    /// The whole declaration.
    pub fn spec(&self) -> PushSpec {
        let Secret { secrets, headers } = self.secret.clone();
        PushSpec { secrets, headers, ..self.push.clone() }
    }

    /// The bytes that are stored.
    pub fn bytes(&self) -> Bytes {
        serde_json::to_vec(self)
            .unwrap_or_else(|error| unreachable!("texts and numbers are JSON: {error}"))
            .into()
    }
}

/// The document of a push.
pub fn document_name(push: &Name) -> Result<Name, name::Error> {
    Name::new(format!("{PREFIX}{push}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_stands_in_one_member_and_comes_back() {
        let spec = PushSpec {
            queue: Some("q".into()),
            secrets: vec![Hidden("whsec_x".into())],
            headers: Some(BTreeMap::from([("a".into(), Hidden("hunter2".into()))])),
            ..PushSpec::default()
        };
        let document = Document::new(&spec, Wanted::Paused, Millis(5));
        let mut json: serde_json::Value = serde_json::from_slice(&document.bytes()).expect("JSON");
        let read: Document = serde_json::from_value(json.clone()).expect("a document");
        assert_eq!(read, document);
        assert_eq!(read.spec(), spec);
        json.as_object_mut().expect("an object").remove("secret");
        let rest = json.to_string();
        assert!(!rest.contains("whsec_x") && !rest.contains("hunter2"), "{rest}");
    }
}
