//! How are calls sent: as many as go, so many a second, or so many altogether?

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::client::Client;

/// The times from POST to 202, and how long all took.
pub struct Run {
    pub times_ms: Vec<f64>,
    pub took: Duration,
}

/// What one connection does with the number of its next call: when it is due, or that there is none.
trait Pace: Send + Sync + 'static {
    fn due(&self, number: u64) -> Option<Instant>;
}

/// Each connection sends its next call when the last is answered.
pub async fn most(address: SocketAddr, request: &[u8], connections: usize, time: Duration) -> Run {
    struct Until(Instant);
    impl Pace for Until {
        fn due(&self, _: u64) -> Option<Instant> {
            let now = Instant::now();
            (now < self.0).then_some(now)
        }
    }
    run(address, request, connections, |begun| Until(begun + time)).await
}

/// So many calls altogether, as fast as they go.
pub async fn some(address: SocketAddr, request: &[u8], connections: usize, count: u64) -> Run {
    struct Count(u64);
    impl Pace for Count {
        fn due(&self, number: u64) -> Option<Instant> {
            (number < self.0).then(Instant::now)
        }
    }
    run(address, request, connections, |_| Count(count)).await
}

/// So many calls a second, whether or not the earlier ones are answered: a call that finds all connections busy is late from
/// the moment at which it was due.
pub async fn steady(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
    time: Duration,
    a_second: f64,
) -> Run {
    struct Steady {
        begun: Instant,
        count: u64,
        a_second: f64,
    }
    impl Pace for Steady {
        fn due(&self, number: u64) -> Option<Instant> {
            let at = self.begun + Duration::from_secs_f64(number as f64 / self.a_second);
            (number < self.count).then_some(at)
        }
    }
    let count = (a_second * time.as_secs_f64()) as u64;
    run(address, request, connections, |begun| Steady { begun, count, a_second }).await
}

async fn run<P: Pace>(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
    pace: impl FnOnce(Instant) -> P,
) -> Run {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Client::connect(address).await);
    }
    let request: Arc<[u8]> = request.into();
    let (next, times) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let begun = Instant::now();
    let pace = Arc::new(pace(begun));
    let mut tasks = JoinSet::new();
    for client in clients {
        let (request, pace, next, times) = (request.clone(), pace.clone(), next.clone(), times.clone());
        tasks.spawn(async move {
            let own = send(client, &request, &*pace, &next).await;
            times.lock().expect("whole").extend(own);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a good end");
    }
    let took = begun.elapsed();
    let times_ms = std::mem::take(&mut *times.lock().expect("whole"));
    Run { times_ms, took }
}

async fn send<P: Pace>(mut client: Client, request: &[u8], pace: &P, next: &AtomicU64) -> Vec<f64> {
    let mut times = Vec::new();
    while let Some(due) = pace.due(next.fetch_add(1, Ordering::Relaxed)) {
        let mut from = due;
        if due > Instant::now() {
            // The timer's steps are milliseconds: how late it wakes is not the server's doing.
            tokio::time::sleep_until(due.into()).await;
            from = Instant::now();
        }
        client.ask(request, "202").await;
        times.push(from.elapsed().as_secs_f64() * 1000.0);
    }
    times
}
