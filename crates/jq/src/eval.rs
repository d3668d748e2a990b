//! One document through one program.

use jaq_core::{Ctx, Filter, Vars};
use jaq_json::{Val, read};

use crate::{
    library::Data,
    write::{Refusal, write},
};

/// What came of a document, as the child says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The results: their JSON, one behind the other, and where each ends.
    Results { bytes: Vec<u8>, ends: Vec<u32> },
    /// An error of the program or of its input.
    Error(String),
    /// The results are too long.
    Size,
    /// There are too many.
    Outputs,
}

/// The longest text of an error: a value in it may be of any size.
pub const ERROR_BYTES_MAX: usize = 1024;

/// Runs `filter` on `input`, with the variables that it was compiled for.
pub fn evaluate(
    filter: &Filter<Data>,
    input: &[u8],
    variables: &[&[u8]],
    bytes_max: usize,
    outputs_max: usize,
) -> Verdict {
    let values = variables.iter().map(|bytes| read::parse_single(bytes));
    let (input, values) = match (read::parse_single(input), values.collect::<Result<Vec<_>, _>>()) {
        (Ok(input), Ok(values)) => (input, values),
        (Err(error), _) => return Verdict::Error(format!("the input is not JSON: {error}")),
        (_, Err(error)) => return Verdict::Error(format!("a variable is not JSON: {error}")),
    };
    let context = Ctx::<Data>::new(&filter.lut, Vars::new(values));
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for result in filter.id.run((context, input)) {
        let value = match result {
            Ok(value) => value,
            Err(exception) => return Verdict::Error(describe(exception)),
        };
        if ends.len() == outputs_max {
            return Verdict::Outputs;
        }
        match write(&value, bytes_max, &mut bytes) {
            Ok(()) => ends.push(bytes.len() as u32),
            Err(Refusal::Size) => return Verdict::Size,
            Err(Refusal::NotJson(why)) => return Verdict::Error(why),
        }
    }
    Verdict::Results { bytes, ends }
}

fn describe(exception: jaq_core::Exn<'_, Val>) -> String {
    match exception.get_err() {
        Ok(error) => clip(error.to_string()),
        Err(_) => "the program broke off".into(),
    }
}

/// `text`, no longer than [`ERROR_BYTES_MAX`].
pub fn clip(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
