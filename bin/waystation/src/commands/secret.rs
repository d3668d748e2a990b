//! How is a password had without anybody else seeing it: asked for at the terminal, or read from a file or standard input?

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use serde_json::{Map, Value};

use crate::{
    args::access::Secret,
    exit::{Exit, Failure},
};

/// Bytes of a password; the server's bound.
const PASSWORD_BYTES_MAX: usize = 1024;

/// Puts what the user shall be let in by into a request; no password at all becomes null, or for a new user nothing.
pub fn put(
    fields: &mut Map<String, Value>,
    name: &str,
    secret: &Secret,
    is_new: bool,
) -> Result<(), Failure> {
    if secret.no_password {
        if !is_new {
            fields.insert("password".to_owned(), Value::Null);
        }
        return Ok(());
    }
    if let Some(hash) = &secret.password_hash {
        fields.insert("password_hash".to_owned(), hash.clone().into());
        if let Some(algorithm) = &secret.hashing_algorithm {
            fields.insert("hashing_algorithm".to_owned(), algorithm.clone().into());
        }
        return Ok(());
    }
    let password = match &secret.password_file {
        Some(path) if path.as_os_str() != "-" => from_file(path)?,
        None if io::stdin().is_terminal() => ask(name)?,
        _ => first_line(io::stdin().lock(), "standard input")?,
    };
    fields.insert("password".to_owned(), password.into());
    Ok(())
}

/// Asks twice, because nobody sees what is typed.
fn ask(name: &str) -> Result<String, Failure> {
    let password = prompt(&format!("password for user {name}: "))?;
    if password.is_empty() {
        return Err(Failure::usage("no password was given").advise("--no-password makes a user without one"));
    }
    match prompt("the same again: ")? == password {
        true => Ok(password),
        false => Err(Failure::usage("the two passwords differ; nothing was changed")),
    }
}

fn prompt(text: &str) -> Result<String, Failure> {
    rpassword::prompt_password(text)
        .map_err(|error| Failure::new(Exit::Failure, format!("the password cannot be asked for: {error}")))
}

fn from_file(path: &Path) -> Result<String, Failure> {
    let wrong = |error| Failure::usage(format!("{}: {error}", path.display()));
    first_line(File::open(path).map_err(wrong)?, &path.display().to_string())
}

/// The first line, without its end.
fn first_line(from: impl Read, place: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    // With room for the end of line, and a byte by which too many are noticed.
    from.take(PASSWORD_BYTES_MAX as u64 + 3).read_to_end(&mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| Failure::usage(format!("{place}: it is no UTF-8")))?;
    match text.len() {
        0 => Err(Failure::usage(format!("{place} holds no password"))
            .advise("write it on the first line; --no-password makes a user without one")),
        1..=PASSWORD_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(Failure::usage(format!("{place}: a password has at most {PASSWORD_BYTES_MAX} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password_up_to_its_bound() {
        let check = |text: &str| first_line(text.as_bytes(), "it").map_err(|failure| failure.exit);
        assert_eq!(check("secret\r\nmore\n").as_deref(), Ok("secret"));
        assert_eq!(check("a b ").as_deref(), Ok("a b "));
        assert_eq!(check("\nsecret"), Err(Exit::Usage));
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        assert_eq!(check(&format!("{longest}\r\n")), Ok(longest.clone()));
        assert_eq!(check(&format!("{longest}x\n")), Err(Exit::Usage));
    }
}
