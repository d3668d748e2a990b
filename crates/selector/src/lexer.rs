//! A selector as tokens, each with its column.

use crate::{
    Error,
    number::{self, Number},
};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A reserved word.
    Word(Word),
    /// A header's or property's name.
    Name(String),
    /// A number.
    Number(Number),
    /// Text in single quotes.
    Text(String),
    /// An operator or bracket.
    Sign(&'static str),
}

/// A word that is no name, in any case (JMS 2.0 §3.8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Null,
    True,
    False,
    Not,
    And,
    Or,
    Between,
    Like,
    In,
    Is,
    Escape,
}

const WORDS: &[(&str, Word)] = &[
    ("NULL", Word::Null),
    ("TRUE", Word::True),
    ("FALSE", Word::False),
    ("NOT", Word::Not),
    ("AND", Word::And),
    ("OR", Word::Or),
    ("BETWEEN", Word::Between),
    ("LIKE", Word::Like),
    ("IN", Word::In),
    ("IS", Word::Is),
    ("ESCAPE", Word::Escape),
];

/// The longer first.
const SIGNS: &[&str] = &["<>", "<=", ">=", "=", "<", ">", "(", ")", ",", "+", "-", "*", "/"];

impl Token {
    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Token::Word(word) => {
                WORDS.iter().find(|(_, other)| other == word).map_or("", |(text, _)| text).to_owned()
            }
            Token::Name(name) => name.clone(),
            Token::Number(Number::Exact(number)) => number.to_string(),
            Token::Number(Number::Approximate(number)) => number.to_string(),
            Token::Text(text) => format!("'{text}'"),
            Token::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// The tokens of `text` with the columns at which they begin.
pub fn tokens(text: &str) -> Result<Vec<(Token, usize)>, Error> {
    let characters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&next) = characters.get(at) {
        // Space, tab, form feed and line terminators.
        if matches!(next, ' ' | '\t' | '\x0c' | '\n' | '\r') {
            at += 1;
            continue;
        }
        let wrong = |message: String| Error { column: at + 1, message };
        let (token, length) = token(&characters[at..]).map_err(wrong)?;
        tokens.push((token, at + 1));
        at += length;
    }
    Ok(tokens)
}

/// The token at the front of `rest`, and how many characters it takes.
fn token(rest: &[char]) -> Result<(Token, usize), String> {
    match rest[0] {
        '\'' => quoted(rest, '\'').map(|(text, length)| (Token::Text(text), length)),
        // A delimited identifier of SQL-92 (§5.2): JMS has none, and names with dots and dashes need them.
        '"' => quoted(rest, '"').map(|(name, length)| (Token::Name(name), length)),
        '0'..='9' => number(rest),
        '.' if rest.get(1).is_some_and(char::is_ascii_digit) => number(rest),
        first if begins_name(first) => Ok(name(rest)),
        first => {
            let sign = SIGNS.iter().find(|sign| sign.chars().eq(rest.iter().take(sign.len()).copied()));
            let sign = sign.ok_or_else(|| format!("did not expect {first:?}"))?;
            Ok((Token::Sign(sign), sign.len()))
        }
    }
}

/// Text between quotes, a quote in it doubled.
fn quoted(rest: &[char], quote: char) -> Result<(String, usize), String> {
    let (mut text, mut at) = (String::new(), 1);
    loop {
        match (rest.get(at), rest.get(at + 1)) {
            (Some(&it), Some(&next)) if it == quote && next == quote => {
                text.push(quote);
                at += 2;
            }
            (Some(&it), _) if it == quote => return Ok((text, at + 1)),
            (Some(&it), _) => {
                text.push(it);
                at += 1;
            }
            (None, _) => return Err(format!("a text that begins here has no closing {quote}")),
        }
    }
}

fn number(rest: &[char]) -> Result<(Token, usize), String> {
    let hexadecimal = matches!(rest, ['0', 'x' | 'X', ..]);
    let mut length = 0;
    while let Some(&next) = rest.get(length) {
        let exponent_sign =
            matches!(next, '+' | '-') && !hexadecimal && matches!(rest[length - 1], 'e' | 'E');
        if !(next.is_alphanumeric() || matches!(next, '.' | '_') || exponent_sign) {
            break;
        }
        length += 1;
    }
    let text: String = rest[..length].iter().collect();
    Ok((Token::Number(number::parse(&text)?), length))
}

fn name(rest: &[char]) -> (Token, usize) {
    let length = rest.iter().position(|it| !continues_name(*it)).unwrap_or(rest.len());
    let name: String = rest[..length].iter().collect();
    let word = WORDS.iter().find(|(text, _)| name.eq_ignore_ascii_case(text));
    (word.map_or_else(|| Token::Name(name), |(_, word)| Token::Word(*word)), length)
}

/// Java's identifiers (JLS §3.8), as near as Rust's tables come: letters, digits, `_` and `$`.
fn begins_name(it: char) -> bool {
    it.is_alphabetic() || it == '_' || it == '$'
}

fn continues_name(it: char) -> bool {
    begins_name(it) || it.is_numeric()
}
