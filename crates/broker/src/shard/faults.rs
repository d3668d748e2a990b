//! What consumers said of messages that they gave back as failed: the last word on each, for the dead letter that it may become.

use std::{collections::BTreeMap, sync::Arc};

use smol_str::SmolStr;
use waystation_base::{Offset, Tag, limits::ERROR_TEXT_BYTES_MAX};

use super::{Ctx, entry::Entry, outlet::Outlet};

/// Messages of one queue or subscription of which the last error is known; past it that of the oldest message is forgotten.
const FAULTS_MAX: usize = 10_000;
/// Bytes of the texts of one queue or subscription together; past them those of the oldest messages are forgotten.
const FAULT_BYTES_MAX: usize = 1 << 20;

/// Offsets that a tag can name.
const OFFSETS: u64 = 1 << 48;

/// What went wrong, in a consumer's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Which kind of error.
    pub class: Option<SmolStr>,
    /// The error.
    pub text: Option<Arc<str>>,
}

impl Fault {
    /// What was said, if anything was.
    pub fn of(class: Option<&str>, text: Option<&str>) -> Option<Fault> {
        let text = text.filter(|text| !text.is_empty()).map(|text| cut(text).into());
        let class = class.filter(|class| !class.is_empty()).map(SmolStr::new);
        (class.is_some() || text.is_some()).then_some(Fault { class, text })
    }

    fn bytes(&self) -> usize {
        self.class.as_ref().map_or(0, SmolStr::len) + self.text.as_ref().map_or(0, |text| text.len())
    }
}

/// At most [`ERROR_TEXT_BYTES_MAX`] bytes of a text.
pub fn cut(text: &str) -> &str {
    let most = text.len().min(ERROR_TEXT_BYTES_MAX);
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

/// The last words on messages that are not done.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    of: BTreeMap<Tag, Fault>,
    bytes: usize,
}

impl Faults {
    /// Notes what was said of a message last.
    pub fn set(&mut self, tag: Tag, fault: Fault) {
        self.take(tag);
        self.bytes += fault.bytes();
        self.of.insert(tag, fault);
        while self.of.len() > FAULTS_MAX || self.bytes > FAULT_BYTES_MAX {
            let Some((_, oldest)) = self.of.pop_first() else { break };
            self.bytes -= oldest.bytes();
        }
    }

    /// What was said of a message; it is forgotten.
    pub fn take(&mut self, tag: Tag) -> Option<Fault> {
        let fault = self.of.remove(&tag)?;
        self.bytes -= fault.bytes();
        Some(fault)
    }

    /// Forgets what is done: `count` messages of a log from `start` on.
    pub fn forget(&mut self, log: u16, start: u64, count: u64) {
        if self.of.is_empty() || count == 0 {
            return;
        }
        let within = Tag::new(log, Offset(start))..=Tag::new(log, Offset(start + count - 1));
        let tags: Vec<Tag> = self.of.range(within).map(|(tag, _)| *tag).collect();
        tags.into_iter().for_each(|tag| drop(self.take(tag)));
    }

    /// Forgets all of a log.
    pub fn forget_log(&mut self, log: u16) {
        self.forget(log, 0, OFFSETS);
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Tag, &Fault)> {
        self.of.iter().map(|(tag, fault)| (*tag, fault))
    }
}

impl Outlet {
    /// Writes down and notes what was said of messages that come back.
    pub(super) fn note_fault(&mut self, fault: Fault, tags: impl Iterator<Item = Tag>, ctx: &mut Ctx<'_>) {
        let places: Vec<(u16, u64)> = tags.map(|tag| (tag.log(), tag.offset().0)).collect();
        if !places.is_empty() {
            self.apply_fault(&fault, &places);
            Entry::Failed(self.id, fault, places).append(ctx.log);
        }
    }

    /// Notes what was said of messages, now or after a restart.
    pub fn apply_fault(&mut self, fault: &Fault, places: &[(u16, u64)]) {
        for (log, offset) in places {
            self.faults.set(Tag::new(*log, Offset(*offset)), fault.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        Fault::of(None, Some(text)).expect("said")
    }

    fn tags(faults: &Faults) -> Vec<u64> {
        faults.iter().map(|(tag, _)| tag.offset().0).collect()
    }

    #[test]
    fn the_last_word_counts_and_what_is_done_is_forgotten() {
        let mut faults = Faults::default();
        for (offset, text) in [(1, "a"), (2, "b"), (1, "c"), (9, "d")] {
            faults.set(Tag(offset), fault(text));
        }
        assert_eq!(faults.take(Tag(1)), Some(fault("c")));
        faults.forget(0, 2, 7);
        assert_eq!((tags(&faults), faults.bytes), (vec![9], 1));
    }

    #[test]
    fn faults_max_are_kept_and_the_oldest_message_is_forgotten_first() {
        let mut faults = Faults::default();
        (0..FAULTS_MAX as u64).for_each(|offset| faults.set(Tag(offset), fault("x")));
        assert_eq!(faults.iter().len(), FAULTS_MAX);
        faults.set(Tag(FAULTS_MAX as u64), fault("x"));
        assert_eq!((faults.take(Tag(0)), faults.iter().len()), (None, FAULTS_MAX));
    }

    #[test]
    fn texts_are_kept_up_to_fault_bytes_max() {
        let mut faults = Faults::default();
        let fit = (FAULT_BYTES_MAX / ERROR_TEXT_BYTES_MAX) as u64;
        let text = "x".repeat(ERROR_TEXT_BYTES_MAX);
        (0..fit).for_each(|offset| faults.set(Tag(offset), fault(&text)));
        assert_eq!(faults.iter().len() as u64, fit);
        faults.set(Tag(fit), fault(&text));
        assert_eq!(tags(&faults), (1..=fit).collect::<Vec<_>>());
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        let at = "x".repeat(ERROR_TEXT_BYTES_MAX);
        assert_eq!(cut(&at), at);
        assert_eq!(cut(&format!("{at}x")), at);
        assert_eq!(cut(&format!("{}é", &at[1..])), &at[1..]);
    }

    #[test]
    fn nothing_said_is_no_fault() {
        assert_eq!(Fault::of(Some(""), Some("")), None);
        assert_eq!(Fault::of(Some("busy"), None).map(|fault| fault.bytes()), Some(4));
    }
}
