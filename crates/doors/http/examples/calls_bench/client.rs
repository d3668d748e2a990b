//! What does the client send, and when is an answer whole? One request after the other on a kept connection.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Bytes of a request's body.
const BODY_BYTES: usize = 100;

/// What every call carries.
pub fn body() -> String {
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(BODY_BYTES - 11));
    assert_eq!(text.len(), BODY_BYTES, "the body that the figures speak of");
    text
}

/// A call of the operation `op`, with these header fields more.
pub fn call(headers: &str, body: &str) -> Vec<u8> {
    post("/v1/calls/op", &format!("content-type: application/json\r\n{headers}"), body)
}

pub fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A connection that sends one request after the other.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        Client { stream, buffer: Vec::with_capacity(4096) }
    }

    /// Sends a request and gives the body of its answer, which must have this status.
    pub async fn ask(&mut self, request: &[u8], status: &str) -> &[u8] {
        self.stream.write_all(request).await.expect("written");
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.expect("read") > 0, "the server closed");
            if let Some((head, whole)) = whole(&self.buffer) {
                let said = self.buffer.get(9..12).unwrap_or_default();
                assert_eq!(said, status.as_bytes(), "{}", String::from_utf8_lossy(&self.buffer));
                assert_eq!(self.buffer.len(), whole, "one answer at a time");
                return &self.buffer[head..];
            }
        }
    }
}

/// The lengths of the head and of the whole message, when it is there.
pub fn whole(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let length = field(&bytes[..head], b"content-length: ").unwrap_or_default();
    let digits = length.iter().take_while(|byte| byte.is_ascii_digit());
    let body = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    (bytes.len() >= head + body).then_some((head, head + body))
}

/// What follows `name` on its line of a head. The server, and its own client, write names in small letters.
pub fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let from = head.windows(name.len()).position(|part| part == name)? + name.len();
    head[from..].split(|byte| *byte == b'\r').next()
}
