//! What do dead letters and redrives look like in JSON, beside what `waystation_redrive` says itself?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_redrive::{Letter, job::Preview};

use super::Received;

/// A dead letter.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeadLetter {
    /// The queue where it lies.
    pub queue: String,
    /// What it says of its death.
    pub letter: Letter,
    /// The message.
    pub message: Received,
}

/// Dead letters of a group.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeadLetterPage {
    /// Queue by queue, in order of names.
    pub items: Vec<DeadLetter>,
    /// `after` of the next page; none at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a redrive would do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RedrivePreview {
    /// Counted.
    #[serde(flatten)]
    pub preview: Preview,
    /// Some of the messages.
    pub samples: Vec<RedriveSample>,
}

/// One message that a redrive would move.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RedriveSample {
    /// The queue where it lies.
    pub queue: String,
    /// What it says of its death.
    pub letter: Letter,
    /// Where it would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why it would stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// As it is.
    pub message: Received,
    /// As it would arrive.
    pub redriven: Received,
}
