//! How is an upstream now, as those see it who ask?

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use waystation_base::Millis;

use crate::limits::UPSTREAM_FAILURES_MAX;

/// What an upstream's worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpstreamState {
    /// It sends what comes.
    Active,
    /// The upstream is left alone for a while, after failures or because it asked for that.
    Suspended,
    /// As much was sent as the rate allows.
    Throttled,
    /// The declaration changed, and what is under way by the old one comes to its end.
    Draining,
    /// The queue is not there, or this server is not ready; it looks again every few seconds.
    #[default]
    Waiting,
    /// Somebody paused it.
    Paused,
}

/// Counted since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct UpstreamCounts {
    /// Requests sent.
    pub attempts: u64,
    /// Calls that succeeded by an answer.
    pub succeeded: u64,
    /// Calls that failed, by an answer or for want of one.
    pub failed: u64,
    /// Attempts after which the call was to be tried again.
    pub retried: u64,
    /// Requests dropped because the call had ended meanwhile.
    pub dropped: u64,
    /// Milliseconds that requests took, together.
    pub took_ms: u64,
}

/// A request that did not succeed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct UpstreamFailure {
    /// When it began, in milliseconds since 1970.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub at: Millis,
    /// The call.
    pub call: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// What went wrong.
    pub cause: String,
    /// Milliseconds that it took.
    pub took_ms: u64,
    /// Milliseconds until the next attempt; none: the call has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
}

/// An upstream as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct UpstreamInfo {
    /// What it is doing.
    pub state: UpstreamState,
    /// Why, if that needs saying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when it is suspended or throttled, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>))]
    pub until: Option<Millis>,
    /// Requests under way.
    pub requests: u32,
    /// Names of the headers of one's own.
    pub header_names: Vec<String>,
    /// Counted since the server started.
    pub counts: UpstreamCounts,
    /// The last failures since the server started, newest first.
    pub failures: Vec<UpstreamFailure>,
}

/// Shared between the worker and those who ask.
#[derive(Debug, Default)]
pub(crate) struct Live {
    inner: Mutex<Inner>,
    requests: AtomicU32,
    /// Somebody wants it to be tried, whatever it is waiting for.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    state: UpstreamState,
    reason: Option<String>,
    until: Option<Millis>,
    counts: UpstreamCounts,
    failures: VecDeque<UpstreamFailure>,
}

impl Live {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a panic left behind is still a picture of how it is.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, state: UpstreamState, reason: Option<String>, until: Option<Millis>) {
        let mut inner = self.inner();
        (inner.state, inner.reason, inner.until) = (state, reason, until);
    }

    /// Lets a suspended one try at once.
    pub fn wake(&self) {
        if self.inner().state == UpstreamState::Suspended {
            self.wake.notify_one();
        }
    }

    /// Resolves when somebody says so.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Notes what came of a request, and of whoever failed, why.
    pub fn count(&self, note: impl FnOnce(&mut UpstreamCounts), failure: Option<UpstreamFailure>) {
        let mut inner = self.inner();
        note(&mut inner.counts);
        if let Some(failure) = failure {
            inner.failures.truncate(UPSTREAM_FAILURES_MAX - 1);
            inner.failures.push_front(failure);
        }
    }

    /// A request is under way until this is dropped.
    pub fn request(&self) -> UnderWay<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// As it is now, but for what the declaration says.
    pub fn show(&self) -> UpstreamInfo {
        let inner = self.inner();
        UpstreamInfo {
            state: inner.state,
            reason: inner.reason.clone(),
            until: inner.until,
            requests: self.requests.load(Ordering::Relaxed),
            header_names: Vec::new(),
            counts: inner.counts,
            failures: inner.failures.iter().cloned().collect(),
        }
    }
}

/// See [`Live::request`].
pub(crate) struct UnderWay<'a>(&'a Live);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failures_are_kept_and_requests_are_counted_while_they_last() {
        let live = Live::default();
        for attempt in 1..=UPSTREAM_FAILURES_MAX as u32 + 1 {
            let failure = UpstreamFailure { attempt, ..UpstreamFailure::default() };
            live.count(|counts| counts.retried += 1, Some(failure));
        }
        let seen = live.show();
        assert_eq!(seen.failures.len(), UPSTREAM_FAILURES_MAX);
        assert_eq!((seen.failures[0].attempt, seen.counts.retried), (21, 21));
        let (one, two) = (live.request(), live.request());
        assert_eq!(live.show().requests, 2);
        drop(one);
        assert_eq!(live.show().requests, 1);
        drop(two);
    }
}
