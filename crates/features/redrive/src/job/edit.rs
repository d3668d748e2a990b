//! How is a message changed on its way: its headers here, its body by jq in a process of its own?

use bytes::Bytes;
use serde_json::json;
use waystation_base::{Message, message::header};
use waystation_content::aside;
use waystation_jq::{Failure, Limits, Pool, Program};

use super::{outgoing, spec::Edit};
use crate::{letter::Letter, which::Invalid};

/// Characters of what a program says when it fails.
const REASON_CHARS_MAX: usize = 200;

/// Makes an edit.
#[derive(Clone, Debug)]
pub(super) struct Editor {
    edit: Edit,
    program: Option<(Program, Pool)>,
}

/// Why a message was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unchanged {
    /// It cannot be.
    Never(String),
    /// Not now.
    Now(String),
}

impl Editor {
    /// An edit, ready to be made.
    pub fn new(edit: &Edit, pool: Option<&Pool>) -> Result<Editor, Invalid> {
        let program = match (edit.program()?, pool) {
            (None, _) => None,
            (Some(program), Some(pool)) => Some((program, pool.clone())),
            (Some(_), None) => return Err(Invalid::new("edit.jq", "this server runs no jq")),
        };
        Ok(Editor { edit: edit.clone(), program })
    }

    /// Changes a message that is kept under `original` as it was.
    pub async fn apply(
        &self,
        letter: &Letter,
        message: &mut Message,
        original: &str,
    ) -> Result<(), Unchanged> {
        if let Some((program, pool)) = &self.program {
            message.body = changed(program, pool, letter, message).await?;
        }
        outgoing::edited(message, &self.edit, original);
        Ok(())
    }
}

async fn changed(
    program: &Program,
    pool: &Pool,
    letter: &Letter,
    message: &Message,
) -> Result<Bytes, Unchanged> {
    let never = |error: &dyn std::fmt::Display| Unchanged::Never(format!("its body is no JSON: {error}"));
    // Without a type it is taken for JSON.
    let content_type = message.headers.text(header::CONTENT_TYPE).unwrap_or("application/json");
    let input = aside::read(Some(content_type), &message.body).await.map_err(|error| never(&error))?;
    let variables = [json!(letter.cause), json!(letter.error), json!(letter.origin)];
    let variables = variables.iter().map(|value| value.to_string().into()).collect();
    let Limits { time, output_bytes, outputs, .. } = Limits::default();
    let results = pool.run_within(program, input, variables, time, output_bytes, outputs).await;
    let results = results.map_err(|failure| match failure {
        Failure::Worker(_) => Unchanged::Now(failure.to_string()),
        failure => Unchanged::Never(failure.to_string().chars().take(REASON_CHARS_MAX).collect()),
    })?;
    let [result] = results.as_slice() else {
        return Err(Unchanged::Never(format!("jq: {} results instead of one", results.len())));
    };
    aside::write(Some(content_type), result)
        .await
        .map_err(|error| Unchanged::Never(format!("the result cannot be written as {content_type}: {error}")))
}
