//! How does one message become several? Each output of a jq program goes on by itself, and says which of how many it is (splitter).

use std::sync::Arc;

use waystation_base::message::header;
use waystation_jq::Program;

use super::Flow;
use crate::{
    Fault, Invalid, Verdict,
    names::header as own,
    packet::Packet,
    program::{jq, place},
    run::Run,
};

/// Divides.
#[derive(Debug)]
pub(crate) struct Split {
    pub at: Arc<str>,
    program: Program,
}

impl Split {
    pub fn compile(at: &str, text: &str) -> Result<Split, Invalid> {
        Ok(Split { at: place(at), program: jq(at, text)? })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let body = packet.json().await?;
        let outputs = run.tools.jq(&self.program, &packet, body, run.limits).await?;
        let size = outputs.len();
        run.divide(size)?;
        run.say(&self.at, Verdict::Split, Some(format!("{size} parts")));
        let parts = outputs.into_iter().enumerate().map(|(index, json)| {
            let mut part = packet.clone();
            part.set_json(json);
            mark(&mut part, index, size);
            part
        });
        Ok(Flow::Parts(parts.collect()))
    }
}

fn mark(part: &mut Packet, index: usize, size: usize) {
    let id = part.message.id.to_string();
    let headers = &mut part.message.headers;
    headers.set(own::SEQUENCE_ID, id.as_str());
    headers.set(own::SEQUENCE_INDEX, index as i64);
    headers.set(own::SEQUENCE_SIZE, size as i64);
    // Parts with one id would be taken for duplicates.
    if let Some(sender_id) = headers.text(header::MESSAGE_ID).map(str::to_owned) {
        headers.set(header::MESSAGE_ID, format!("{sender_id}.{index}").as_str());
    }
}
