//! Where does a message go? `to` ends it there; `tap` sends a copy and lets it go on (wire tap).

use std::sync::Arc;

use super::Flow;
use crate::{
    Fault, Invalid,
    packet::Packet,
    program::place,
    run::Run,
    spec::{Destination, Targets},
};

/// Sends.
#[derive(Debug)]
pub(crate) struct Send {
    pub at: Arc<str>,
    to: Vec<Destination>,
    goes_on: bool,
}

impl Send {
    pub fn compile(at: &str, to: &Targets, goes_on: bool) -> Result<Send, Invalid> {
        let to = to.check(at)?;
        Ok(Send { at: place(at), to, goes_on })
    }

    pub async fn run(&self, run: &mut Run<'_>, packet: Packet) -> Result<Flow<'_>, Fault> {
        run.send(&self.at, &packet, &self.to).await?;
        Ok(if self.goes_on { Flow::On(packet) } else { Flow::End })
    }
}
