//! How many of a thing may there be at once: connections, requests in flight, bytes held.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound on what is held at the same time. Clones share it. Nobody waits: who gets none is told so at once, because a
/// queue in front of a bound would be without one.
#[derive(Clone, Debug)]
pub struct Permits {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    held: AtomicUsize,
}

/// So many of the bound, until dropped.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    count: usize,
}

impl Permits {
    /// A bound of `max`.
    pub fn new(max: usize) -> Permits {
        Permits { shared: Arc::new(Shared { max, held: AtomicUsize::new(0) }) }
    }

    /// One, or nothing if all are held.
    pub fn take(&self) -> Option<Permit> {
        self.take_many(1)
    }

    /// So many at once, or nothing if fewer are left.
    pub fn take_many(&self, count: usize) -> Option<Permit> {
        self.shared.add(count).then(|| Permit { shared: self.shared.clone(), count })
    }

    /// How many are held now.
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// The bound.
    pub fn max(&self) -> usize {
        self.shared.max
    }
}

impl Shared {
    fn add(&self, count: usize) -> bool {
        let fits = |held: usize| held.checked_add(count).filter(|sum| *sum <= self.max);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Relaxed, fits).is_ok()
    }
}

impl Permit {
    /// Takes more to what is held; whether there were as many.
    pub fn grow(&mut self, count: usize) -> bool {
        let grown = self.shared.add(count);
        if grown {
            self.count += count;
        }
        grown
    }

    /// How many it stands for.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(self.count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_given_out_and_one_past_it_is_not() {
        let permits = Permits::new(2);
        let (first, second) = (permits.take(), permits.take());
        assert!(first.is_some() && second.is_some());
        assert!(permits.take().is_none());
        drop(first);
        assert_eq!((permits.held(), permits.max()), (1, 2));
        assert!(permits.take().is_some());
    }

    #[test]
    fn a_permit_grows_within_the_bound_only_and_gives_all_of_it_back() {
        let permits = Permits::new(10);
        let mut permit = permits.take_many(4).expect("four of ten");
        assert!(permit.grow(6));
        assert!(!permit.grow(1));
        assert!(!permit.grow(usize::MAX));
        assert_eq!((permit.count(), permits.held()), (10, 10));
        drop(permit);
        assert_eq!(permits.held(), 0);
    }
}
