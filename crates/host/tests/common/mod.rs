//! What the tests of the host share: a broker that runs beside the test, crashes on demand, and short words for messages.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};
use waystation_base::{
    Clock, Message, MessageId, Millis, Name,
    disk::{Disk, File, LockError},
    memory::Memory,
    os::{OsClock, OsDisk},
};
use waystation_broker::{
    SessionId, Source,
    command::{Outcome, Settlement},
    spec::{QueueSpec, Spec, SubscriptionSpec, TopicSpec},
};
use waystation_host::{Broker, Delivery, Driver, Failure, Options, Recovery, open};

/// A broker under way.
pub struct Running {
    pub broker: Broker,
    pub recovery: Recovery,
    stop: Option<oneshot::Sender<()>>,
    driver: JoinHandle<Result<(), Failure>>,
}

pub fn start_on(disk: Arc<dyn Disk>, options: Options) -> Running {
    start_by(Arc::new(OsClock), disk, options)
}

pub fn start_by(clock: Arc<dyn Clock>, disk: Arc<dyn Disk>, options: Options) -> Running {
    let (broker, driver, recovery) = open(options, disk, clock).expect("opened");
    run(broker, driver, recovery)
}

fn run(broker: Broker, driver: Driver, recovery: Recovery) -> Running {
    let (stop, stopped) = oneshot::channel();
    let driver = tokio::spawn(driver.run(async {
        if stopped.await.is_err() {
            std::future::pending().await
        }
    }));
    Running { broker, recovery, stop: Some(stop), driver }
}

pub fn start(options: Options) -> Running {
    start_on(Arc::new(OsDisk), options)
}

impl Running {
    pub async fn stop(mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.driver.await.expect("no panic").expect("stopped in good order");
    }

    /// What the driver ended with by itself.
    pub async fn ended(self) -> Result<(), Failure> {
        self.driver.await.expect("no panic")
    }

    /// Ends the driver without any farewell. Its threads go with it.
    pub async fn abort(self) {
        self.driver.abort();
        let _ = self.driver.await;
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub fn queue(text: &str) -> Source {
    Source::Queue(name(text))
}

pub fn message(text: impl Into<String>) -> Message {
    static IDS: AtomicU64 = AtomicU64::new(1);
    let random = u128::from(IDS.fetch_add(1, Ordering::Relaxed)) << 64;
    let now = OsClock.now();
    Message::new(MessageId::new(now, random), now, text.into())
}

pub fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).expect("text")
}

pub async fn declare(broker: &Broker, text: &str, spec: Spec) {
    broker.declare(name(text), spec, false, SessionId::default()).await.expect("declared");
}

pub async fn declare_queue(broker: &Broker, text: &str) {
    declare(broker, text, Spec::Queue(QueueSpec::default())).await;
}

pub async fn declare_topic(broker: &Broker, text: &str, spec: TopicSpec) {
    declare(broker, text, Spec::Topic(spec)).await;
}

pub async fn declare_subscription(broker: &Broker, text: &str, spec: SubscriptionSpec) {
    declare(broker, text, Spec::Subscription(spec)).await;
}

pub async fn publish(broker: &Broker, address: &str, texts: impl IntoIterator<Item = String>) {
    let messages = texts.into_iter().map(message).collect();
    broker.publish(name(address), messages).await.expect("published");
}

/// Takes what is there, up to `max`, waiting a little for the first.
pub async fn receive(broker: &Broker, source: Source, max: u32) -> Vec<Delivery> {
    broker.receive(source, max, Duration::from_secs(2), None, OsClock.now()).await.expect("received")
}

/// Takes and accepts everything, in pieces.
pub async fn drain(broker: &Broker, source: Source) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let wait = Duration::from_millis(300);
        let some = broker.receive(source.clone(), 500, wait, None, OsClock.now()).await.expect("received");
        if some.is_empty() {
            return texts;
        }
        accept(broker, source.clone(), &some).await;
        texts.extend(some.iter().map(text));
    }
}

/// Accepts messages in one request.
pub async fn accept(broker: &Broker, source: Source, deliveries: &[Delivery]) {
    let accepted = |delivery: &Delivery| Settlement {
        tag: delivery.tag,
        attempt: delivery.attempt,
        outcome: Outcome::Accepted,
    };
    broker.settle(source, deliveries.iter().map(accepted).collect()).await.expect("accepted");
}

/// Waits until something holds, for a minute at most.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..6000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come about");
}

/// Copies a data directory as it is now, as a crash would leave it if everything written were kept.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy_dir(&entry.path(), &target),
            // A file may go while we look.
            false => _ = fs::copy(entry.path(), target),
        }
    }
}

/// The real clock, set forward.
#[derive(Default)]
pub struct AheadClock(pub AtomicU64);

impl Clock for AheadClock {
    fn now(&self) -> Millis {
        OsClock.now().plus(self.0.load(Ordering::Relaxed))
    }
}

/// As much memory in use as one says.
#[derive(Debug, Default)]
pub struct SaidMemory {
    pub used_bytes: AtomicU64,
    /// How often it was asked to give back what it can.
    pub asked: AtomicU64,
}

impl Memory for SaidMemory {
    fn used_bytes(&self) -> io::Result<u64> {
        Ok(self.used_bytes.load(Ordering::Relaxed))
    }

    fn give_back(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// The real disk with faults that can be switched on.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    /// Syncs fail.
    pub no_sync: Arc<AtomicBool>,
    /// What is read is not what was written.
    pub bad_reads: Arc<AtomicBool>,
    /// From this offset of each file on nothing can be read, if not 0.
    pub unreadable_from: Arc<AtomicU64>,
    /// Bytes said to be free, if not 0.
    pub free_bytes: Arc<AtomicU64>,
    /// Bytes that were read.
    pub read_bytes: Arc<AtomicU64>,
}

struct FaultyFile {
    file: Arc<dyn File>,
    disk: FaultyDisk,
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let unreadable_from = self.disk.unreadable_from.load(Ordering::Relaxed);
        if unreadable_from > 0 && offset + buffer.len() as u64 > unreadable_from {
            return Err(io::Error::other("the sector is bad"));
        }
        let read = self.file.read_at(buffer, offset)?;
        self.disk.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        if self.disk.bad_reads.load(Ordering::Relaxed) {
            // In the middle of each page, where bodies are.
            buffer[..read].iter_mut().skip(2048).step_by(4096).for_each(|byte| *byte ^= 1);
        }
        Ok(read)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        match self.disk.no_sync.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the disk is on fire")),
            false => self.file.sync_data(),
        }
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        OsDisk.create_dir_all(dir)
    }
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultyFile { file: OsDisk.open(path, create)?, disk: self.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
        OsDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        match self.free_bytes.load(Ordering::Relaxed) {
            0 => OsDisk.free_bytes(dir),
            free => Ok(free),
        }
    }
    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        OsDisk.lock(path, owner)
    }
}
