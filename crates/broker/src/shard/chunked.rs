//! A queue in pieces: however long it gets, no push moves what is in it. A `VecDeque` of a million entries holds up everything
//! for tens of milliseconds when it grows.

use std::collections::VecDeque;

/// Entries of a piece.
const PIECE_ENTRIES: usize = 128;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Chunked<T> {
    /// None of them is empty, unless there is only one.
    pieces: VecDeque<Vec<T>>,
    /// Entries of the first piece that were taken.
    taken: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Chunked<T> {
        Chunked { pieces: VecDeque::new(), taken: 0 }
    }
}

impl<T> Chunked<T> {
    /// Adds an entry at the end.
    pub(super) fn push_back(&mut self, entry: T) {
        match self.pieces.back_mut() {
            Some(last) if last.len() < PIECE_ENTRIES => last.push(entry),
            // Most are short, so the first piece grows as it needs to.
            None => self.pieces.push_back(vec![entry]),
            Some(_) => {
                let mut piece = Vec::with_capacity(PIECE_ENTRIES);
                piece.push(entry);
                self.pieces.push_back(piece);
            }
        }
    }

    /// The first entry.
    pub(super) fn front(&self) -> Option<&T> {
        self.pieces.front()?.get(self.taken)
    }

    /// Takes entries off the front while they fit.
    pub(super) fn drop_while(&mut self, fits: impl Fn(&T) -> bool) {
        while self.front().is_some_and(&fits) {
            self.taken += 1;
            if self.pieces.front().is_some_and(|first| first.len() == self.taken) {
                self.taken = 0;
                match self.pieces.len() {
                    // Its memory is used again.
                    1 => self.pieces[0].clear(),
                    _ => drop(self.pieces.pop_front()),
                }
            }
        }
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten().skip(self.taken)
    }

    /// The entries from the first on that does not lie before; those that do come first.
    pub(super) fn from(&self, is_before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
        let piece = self.pieces.partition_point(|piece| piece.last().is_some_and(&is_before));
        let entry = self.pieces.get(piece).map_or(0, |piece| piece.partition_point(&is_before));
        let taken = if piece == 0 { self.taken } else { 0 };
        self.pieces.range(piece..).flatten().skip(entry.max(taken))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((0..400u32, 0..400u32, 0..4000u32), 1..20)) {
            let (mut chunked, mut model, mut next) = (Chunked::default(), VecDeque::new(), 0);
            for (more, gone, from) in steps {
                for _ in 0..more {
                    chunked.push_back(next);
                    model.push_back(next);
                    next += 1;
                }
                let until = model.front().map_or(0, |first| first + gone);
                chunked.drop_while(|entry| *entry < until);
                model.retain(|entry| *entry >= until);
                prop_assert_eq!(chunked.front(), model.front());
                prop_assert!(chunked.iter().eq(&model));
                prop_assert!(chunked.from(|entry| *entry < from).eq(model.iter().filter(|entry| **entry >= from)));
            }
        }
    }

    #[test]
    fn what_is_empty_keeps_one_piece_at_most() {
        let mut chunked = Chunked::default();
        for number in 0..10 * PIECE_ENTRIES {
            chunked.push_back(number);
        }
        assert_eq!(chunked.pieces.len(), 10);
        chunked.drop_while(|_| true);
        assert_eq!((chunked.pieces.len(), chunked.iter().count(), chunked.front()), (1, 0, None));
        chunked.push_back(7);
        assert_eq!((chunked.front(), chunked.pieces.len()), (Some(&7), 1));
    }
}
