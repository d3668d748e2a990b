//! How is a push now, as those see it who ask?

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Millis;

use super::ledger::Ledger;
use crate::attempt::History;

/// What a push is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PushState {
    /// It delivers what comes.
    #[default]
    Active,
    /// The endpoint is left alone for a while after failures, or because it asked for that.
    Suspended,
    /// What it delivers is not there, or cannot be read; it looks again every few seconds.
    Waiting,
    /// Somebody paused it.
    Paused,
    /// The endpoint answered 410 Gone; `resume` lets it deliver again.
    Disabled,
}

/// Shared between the pusher and those who ask.
#[derive(Debug, Default)]
pub struct Live {
    /// Its last attempts.
    pub history: History,
    /// Who takes note of each attempt besides.
    pub ledger: Option<Arc<Ledger>>,
    now: Mutex<Now>,
}

/// How it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// In one word.
    pub state: PushState,
    /// Why, if that needs saying.
    pub reason: Option<String>,
    /// Until when it is suspended.
    pub until: Option<Millis>,
    /// Requests under way.
    pub requests: u32,
}

impl Live {
    /// One whose attempts are noted in a ledger too.
    pub fn noted(ledger: Arc<Ledger>) -> Live {
        Live { ledger: Some(ledger), ..Live::default() }
    }

    /// How it is.
    pub fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, state: PushState, reason: Option<String>, until: Option<Millis>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = Now { state, reason, until, requests: now.requests };
    }

    pub(crate) fn set_requests(&self, requests: usize) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).requests = requests as u32;
    }
}
