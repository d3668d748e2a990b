//! How is a TOML or JSON text read so that an error names line, column and the word that was probably meant?

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Bytes of a topology or configuration file.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// How alike two words must be (Jaro-Winkler, 0 to 1) for one to be suggested for the other.
const LIKENESS_MIN: f64 = 0.8;

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.0.
    Toml,
    /// RFC 8259.
    Json,
}

impl Format {
    /// A JSON document of ours begins with a brace, which no TOML document does.
    pub fn of(bytes: &[u8]) -> Format {
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Format::Json,
            _ => Format::Toml,
        }
    }
}

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
    /// The word that was probably meant.
    pub suggestion: Option<String>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        match &self.suggestion {
            Some(word) => write!(f, "; did you mean '{word}'?"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// An error at a byte of the text.
    pub fn at(text: &str, byte: usize, message: impl Into<String>) -> Error {
        let (line, column) = place(text, byte);
        let message = message.into();
        let suggestion = suggestion(&message);
        Error { line, column, message, suggestion }
    }
}

/// Reads a whole document.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let text = text(bytes)?;
    match Format::of(bytes) {
        Format::Toml => toml::from_str(text)
            .map_err(|error| Error::at(text, error.span().map_or(0, |span| span.start), error.message())),
        Format::Json => serde_json::from_str(text).map_err(|error| {
            let whole = error.to_string();
            // serde_json adds the place to its sentence; it is told apart here.
            let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
            let suggestion = suggestion(&message);
            Error { line: error.line().max(1), column: error.column().max(1), message, suggestion }
        }),
    }
}

/// The bytes as text, if there are not too many and they are UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, Error> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let message = format!("a document may have {DOCUMENT_BYTES_MAX} bytes, this one has {}", bytes.len());
        return Err(Error { line: 1, column: 1, message, suggestion: None });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        Error::at(good, good.len(), format!("byte 0x{:02x} is not UTF-8", bytes[good.len()]))
    })
}

/// The byte where the value at `path` stands, or that of the innermost part of the path that is there.
pub fn locate(text: &str, path: &[&str]) -> usize {
    match Format::of(text.as_bytes()) {
        Format::Toml => locate_toml(text, path),
        Format::Json => locate_json(text, path),
    }
}

/// The byte where a field of a declaration stands: `steps[2].filter.jq` within what `within` leads to.
pub fn locate_field(text: &str, within: &[&str], field: &str) -> usize {
    let parts = field.split(['.', '[', ']']).filter(|part| !part.is_empty());
    locate(text, &within.iter().copied().chain(parts).collect::<Vec<_>>())
}

fn locate_toml(text: &str, path: &[&str]) -> usize {
    let Ok(document) = toml::de::DeTable::parse(text) else { return 0 };
    let (mut inner, mut at) = (Inner::Table(document.get_ref()), 0);
    for part in path {
        let value = match inner {
            // The key's place, since a table's own may span other tables.
            Inner::Table(table) => {
                table.iter().find(|(key, _)| key.get_ref() == part).map(|(key, value)| (key.span(), value))
            }
            Inner::Array(array) => {
                let item = part.parse().ok().and_then(|index: usize| array.get(index));
                item.map(|item| (item.span(), item))
            }
        };
        let Some((span, value)) = value else { break };
        at = span.start;
        inner = match value.get_ref() {
            toml::de::DeValue::Table(table) => Inner::Table(table),
            toml::de::DeValue::Array(array) => Inner::Array(array),
            _ => break,
        };
    }
    at
}

enum Inner<'a> {
    Table(&'a toml::de::DeTable<'a>),
    Array(&'a toml::de::DeArray<'a>),
}

fn locate_json(text: &str, path: &[&str]) -> usize {
    type Object<'a> = std::collections::BTreeMap<String, &'a RawValue>;
    let (mut inner, mut at) = (text, 0);
    for part in path {
        let member =
            serde_json::from_str::<Object<'_>>(inner).ok().and_then(|object| object.get(*part).copied());
        let item = || {
            let index: usize = part.parse().ok()?;
            serde_json::from_str::<Vec<&RawValue>>(inner).ok()?.get(index).copied()
        };
        let Some(value) = member.or_else(item) else { break };
        inner = value.get();
        at = inner.as_ptr().addr() - text.as_ptr().addr();
    }
    at
}

/// Line and column of a byte, both from 1.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..byte.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, String::from_utf8_lossy(&before[begin..]).chars().count() + 1)
}

/// The nearest of the words that serde's sentence "unknown field `x`, expected one of `a`, `b`" offers.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = quoted.next()?;
    nearest(found, quoted).map(str::to_owned)
}

/// The candidate most like `word`, if one is like it at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let likeness = |candidate: &str| strsim::jaro_winkler(&word, &candidate.to_lowercase());
    let scored = candidates.into_iter().map(|candidate| (likeness(candidate), candidate));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default)]
        colour: u8,
        #[serde(default)]
        parts: BTreeMap<String, u8>,
    }

    fn check(bytes: &[u8], expected: &str) {
        let error = read::<Sample>(bytes).expect_err("a bad document");
        assert!(error.to_string().contains(expected), "{error}\n  should say: {expected}");
    }

    #[test]
    fn an_error_names_line_column_and_the_near_word() {
        check(b"\ncolor = 1\n", "line 2, column 1: unknown field `color`");
        check(b"\ncolor = 1\n", "did you mean 'colour'?");
        check(b"colour = 1\n  colour = 2", "line 2, column 3:");
        check(b"colour = \"red\"", "line 1, column 10: invalid type: string");
        check(b"colour = 300", "line 1, column 10: invalid value");
        check(b"{\n \"color\": 1}", "line 2");
        check(b"{\n \"color\": 1}", "did you mean 'colour'?");
        check(b"{\"colour\": ", "line 1, column 11: EOF");
        check(b"colour = 1\n# \xff", "line 2, column 3: byte 0xff is not UTF-8");
        check(b"[[[", "line 1");
    }

    #[test]
    fn a_word_that_is_like_none_has_no_suggestion() {
        let error = read::<Sample>(b"zzz = 1").expect_err("unknown");
        assert_eq!(error.suggestion, None, "{error}");
        assert_eq!(nearest("max_mesages", ["max_bytes", "max_messages"]), Some("max_messages"));
    }

    #[test]
    fn documents_are_read_up_to_document_bytes_max() {
        let padded = |length| [b"colour = 7\n".to_vec(), vec![b' '; length - 11]].concat();
        assert!(read::<Sample>(&padded(DOCUMENT_BYTES_MAX)).is_ok());
        check(&padded(DOCUMENT_BYTES_MAX + 1), "may have 16777216 bytes, this one has 16777217");
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_an_overflow() {
        check("[".repeat(1_000_000).as_bytes(), "line 1");
        check(format!("{{\"parts\": {}", "[".repeat(1_000_000)).as_bytes(), "line 1");
        check(format!("colour = {}", "[".repeat(1_000_000)).as_bytes(), "line 1");
        check(format!("parts = {}", "{a=".repeat(1_000_000)).as_bytes(), "line 1");
    }

    #[test]
    fn a_value_is_located_in_both_formats() {
        let toml = "colour = 1\n[parts]\n  a = 1\n  b = 2\n";
        assert_eq!(locate(toml, &["parts", "b"]), toml.find("b =").expect("b"));
        assert_eq!(locate(toml, &["parts", "c"]), toml.find("parts").expect("parts"));
        let json = "{\"colour\": 1, \"parts\": {\"a\": 1, \"b\": 22}}";
        assert_eq!(locate(json, &["parts", "b"]), json.find("22").expect("b"));
        assert_eq!(locate("]", &["parts"]), 0);
    }

    #[test]
    fn a_field_is_located_in_lists_too() {
        let toml =
            "[routes.r]\nsteps = [\n  { split = '.a' },\n  { choose = [{ when = { jq = '.b' } }] },\n]\n";
        let at = |field| locate_field(toml, &["routes", "r"], field);
        assert_eq!(at("steps[1].choose[0].when.jq"), toml.find("jq").expect("jq"));
        assert_eq!(at("steps[0].split"), toml.find("split").expect("split"));
        assert_eq!(at("steps[7]"), toml.find("steps").expect("steps"));
        let json = "{\"steps\": [{\"split\": \".a\"}, {\"to\": 7}]}";
        assert_eq!(locate_field(json, &[], "steps[1].to"), json.find('7').expect("7"));
    }
}
