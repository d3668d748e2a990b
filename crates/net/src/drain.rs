//! How does everybody learn that the server is going down?

use std::sync::Arc;

use tokio::sync::watch;

/// A signal that goes once from "run" to "finish what you have and leave". Clones share it.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<bool>>);

impl Default for Drain {
    fn default() -> Drain {
        Drain(Arc::new(watch::Sender::new(false)))
    }
}

impl Drain {
    /// Gives the signal. Giving it twice is the same as once.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was given.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for it; returns at once if it was given.
    pub async fn begun(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = receiver.wait_for(|begun| *begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_before_and_who_asks_after_both_learn_of_it() {
        let drain = Drain::default();
        let early = tokio::spawn({
            let drain = drain.clone();
            async move { drain.begun().await }
        });
        assert!(!drain.has_begun());
        drain.begin();
        drain.begin();
        early.await.expect("the waiter ends");
        drain.begun().await;
        assert!(drain.has_begun());
    }
}
