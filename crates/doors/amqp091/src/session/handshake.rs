//! How does a login read, and what may be agreed on before a virtual host is open (AMQP 0-9-1 §2.2.4)?

use smol_str::SmolStr;
use waystation_base::{text::cut, value::Value};

use super::Failure;
use crate::{
    directory::Proof,
    wire::{Reader, ReplyCode, Table, limits::FRAME_BYTES_MIN, methods::connection},
};

/// Bytes of a connection's name that are kept; clients may say as much as fits into a frame.
const CONNECTION_NAME_BYTES_MAX: usize = 128;

/// What `start-ok` proves, by its mechanism. `certificate` is the name that TLS has checked.
pub fn peer_proof(start: &connection::StartOk, certificate: Option<&str>) -> Result<Proof, Failure> {
    match start.mechanism.as_str() {
        "PLAIN" => plain(&start.response).ok_or_else(|| malformed("PLAIN")),
        "AMQPLAIN" => amqplain(&start.response).ok_or_else(|| malformed("AMQPLAIN")),
        "EXTERNAL" => {
            let name = certificate.ok_or_else(|| invalid("EXTERNAL"))?;
            Ok(Proof::Certificate { common_name: name.to_owned() })
        }
        other => Err(Failure::new(
            ReplyCode::CommandInvalid,
            format!("unknown authentication mechanism '{other}'"),
        )),
    }
}

fn malformed(mechanism: &str) -> Failure {
    Failure::new(ReplyCode::SyntaxError, format!("response of mechanism {mechanism} is malformed"))
}

fn invalid(mechanism: &str) -> Failure {
    Failure::new(ReplyCode::CommandInvalid, format!("invalid authentication mechanism '{mechanism}'"))
}

/// RFC 4616: `[authzid] NUL user NUL password`.
fn plain(response: &[u8]) -> Option<Proof> {
    let mut parts = response.split(|byte| *byte == 0);
    let (_authzid, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some(Proof::Password { user: text(user)?, password: text(password)? })
}

/// A table with `LOGIN` and `PASSWORD`, without the size in front of it.
fn amqplain(response: &[u8]) -> Option<Proof> {
    let size = u32::try_from(response.len()).ok()?;
    let sized = [&size.to_be_bytes()[..], response].concat();
    let table = Table::read(&mut Reader::new(&sized)).ok()?;
    let field = |name| table.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Proof::Password { user: field("LOGIN")?, password: field("PASSWORD")? })
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// The text for a refused login; the reason is for the log alone.
pub(super) fn refused(mechanism: &SmolStr) -> Failure {
    Failure::access(format!(
        "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    ))
}

/// What the client calls its connection, cut to [`CONNECTION_NAME_BYTES_MAX`].
pub(super) fn connection_name(client_properties: &Table) -> Option<String> {
    let name = client_properties.get("connection_name")?.as_str()?;
    Some(cut(name, CONNECTION_NAME_BYTES_MAX).to_owned())
}

/// Whether the client understands an extension.
pub(super) fn has_capability(client_properties: &Table, name: &str) -> bool {
    match client_properties.get("capabilities") {
        Some(Value::Map(entries)) => {
            entries.iter().any(|(have, value)| have == name && *value == Value::Bool(true))
        }
        _ => false,
    }
}

/// Checks what the client settles on against what was offered.
pub(super) fn agreed(
    tune: &connection::TuneOk,
    channel_max: u16,
    frame_max: u32,
) -> Result<(u16, u32), Failure> {
    let too = |field, value: u64, how, which, bound: u64| {
        let text = format!("negotiated {field} = {value} is {how} than the {which} allowed value ({bound})");
        Err(Failure::not_allowed(text))
    };
    let frames = u64::from(tune.frame_max);
    match tune.frame_max {
        0 => return too("frame_max", 0, "higher", "maximum", frame_max.into()),
        n if n < FRAME_BYTES_MIN => {
            return too("frame_max", frames, "lower", "minimum", FRAME_BYTES_MIN.into());
        }
        n if n > frame_max => return too("frame_max", frames, "higher", "maximum", frame_max.into()),
        _ => {}
    }
    if tune.channel_max == 0 || tune.channel_max > channel_max {
        return too("channel_max", tune.channel_max.into(), "higher", "maximum", channel_max.into());
    }
    Ok((tune.channel_max, tune.frame_max))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn check(mechanism: &str, response: &[u8], expected: Option<(&str, &str)>) {
        let start = connection::StartOk {
            mechanism: mechanism.into(),
            response: response.to_vec().into(),
            ..Default::default()
        };
        let expected =
            expected.map(|(user, password)| Proof::Password { user: user.into(), password: password.into() });
        assert_eq!(peer_proof(&start, None).ok(), expected, "{mechanism} {response:?}");
    }

    #[test]
    fn plain_and_amqplain_name_user_and_password() {
        check("PLAIN", b"\0guest\0secret", Some(("guest", "secret")));
        check("PLAIN", b"other\0guest\0secret", Some(("guest", "secret")));
        check("PLAIN", b"guest", None);
        check("PLAIN", b"\0guest\0sec\0ret", None);
        check("PLAIN", b"\0\xff\0secret", None);
        let table: Table = [("LOGIN", "guest"), ("PASSWORD", "secret")]
            .map(|(name, value)| (SmolStr::new(name), Value::from(value)))
            .into_iter()
            .collect();
        let mut bytes = BytesMut::new();
        table.write(&mut bytes);
        check("AMQPLAIN", &bytes[4..], Some(("guest", "secret")));
        check("AMQPLAIN", &bytes[..4], None);
        check("EXTERNAL", b"", None);
        check("NONE", b"", None);
    }

    #[test]
    fn what_is_agreed_on_lies_within_what_was_offered() {
        let check = |channel_max, frame_max, expected: Result<(u16, u32), &str>| {
            let tune = connection::TuneOk { channel_max, frame_max, heartbeat: 0 };
            let found = agreed(&tune, 2047, 131_072).map_err(|failure| failure.reply_text());
            assert_eq!(found.as_ref().map_err(SmolStr::as_str), expected.as_ref().map_err(|text| *text));
        };
        check(2047, 131_072, Ok((2047, 131_072)));
        check(1, FRAME_BYTES_MIN, Ok((1, FRAME_BYTES_MIN)));
        check(
            1,
            FRAME_BYTES_MIN - 1,
            Err("NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
        );
        check(
            2048,
            131_072,
            Err(
                "NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
            ),
        );
        check(
            0,
            131_072,
            Err("NOT_ALLOWED - negotiated channel_max = 0 is higher than the maximum allowed value (2047)"),
        );
    }
}
