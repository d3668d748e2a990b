//! How is a message changed? Body, headers and key by jq programs, all of which see it as it was before.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;
use smol_str::SmolStr;
use waystation_base::{
    limits::{HEADER_NAME_BYTES_MAX, KEY_BYTES_MAX, VALUE_DEPTH_MAX},
    message::header,
};
use waystation_events::value::Read;
use waystation_jq::Program;

use super::Flow;
use crate::{
    Fault, Invalid, Verdict,
    packet::Packet,
    program::{invalid, jq, place},
    run::Run,
    spec,
};

/// Bytes of a media type.
const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// Changes.
#[derive(Debug)]
pub(crate) struct Transform {
    pub at: Arc<str>,
    body: Option<Program>,
    headers: Option<Program>,
    key: Option<Program>,
    content_type: Option<String>,
}

impl Transform {
    pub fn compile(at: &str, spec: &spec::Transform) -> Result<Transform, Invalid> {
        let program = |field: &str, text: &Option<String>| {
            text.as_ref().map(|text| jq(&format!("{at}.{field}"), text)).transpose()
        };
        let transform = Transform {
            at: place(at),
            body: program("body", &spec.body)?,
            headers: program("headers", &spec.headers)?,
            key: program("key", &spec.key)?,
            content_type: spec.content_type.clone(),
        };
        if *spec == spec::Transform::default() {
            return Err(invalid(at, "changes nothing; give 'body', 'headers', 'key' or 'content_type'"));
        }
        if let Some(content_type) = &spec.content_type {
            check_content_type(&format!("{at}.content_type"), content_type)?;
        }
        Ok(transform)
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let mut changed = packet.clone();
        if let Some(program) = &self.body {
            changed.set_json(one(run, program, &mut packet, "body").await?);
        }
        if let Some(program) = &self.headers {
            set_headers(&mut changed, &one(run, program, &mut packet, "headers").await?)?;
        }
        if let Some(program) = &self.key {
            set_key(&mut changed, &one(run, program, &mut packet, "key").await?)?;
        }
        if let Some(content_type) = &self.content_type {
            changed.set_content_type(content_type).await?;
        }
        run.say(&self.at, Verdict::Changed, None);
        Ok(Flow::On(changed))
    }
}

fn check_content_type(field: &str, text: &str) -> Result<(), Invalid> {
    if text.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(invalid(field, format!("may have {CONTENT_TYPE_BYTES_MAX} bytes, has {}", text.len())));
    }
    waystation_content::check(Some(text)).map_err(|error| invalid(field, error))
}

/// The one output of a program.
pub(super) async fn one(
    run: &Run<'_>,
    program: &Program,
    packet: &mut Packet,
    what: &str,
) -> Result<Bytes, Fault> {
    let body = packet.json().await?;
    let mut outputs = run.tools.jq(program, packet, body, run.limits).await?;
    match (outputs.len(), outputs.pop()) {
        (1, Some(output)) => Ok(output),
        (0, _) => {
            Err(Fault::invalid(format!("the program for '{what}' gave nothing; 'filter' lets messages end")))
        }
        (count, _) => Err(Fault::invalid(format!(
            "the program for '{what}' gave {count} outputs; 'split' makes several messages"
        ))),
    }
}

/// Headers that only Waystation writes.
fn is_own(name: &str) -> bool {
    name.starts_with("ws-") && !name.starts_with(header::BUSINESS_PREFIX)
}

fn set_headers(packet: &mut Packet, json: &Bytes) -> Result<(), Fault> {
    let wrong = |reason: &str| Fault::invalid(format!("the program for 'headers' {reason}"));
    let fields: serde_json::Map<String, Json> =
        serde_json::from_slice(json).map_err(|_| wrong("must give an object"))?;
    for (name, value) in fields {
        if is_own(&name) {
            return Err(wrong(&format!(
                "sets '{name}': names with 'ws-' are Waystation's own, but for 'ws-business-…'"
            )));
        }
        if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX {
            return Err(wrong(&format!(
                "gives a name of {} bytes; 1 to {HEADER_NAME_BYTES_MAX} are allowed",
                name.len()
            )));
        }
        if value.is_null() {
            packet.message.headers.remove(&name);
            continue;
        }
        let Read(value) = serde_json::from_value(value)
            .map_err(|error| wrong(&format!("gives '{name}' wrongly: {error}")))?;
        if value.depth() > VALUE_DEPTH_MAX {
            return Err(wrong(&format!("nests '{name}' deeper than {VALUE_DEPTH_MAX}")));
        }
        packet.message.headers.set(SmolStr::new(name), value);
    }
    Ok(())
}

fn set_key(packet: &mut Packet, json: &Bytes) -> Result<(), Fault> {
    let key = match serde_json::from_slice::<Json>(json) {
        Ok(Json::Null) => None,
        Ok(Json::String(text)) => Some(Bytes::from(text.into_bytes())),
        Ok(Json::Number(number)) => Some(Bytes::from(number.to_string().into_bytes())),
        _ => return Err(Fault::invalid("the program for 'key' must give a text, a number or null")),
    };
    if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        return Err(Fault::limit(format!("the program for 'key' gave more than {KEY_BYTES_MAX} bytes")));
    }
    packet.message.key = key;
    Ok(())
}
