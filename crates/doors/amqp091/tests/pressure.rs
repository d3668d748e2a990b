//! Who publishes faster than can be stored is held up, hears why where his client understands it, and is seen to be.

mod common;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{PATIENCE, Server};
use tokio::time::{sleep, timeout};
use waystation_amqp091::{
    directory::Loopback,
    wire::{Method, methods::*},
};
use waystation_base::{
    disk::{Disk, File, LockError},
    memory::Memory,
    os::OsDisk,
};
use waystation_host::MemoryBound;

/// A disk whose syncs can be made to wait, and whose free space is what one says.
#[derive(Clone)]
struct Slow {
    is_held: Arc<(Mutex<bool>, Condvar)>,
    free_bytes: Arc<AtomicU64>,
}

impl Slow {
    fn new() -> Slow {
        Slow { is_held: Arc::default(), free_bytes: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    fn hold(&self, is_held: bool) {
        *self.is_held.0.lock().expect("not poisoned") = is_held;
        self.is_held.1.notify_all();
    }

    fn file(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowFile(file?, self.is_held.clone())))
    }
}

struct SlowFile(Arc<dyn File>, Arc<(Mutex<bool>, Condvar)>);

impl File for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (is_held, changed) = &*self.1;
        let held = is_held.lock().expect("not poisoned");
        drop(changed.wait_while(held, |is_held| *is_held).expect("not poisoned"));
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}

impl Disk for Slow {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        OsDisk.create_dir_all(dir)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        self.file(OsDisk.open(path, create))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        OsDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free_bytes.load(Ordering::Relaxed))
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        OsDisk.lock(path, owner)
    }
}

/// The state of the one connection, and why it is held up.
fn state(server: &Server) -> (&'static str, Option<&'static str>) {
    let all = server.registry.connections();
    (all[0].state, all[0].held_up_by)
}

async fn until(server: &Server, expected: &str) -> Option<&'static str> {
    let wait = async {
        loop {
            let (state, by) = state(server);
            if state == expected {
                return by;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never {expected}: {:?}", state(server)))
}

#[tokio::test]
async fn who_publishes_faster_than_the_disk_writes_is_in_flow_until_it_has_caught_up() {
    let disk = Slow::new();
    let server = Server::on(Arc::new(disk.clone()), 0, |_| ()).await;
    let mut client = server.channel().await;
    client.declare("q").await;
    client.say(1, confirm::Select::default()).await;
    let Method::ConfirmSelectOk(_) = client.method().await else { panic!("select-ok") };
    assert_eq!(state(&server), ("running", None));
    disk.hold(true);
    let body = Bytes::from(vec![b'x'; 1 << 20]);
    // What sockets and buffers take besides may be more: the rest is written when the disk goes on.
    let mut writer = tokio::spawn(async move {
        for _ in 0..40 {
            client.put_publish("q", &body);
            client.flush().await;
        }
        client
    });
    assert_eq!(until(&server, "flow").await, Some("what it published waits to be on disk"));
    assert!(timeout(Duration::from_millis(300), &mut writer).await.is_err(), "it cannot go on meanwhile");
    disk.hold(false);
    let mut client = writer.await.expect("no panic");
    let mut confirmed = 0;
    while confirmed < 40 {
        let Method::BasicAck(ack) = client.method().await else { panic!("an ack") };
        confirmed = ack.delivery_tag;
    }
    until(&server, "running").await;
    drop(client);
    server.end().await;
}

#[tokio::test]
async fn with_the_disk_nearly_full_who_publishes_is_blocked_with_the_reason_and_who_consumes_goes_on() {
    const RESERVE: u64 = 1 << 30;
    let disk = Slow::new();
    let server = Server::on(Arc::new(disk.clone()), RESERVE, |_| ()).await;
    let mut client = server.channel().await;
    client.declare("q").await;
    let body = Bytes::from_static(b"x");
    client.put_publish("q", &body);
    client.flush().await;
    while client.declare("q").await.0 < 1 {}
    disk.free_bytes.store(RESERVE - 1, Ordering::Relaxed);
    let Method::ConnectionBlocked(blocked) = client.method().await else { panic!("blocked") };
    assert_eq!(blocked.reason, "low on disk");
    assert_eq!(until(&server, "blocked").await, Some("low on disk"));
    let figures = server.registry.figures();
    assert!(figures.contains("waystation_amqp_connections_by_state{state=\"blocked\"} 1\n"), "{figures}");
    // One that only consumes is not blocked.
    let mut consumer = server.channel().await;
    consumer.say(1, basic::Get { queue: "q".into(), no_ack: true, ..Default::default() }).await;
    let Method::BasicGetOk(_) = consumer.method().await else { panic!("get-ok") };
    client.put_publish("q", &body);
    client.flush().await;
    disk.free_bytes.store(RESERVE, Ordering::Relaxed);
    let Method::ConnectionUnblocked(_) = client.method().await else { panic!("unblocked") };
    while client.declare("q").await.0 < 1 {}
    drop((client, consumer));
    server.end().await;
}

/// As much memory in use as one says.
#[derive(Debug, Default)]
struct Said(AtomicU64);

impl Memory for Said {
    fn used_bytes(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }
}

const HIGH: u64 = 1 << 30;

/// A server that may use so much memory, on this disk, of which as much must stay free.
async fn bounded(memory: &Arc<Said>, disk: &Slow) -> Server {
    let bound = Arc::new(MemoryBound::new(memory.clone(), HIGH));
    let open = |options: &mut waystation_host::Options| {
        options.memory = Some(bound);
        options.disk_reserve_bytes = HIGH;
    };
    Server::opened(Arc::new(Loopback), Arc::new(disk.clone()), open, |_| ()).await
}

#[tokio::test]
async fn with_memory_nearly_used_up_who_publishes_is_blocked_with_all_reasons_and_who_consumes_goes_on() {
    let (memory, disk) = (Arc::new(Said::default()), Slow::new());
    let server = bounded(&memory, &disk).await;
    let mut client = server.channel().await;
    client.declare("q").await;
    let body = Bytes::from_static(b"x");
    client.put_publish("q", &body);
    client.flush().await;
    while client.declare("q").await.0 < 1 {}
    memory.0.store(HIGH, Ordering::Relaxed);
    let Method::ConnectionBlocked(blocked) = client.method().await else { panic!("blocked") };
    assert_eq!(blocked.reason, "low on memory");
    assert_eq!(until(&server, "blocked").await, Some("low on memory"));
    disk.free_bytes.store(HIGH - 1, Ordering::Relaxed);
    while state(&server).1 != Some("low on memory & disk") {
        sleep(Duration::from_millis(10)).await;
    }
    // One that comes now is told all of it when it publishes, and not before.
    let mut consumer = server.channel().await;
    consumer.say(1, basic::Get { queue: "q".into(), no_ack: true, ..Default::default() }).await;
    let Method::BasicGetOk(_) = consumer.method().await else { panic!("get-ok") };
    consumer.put_publish("q", &body);
    consumer.flush().await;
    let Method::ConnectionBlocked(blocked) = consumer.method().await else { panic!("blocked") };
    assert_eq!(blocked.reason, "low on memory & disk");
    memory.0.store(0, Ordering::Relaxed);
    while state(&server).1 != Some("low on disk") {
        sleep(Duration::from_millis(10)).await;
    }
    disk.free_bytes.store(HIGH, Ordering::Relaxed);
    for client in [&mut client, &mut consumer] {
        let Method::ConnectionUnblocked(_) = client.method().await else { panic!("unblocked") };
    }
    while client.declare("q").await.0 < 1 {}
    drop((client, consumer));
    server.end().await;
}

#[tokio::test]
async fn who_is_blocked_and_stops_publishing_acknowledges_and_closes_at_once() {
    let (memory, disk) = (Arc::new(Said::default()), Slow::new());
    let server = bounded(&memory, &disk).await;
    let mut client = server.channel().await;
    client.declare("q").await;
    client.put_publish("q", &Bytes::from_static(b"x"));
    client.flush().await;
    while client.declare("q").await.0 < 1 {}
    memory.0.store(HIGH, Ordering::Relaxed);
    let Method::ConnectionBlocked(_) = client.method().await else { panic!("blocked") };
    client.say(1, basic::Get { queue: "q".into(), ..Default::default() }).await;
    let Method::BasicGetOk(got) = client.method().await else { panic!("get-ok") };
    client.say(1, basic::Ack { delivery_tag: got.delivery_tag, multiple: false }).await;
    client.say(1, channel::Close::default()).await;
    let Method::ChannelCloseOk(_) = client.method().await else { panic!("the channel closes") };
    client.say(0, connection::Close::default()).await;
    let Method::ConnectionCloseOk(_) = client.method().await else { panic!("the connection closes") };
    let mut other = server.channel().await;
    assert_eq!(other.declare("q").await.0, 0, "it was acknowledged");
    drop((client, other));
    server.end().await;
}

#[tokio::test]
async fn what_comes_after_a_message_that_is_held_back_waits_until_there_is_room() {
    let (memory, disk) = (Arc::new(Said::default()), Slow::new());
    let server = bounded(&memory, &disk).await;
    memory.0.store(HIGH, Ordering::Relaxed);
    let mut client = server.channel().await;
    client.declare("q").await;
    client.say(1, confirm::Select::default()).await;
    let Method::ConfirmSelectOk(_) = client.method().await else { panic!("select-ok") };
    let refused = async {
        // Before the door has looked the broker refuses what it is handed.
        loop {
            client.put_publish("q", &Bytes::from_static(b"x"));
            client.flush().await;
            match client.method().await {
                Method::ConnectionBlocked(_) => return,
                Method::BasicNack(_) | Method::BasicAck(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("blocked");
    client.put_publish("q", &Bytes::from_static(b"x"));
    client.flush().await;
    until(&server, "blocked").await;
    client.say(0, connection::Close::default()).await;
    // As with RabbitMQ: a client that has published on closes by its own time limit.
    assert!(timeout(Duration::from_millis(300), client.method()).await.is_err(), "nothing is read");
    memory.0.store(0, Ordering::Relaxed);
    let closed = async { while !matches!(client.method().await, Method::ConnectionCloseOk(_)) {} };
    timeout(PATIENCE, closed).await.expect("the rest is read");
    drop(client);
    server.end().await;
}
