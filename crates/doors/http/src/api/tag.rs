//! How is a tag written in JSON: as text, because many JSON readers keep no more than 53 bits of a number.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use waystation_base::Tag;

/// A tag as text; a whole number is understood as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagText(pub Tag);

impl fmt::Display for TagText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TagText {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<TagText, Self::Err> {
        text.parse().map(|number| TagText(Tag(number)))
    }
}

impl Serialize for TagText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TagText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TagText, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = TagText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tag as it was delivered")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TagText, E> {
                Ok(TagText(Tag(number)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TagText, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl utoipa::PartialSchema for TagText {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        <String as utoipa::PartialSchema>::schema()
    }
}

impl utoipa::ToSchema for TagText {
    fn name() -> Cow<'static, str> {
        "Tag".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Option<u64>) {
        let read = serde_json::from_str::<TagText>(json).ok();
        assert_eq!(read, expected.map(|number| TagText(Tag(number))), "{json}");
    }

    #[test]
    fn a_tag_is_written_as_text_and_read_from_text_or_a_number() {
        let tag = TagText(Tag(u64::MAX));
        assert_eq!(serde_json::to_string(&tag).expect("text"), "\"18446744073709551615\"");
        check("\"18446744073709551615\"", Some(u64::MAX));
        check("18446744073709551615", Some(u64::MAX));
        check("\"18446744073709551616\"", None);
        check("\"x\"", None);
        check("-1", None);
    }
}
