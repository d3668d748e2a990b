//! Do requests go where they may, carry what they should, and stay within their bounds?

use std::{
    io,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use waystation_base::os::OsClock;

use super::*;
use crate::guard::{Found, Lookup};

/// Gives these answers one after the other, the last one forever.
struct Answers(Mutex<Vec<Vec<&'static str>>>, AtomicUsize);

impl Answers {
    fn new(answers: &[&[&'static str]]) -> Arc<Answers> {
        let answers = answers.iter().rev().map(|answer| answer.to_vec()).collect();
        Arc::new(Answers(Mutex::new(answers), AtomicUsize::new(0)))
    }
}

impl Lookup for Answers {
    fn lookup(&self, _: String) -> Found {
        self.1.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.0.lock().expect("not poisoned");
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        let parse = |text: &&str| SocketAddr::new(text.parse().expect("an address"), 0);
        let found: Vec<SocketAddr> = answer.iter().flatten().map(parse).collect();
        Box::pin(async move { io::Result::Ok(found) })
    }
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Answers every connection's one request with these bytes, and gives what was asked at the end.
async fn receiver(at: &str, answer: impl Into<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind(at).await.expect("an address");
    let (address, answer) = (listener.local_addr().expect("bound"), answer.into());
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        // Quiet for a while: nobody asks any more.
        while let Ok(Ok((mut stream, _))) =
            tokio::time::timeout(Duration::from_millis(700), listener.accept()).await
        {
            let mut text = Vec::new();
            let mut part = [0; 4096];
            while let Ok(length) = stream.read(&mut part).await {
                text.extend_from_slice(&part[..length]);
                if length == 0 || text.ends_with(b"}") {
                    break;
                }
            }
            asked.push(String::from_utf8_lossy(&text).into_owned());
            if answer.is_empty() {
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            let _ = stream.write_all(&answer).await;
        }
        asked
    });
    (address, task)
}

fn sender(rules: &[&str], lookup: Arc<Answers>) -> Sender {
    let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
    Sender::new(Guard::with_lookup("webhooks", rules, true, lookup), Arc::new(OsClock), None)
        .expect("a sender")
}

fn job(url: &str) -> Job {
    Job {
        url: Url::parse(url).expect("a URL"),
        id: "msg_1".into(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"a\":1}"),
        secrets: Arc::new([Secret::parse(SECRET).expect("a secret")]),
        timeout_ms: 5_000,
        body_bytes_max: 7,
        breaking: Breaking { failures: 2, ..Breaking::default() },
        retry: Retry::default(),
        traced: Traced::default(),
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

#[tokio::test]
async fn a_request_is_signed_over_what_is_sent() {
    let (address, asked) = receiver("127.0.0.1:0", OK).await;
    let sent =
        sender(&["127.0.0.1"], Answers::new(&[&[]])).send(&job(&format!("http://{address}/h?x=1"))).await;
    assert_eq!((sent.verdict, sent.status(), sent.cause()), (Verdict::Done, Some(200), None), "{sent:?}");
    let asked = asked.await.expect("no panic").pop().expect("a request");
    let header = |name: &str| {
        let line = asked.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {asked}")).to_owned()
    };
    assert!(asked.starts_with("POST /h?x=1 HTTP/1.1\r\n"), "{asked}");
    let timestamp_s = header("webhook-timestamp").parse().expect("seconds");
    let expected = signature("msg_1", timestamp_s, b"{\"a\":1}", &[Secret::parse(SECRET).expect("a secret")]);
    assert_eq!((header("webhook-id"), header("webhook-signature")), ("msg_1".to_owned(), expected));
}

#[tokio::test]
async fn a_name_that_changes_its_answer_is_asked_once_for_a_connection_and_gains_nothing() {
    let (address, outside) = receiver("127.0.0.2:0", OK).await;
    // Inside, at the same port.
    let (_, inside) = receiver(&format!("127.0.0.1:{}", address.port()), OK).await;
    let answers = Answers::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let sender = sender(&["127.0.0.2"], answers.clone());
    let job = job(&format!("http://rebinding.example:{}/", address.port()));
    assert_eq!(sender.send(&job).await.status(), Some(200));
    assert_eq!(answers.1.load(Ordering::Relaxed), 1, "checked and connected by one answer");
    let second = sender.send(&job).await;
    assert!(matches!(second.result, Err(Failure::Refused(Refusal::Address { .. }))), "{second:?}");
    assert_eq!(outside.await.expect("no panic").len(), 1);
    assert_eq!(inside.await.expect("no panic").len(), 0, "nothing reached the inside");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (inside, asked) = receiver("127.0.0.1:0", OK).await;
    let answer = format!(
        "HTTP/1.1 307 x\r\nlocation: http://{inside}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let (address, _) = receiver("127.0.0.1:0", answer).await;
    let sent = sender(&["127.0.0.1"], Answers::new(&[&[]])).send(&job(&format!("http://{address}/"))).await;
    assert_eq!((sent.status(), sent.verdict), (Some(307), Verdict::Again { retry_after_ms: None }));
    assert!(asked.await.expect("no panic").is_empty());
}

#[tokio::test]
async fn answers_and_requests_stay_within_their_bounds() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(4 * ANSWER_BYTES_MAX));
    let (address, _) = receiver("127.0.0.1:0", endless).await;
    let sender = sender(&["127.0.0.1"], Answers::new(&[&[]]));
    let url = format!("http://{address}/");
    let sent = sender.send(&job(&url)).await;
    assert_eq!(sent.result.expect("an answer").excerpt.len(), EXCERPT_BYTES_MAX);
    let large = Job { body: Bytes::from_static(b"{\"a\":12}"), ..job(&url) };
    let sent = sender.send(&large).await;
    assert_eq!(
        (&sent.result, sent.verdict),
        (&Err(Failure::TooLarge { bytes: 8, limit: 7 }), Verdict::Final)
    );
    let internal = sender.send(&job("http://127.0.0.9/")).await;
    assert!(matches!(internal.result, Err(Failure::Target(Refusal::Address { .. }))), "{internal:?}");
}

#[tokio::test]
async fn a_receiver_that_is_silent_or_absent_is_a_failure_and_suspends_the_endpoint() {
    let (address, _) = receiver("127.0.0.1:0", "").await;
    let sender = sender(&["127.0.0.1"], Answers::new(&[&[]]));
    let silent = Job { timeout_ms: 50, ..job(&format!("http://{address}/")) };
    let sent = sender.send(&silent).await;
    assert_eq!((&sent.result, sent.suspended_until), (&Err(Failure::Timeout), None));
    let absent = job("http://127.0.0.1:1/");
    let sent = sender.send(&absent).await;
    assert!(matches!(sent.result, Err(Failure::Connection(_))), "{sent:?}");
    assert!(sender.send(&absent).await.suspended_until.is_some(), "the second failure suspends it");
    assert_eq!(sender.send(&absent).await.result, Err(Failure::Suspended));
    sender.reset(&absent.endpoint());
    assert_ne!(sender.send(&absent).await.result, Err(Failure::Suspended));
}
