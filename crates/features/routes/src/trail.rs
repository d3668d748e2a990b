//! What did each step say of a message?

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{TRAIL_BYTES_MAX, TRAIL_MAX};

/// What one step said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RouteSaid)]
pub struct Said {
    /// Which step: `steps[2].choose[1]`.
    #[schema(value_type = String)]
    pub step: Arc<str>,
    /// In one word.
    pub verdict: Verdict,
    /// Of a message that was split before: the number of the part, from 0, for each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub part: Vec<u32>,
    /// Why, or what it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A step's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RouteVerdict)]
pub enum Verdict {
    /// Its condition holds.
    Matched,
    /// Its condition does not hold.
    NotMatched,
    /// It changed the message.
    Changed,
    /// It divided the message into parts.
    Split,
    /// It sent the message somewhere.
    Sent,
    /// The message ends there, as declared.
    Ended,
    /// The message waits there for others.
    Kept,
    /// The message failed there.
    Failed,
    /// From there on the steps said more than is kept.
    LeftOut,
}

/// What the steps have said so far, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    said: Vec<Said>,
    bytes: usize,
    /// Where the first word was left out, and how many were.
    left_out: Option<(Arc<str>, u64)>,
}

impl Trail {
    /// Adds a word, or counts it if there are too many. A failure is always kept: there is one at most.
    pub fn say(&mut self, said: Said) {
        let bytes = said.bytes();
        let is_full = self.said.len() >= TRAIL_MAX || self.bytes + bytes > TRAIL_BYTES_MAX;
        if said.verdict == Verdict::Failed || !(is_full || self.left_out.is_some()) {
            self.bytes += bytes;
            self.said.push(said);
            return;
        }
        self.left_out.get_or_insert((said.step, 0)).1 += 1;
    }

    /// All that is kept, and how much is not.
    pub fn finish(self) -> Vec<Said> {
        let Trail { mut said, left_out, .. } = self;
        if let Some((step, count)) = left_out {
            let detail = Some(format!("{count} more"));
            let left_out = Said { step, verdict: Verdict::LeftOut, part: Vec::new(), detail };
            let is_failure = said.last().is_some_and(|last| last.verdict == Verdict::Failed);
            said.insert(said.len() - usize::from(is_failure), left_out);
        }
        said
    }
}

impl Said {
    fn bytes(&self) -> usize {
        let detail = self.detail.as_ref().map_or(0, String::len);
        size_of::<Said>() + self.step.len() + detail + self.part.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: usize, verdict: Verdict, detail: Option<String>) -> Said {
        Said { step: format!("steps[{number}]").into(), verdict, part: Vec::new(), detail }
    }

    fn trail(words: impl IntoIterator<Item = Said>) -> Vec<Said> {
        let mut trail = Trail::default();
        words.into_iter().for_each(|word| trail.say(word));
        trail.finish()
    }

    #[test]
    fn a_trail_is_whole_up_to_its_bound_and_counts_what_lies_past_it() {
        let words = |count| (0..count).map(|n| said(n, Verdict::Matched, None));
        let whole = trail(words(TRAIL_MAX));
        assert_eq!(whole, words(TRAIL_MAX).collect::<Vec<_>>());
        let cut = trail(words(TRAIL_MAX + 3));
        assert_eq!(cut[..TRAIL_MAX], whole);
        assert_eq!(cut[TRAIL_MAX..], [said(TRAIL_MAX, Verdict::LeftOut, Some("3 more".into()))]);
    }

    #[test]
    fn what_failed_is_told_even_if_other_words_were_left_out() {
        let words = (0..TRAIL_MAX + 1).map(|n| said(n, Verdict::Matched, None));
        let failure = said(TRAIL_MAX + 1, Verdict::Failed, Some("no".into()));
        let cut = trail(words.chain([failure.clone()]));
        let left_out = said(TRAIL_MAX, Verdict::LeftOut, Some("1 more".into()));
        assert_eq!(cut[TRAIL_MAX..], [left_out, failure]);
    }

    #[test]
    fn long_words_are_bounded_by_their_bytes() {
        let rest = said(0, Verdict::Matched, None).bytes();
        let of_bytes = |n, bytes: usize| said(n, Verdict::Matched, Some("x".repeat(bytes - rest)));
        let at = trail([of_bytes(0, TRAIL_BYTES_MAX / 2), of_bytes(1, TRAIL_BYTES_MAX / 2)]);
        assert!(at.iter().all(|word| word.verdict == Verdict::Matched) && at.len() == 2);
        let past = trail([of_bytes(0, TRAIL_BYTES_MAX / 2), of_bytes(1, TRAIL_BYTES_MAX / 2 + 1)]);
        assert_eq!(past[1..], [said(1, Verdict::LeftOut, Some("1 more".into()))]);
    }
}
