//! Which form does a content type name?

use crate::Error;

/// What a content type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    pub form: Form,
    /// The parameter, lower case.
    pub charset: Option<String>,
}

/// A form of body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Plain,
    /// CSV or TSV.
    Table {
        separator: u8,
        /// Whether the first line has the names (RFC 4180 §3, `header`).
        header: bool,
    },
    Urlencoded,
    Xml,
}

impl Media {
    /// Reads `type/subtype; name=value` (RFC 9110 §8.3.1).
    pub fn parse(content_type: Option<&str>) -> Result<Media, Error> {
        let Some(text) = content_type.map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(Media { form: Form::Json, charset: None });
        };
        let mut parts = text.split(';');
        let essence = parts.next().unwrap_or("").trim().to_ascii_lowercase();
        let parameter = |wanted: &str| {
            text.split(';').skip(1).find_map(|part| {
                let (name, value) = part.split_once('=')?;
                let value = value.trim().trim_matches('"').to_ascii_lowercase();
                name.trim().eq_ignore_ascii_case(wanted).then_some(value)
            })
        };
        let header = parameter("header").as_deref() != Some("absent");
        let form = match essence.as_str() {
            "application/json" | "text/json" => Form::Json,
            "application/xml" | "text/xml" => Form::Xml,
            "text/csv" | "application/csv" => Form::Table { separator: b',', header },
            "text/tab-separated-values" => Form::Table { separator: b'\t', header },
            "application/x-www-form-urlencoded" => Form::Urlencoded,
            "text/plain" => Form::Plain,
            other if other.ends_with("+json") => Form::Json,
            other if other.ends_with("+xml") => Form::Xml,
            other => return Err(Error::Unknown(other.chars().take(100).collect())),
        };
        Ok(Media { form, charset: parameter("charset") })
    }
}
