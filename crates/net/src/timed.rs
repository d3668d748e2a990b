//! For how long may a peer keep a connection waiting? A slow or silent one is cut off and harms nobody else.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two requests, and before the first one.
    pub idle: Duration,
    /// From the first byte of a request's head to its last, however the bytes trickle.
    pub head: Duration,
    /// For a peer that takes no byte of what is written to it.
    pub write: Duration,
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// Where a connection is; the protocol above tells, the stream below keeps the time.
#[derive(Clone, Debug, Default)]
pub struct Pace(Arc<AtomicU8>);

impl Pace {
    /// A request is being worked on: its own limits hold, reading has none here.
    pub fn busy(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// The next request is awaited.
    pub fn idle(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    /// Whether part of a request's head has come and not all of it.
    pub fn is_in_head(&self) -> bool {
        self.0.load(Ordering::Relaxed) == HEAD
    }

    fn began(&self) -> bool {
        self.0.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == IDLE
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed) == BUSY
    }
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] past its [`Times`].
#[derive(Debug)]
pub struct Timed<S> {
    stream: S,
    times: Times,
    pace: Pace,
    read: Deadline,
    /// Whether `read` runs for the head rather than for idleness.
    read_is_head: bool,
    write: Deadline,
}

/// A moment that is armed when a wait begins and put off when it ends.
#[derive(Debug, Default)]
struct Deadline {
    armed: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn arm(&mut self, after: Duration) {
        let at = Instant::now() + after;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
        self.armed = true;
    }

    /// Arms it if it is not, and says whether the moment has come.
    fn has_come(&mut self, after: Duration, cx: &mut Context<'_>) -> bool {
        if !self.armed {
            self.arm(after);
        }
        self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }
}

impl<S> Timed<S> {
    /// Puts time limits on a stream.
    pub fn new(stream: S, times: Times) -> Timed<S> {
        let (read, write) = (Deadline::default(), Deadline::default());
        Timed { stream, times, pace: Pace::default(), read, read_is_head: false, write }
    }

    /// To tell where the connection is.
    pub fn pace(&self) -> Pace {
        self.pace.clone()
    }

    /// The stream below.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// The moment by which the present wait for bytes must end, if there is one.
    fn read_has_timed_out(&mut self, cx: &mut Context<'_>) -> bool {
        if self.pace.is_busy() {
            self.read.armed = false;
            return false;
        }
        let is_head = !self.pace.is_idle();
        if is_head != self.read_is_head {
            self.read.armed = false;
            self.read_is_head = is_head;
        }
        let after = if is_head { self.times.head } else { self.times.idle };
        self.read.has_come(after, cx)
    }
}

fn timed_out<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                // The head's time runs on while it trickles in; only idleness ends with a byte.
                if this.pace.began() {
                    this.read_is_head = true;
                    this.read.arm(this.times.head);
                }
                Poll::Ready(read)
            }
            Poll::Pending if this.read_has_timed_out(cx) => timed_out(),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> Timed<S> {
    fn written<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match done {
            Poll::Pending if self.write.has_come(self.times.write, cx) => timed_out(),
            Poll::Pending => Poll::Pending,
            ready => {
                self.write.armed = false;
                ready
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const TIMES: Times = Times {
        idle: Duration::from_secs(60),
        head: Duration::from_secs(10),
        write: Duration::from_secs(20),
    };

    fn pair() -> (DuplexStream, Timed<DuplexStream>) {
        let (client, server) = duplex(16);
        (client, Timed::new(server, TIMES))
    }

    async fn read_error(timed: &mut Timed<DuplexStream>) -> io::ErrorKind {
        loop {
            if let Err(error) = timed.read(&mut [0; 8]).await {
                return error.kind();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_at_its_idle_limit() {
        let (_client, mut timed) = pair();
        let begun = Instant::now();
        assert_eq!(read_error(&mut timed).await, io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), TIMES.idle.as_secs());
        assert!(!timed.pace().is_in_head());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_ends_at_the_head_limit_from_its_first_byte() {
        let (mut client, mut timed) = pair();
        let trickle = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        });
        let begun = Instant::now();
        assert_eq!(read_error(&mut timed).await, io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), TIMES.head.as_secs());
        assert!(timed.pace().is_in_head());
        drop(timed);
        trickle.await.expect("the client ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_may_be_silent_and_is_timed_again_when_idle() {
        let (mut client, mut timed) = pair();
        client.write_all(b"x").await.expect("room");
        assert_eq!(timed.read(&mut [0; 8]).await.expect("a byte"), 1);
        let pace = timed.pace();
        pace.busy();
        let long = tokio::time::timeout(TIMES.idle * 3, timed.read(&mut [0; 8])).await;
        assert!(long.is_err(), "no limit of the stream's own while busy");
        pace.idle();
        assert_eq!(read_error(&mut timed).await, io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_ends_at_the_write_limit() {
        let (_client, mut timed) = pair();
        let begun = Instant::now();
        let error = timed.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), TIMES.write.as_secs());
    }
}
