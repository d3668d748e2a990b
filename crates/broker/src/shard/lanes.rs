//! The logs of a queue by number: nearly always one, which lies within the queue itself and costs no further step in memory.

use smallvec::SmallVec;

use super::log::Log;

/// A small map from log number to log, in order of number.
#[derive(Clone, Debug, Default)]
pub struct Lanes(SmallVec<[(u16, Log); 1]>);

impl Lanes {
    /// The log with a number.
    pub fn get(&self, number: u16) -> Option<&Log> {
        self.place(number).map(|at| &self.0[at].1)
    }

    /// The log with a number, to be changed.
    pub fn get_mut(&mut self, number: u16) -> Option<&mut Log> {
        self.place(number).map(|at| &mut self.0[at].1)
    }

    /// Where a log is: with few of them looking at each is quickest.
    fn place(&self, number: u16) -> Option<usize> {
        match self.0.len() {
            0..=4 => self.0.iter().position(|(have, _)| *have == number),
            _ => self.0.binary_search_by_key(&number, |(have, _)| *have).ok(),
        }
    }

    /// Puts a log in its place.
    pub fn insert(&mut self, number: u16, log: Log) {
        let at = self.0.partition_point(|(have, _)| *have < number);
        match self.0.get_mut(at).filter(|(have, _)| *have == number) {
            Some(have) => have.1 = log,
            None => self.0.insert(at, (number, log)),
        }
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u16, &Log)> {
        self.0.iter().map(|(number, log)| (*number, log))
    }

    /// All of them in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut Log)> {
        self.0.iter_mut().map(|(number, log)| (*number, log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_stand_in_order_and_one_of_the_same_number_is_replaced() {
        let mut lanes = Lanes::default();
        for (number, next) in [(9, 1), (0, 2), (300, 3), (9, 4)] {
            lanes.insert(number, Log::restore(0, next, Vec::new()));
        }
        assert_eq!(
            lanes.iter().map(|(number, log)| (number, log.next)).collect::<Vec<_>>(),
            [(0, 2), (9, 4), (300, 3)]
        );
        assert_eq!((lanes.get(9).map(|log| log.next), lanes.get(1).map(|log| log.next)), (Some(4), None));
    }
}
