//! The same beside the threads that serve requests: a body of many MiB takes as long as thousands of small ones, and all others would
//! wait for it.

use bytes::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{Error, from_json, to_json};

/// Bytes up to which a body is brought to another form at once: that takes no longer than a few requests.
pub const INLINE_BYTES_MAX: usize = 64 << 10;
/// Larger bodies that are worked on at a time: each takes a thread, and several times its own room.
pub const CONVERSIONS_MAX: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(CONVERSIONS_MAX);

/// [`to_json`], beside the runtime's own threads if the body is large.
pub async fn read(content_type: Option<&str>, body: &Bytes) -> Result<Bytes, Error> {
    convert(to_json, content_type, body).await
}

/// [`from_json`], beside the runtime's own threads if the JSON is large.
pub async fn write(content_type: Option<&str>, json: &Bytes) -> Result<Bytes, Error> {
    convert(from_json, content_type, json).await
}

async fn convert(
    how: fn(Option<&str>, &[u8]) -> Result<Bytes, Error>,
    content_type: Option<&str>,
    body: &Bytes,
) -> Result<Bytes, Error> {
    if body.len() <= INLINE_BYTES_MAX {
        return how(content_type, body);
    }
    // It is never closed.
    let _turn = TURNS.acquire().await;
    let (content_type, body) = (content_type.map(str::to_owned), body.clone());
    match spawn_blocking(move || how(content_type.as_deref(), &body)).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends, and with it who waits.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    /// A body of plain text, and whether it is done with at once.
    fn is_inline(bytes: usize) -> bool {
        let body = Bytes::from(vec![b'a'; bytes]);
        let conversion = pin!(read(Some("text/plain"), &body));
        conversion.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn bodies_past_inline_bytes_max_are_handed_over_and_come_back_the_same() {
        assert!(is_inline(INLINE_BYTES_MAX));
        assert!(!is_inline(INLINE_BYTES_MAX + 1));
        let body = Bytes::from(vec![b'a'; INLINE_BYTES_MAX + 1]);
        let json = read(Some("text/plain"), &body).await.expect("text");
        assert_eq!(json, to_json(Some("text/plain"), &body).expect("text"));
        assert_eq!(write(Some("text/plain"), &json).await.expect("text"), body);
        assert!(read(Some("application/xml"), &body).await.is_err());
    }
}
