//! How does work go on by itself: a task that somebody owns and ends, and a change that nobody can leave half done?

use tokio::{sync::watch, task::JoinHandle};

/// Carries a change out to its end, whatever becomes of who waits for it: a client that hangs up in the middle of a
/// declaration would else leave what was stopped for it stopped.
pub async fn to_its_end<T: Send + 'static>(change: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(change).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends, and with it who waits.
        Err(_) => std::future::pending().await,
    }
}

/// Work that runs beside everything else until its owner ends it.
#[derive(Debug)]
pub struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl Task {
    /// Starts work, which ends soon after what it is given becomes true.
    pub fn start<F: Future<Output = ()> + Send + 'static>(
        work: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Task {
        let (stop, told) = watch::channel(false);
        Task { stop, handle: tokio::spawn(work(told)) }
    }

    /// Tells it to end, and waits until it has.
    pub async fn end(self) {
        Task::end_all([self]).await;
    }

    /// The same for several at a time.
    pub async fn end_all(tasks: impl IntoIterator<Item = Task>) {
        let tasks: Vec<Task> = tasks.into_iter().collect();
        for task in &tasks {
            task.stop.send_replace(true);
        }
        for task in tasks {
            // One that failed has said so.
            let _ = task.handle.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_change_goes_on_when_nobody_waits_for_it_any_more() {
        let (go, told) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let change = async move {
            let _ = told.await;
            let _ = done.send(7);
        };
        let mut waiting = Box::pin(to_its_end(change));
        assert!(futures_poll(waiting.as_mut()).is_pending());
        drop(waiting);
        go.send(()).expect("it waits");
        assert_eq!(is_done.await, Ok(7));
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test]
    async fn a_task_is_told_to_end_and_waited_for() {
        let (done, is_done) = oneshot::channel();
        let task = Task::start(|mut stop| async move {
            let _ = stop.wait_for(|stop| *stop).await;
            let _ = done.send(());
        });
        task.end().await;
        assert_eq!(is_done.await, Ok(()));
    }
}
