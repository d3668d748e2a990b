//! How do connections become requests, and how does it all end?

use std::{
    convert::Infallible, error::Error as _, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Response, header},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tower::Service as _;
use waystation_access::GUEST;
use waystation_alerts::Alerts;
use waystation_base::Clock;
use waystation_broker::Refusal;
use waystation_calls::Calls;
use waystation_catalog::Catalog;
use waystation_host::Broker;
use waystation_net::{Drain, Listener, Pace, Stream, Timed};
use waystation_redrive::Redrives;
use waystation_routes::Routes;
use waystation_webhooks::{Pushes, push::Callbacks};

use crate::{
    Definitions, Open, adapter,
    api::media,
    auth::{self, Caller},
    door::{Counts, Door},
    failure::{self, Failure, Kind},
    limits::{HEAD_BYTES_MAX, HEADERS_MAX, Limits},
};

/// Bytes of a request that are read and thrown away after an early answer, so that the client comes to read the answer.
const LINGER_BYTES_MAX: usize = 64 << 20;
/// For how long.
const LINGER: Duration = Duration::from_secs(2);
/// How often certificate files are looked at for change.
const TLS_WATCH: Duration = Duration::from_secs(30);

/// What the door is built from.
pub struct Options {
    /// The broker behind it.
    pub broker: Broker,
    /// The asynchronous calls; their engine runs beside.
    pub calls: Calls,
    /// Tokens, users, virtual hosts and policies. Keep a clone of its users to replace the tokens.
    pub catalog: Catalog,
    /// Whoever speaks RabbitMQ's definitions, if anybody does.
    pub definitions: Option<Arc<dyn Definitions>>,
    /// Whether callers by loopback need a token like everybody else.
    pub loopback_needs_token: bool,
    /// The bounds.
    pub limits: Limits,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// When it begins, the door stops accepting, finishes what is open and closes.
    pub drain: Drain,
    /// Figures of others, shown with this door's own.
    pub figures: Vec<Figures>,
    /// What is open at the doors whose connections last.
    pub open: Opened,
    /// Deliveries to endpoints.
    pub pushes: Pushes,
    /// Callbacks of calls.
    pub callbacks: Callbacks,
    /// Dead letters and what brings them back.
    pub redrives: Redrives,
    /// Routes with steps.
    pub routes: Routes,
    /// What is wrong.
    pub alerts: Alerts,
}

/// Figures in Prometheus' text format, each with its help and type.
pub type Figures = Arc<dyn Fn() -> String + Send + Sync>;

/// Counts what is open.
pub type Opened = Arc<dyn Fn() -> Open + Send + Sync>;

/// A server that cannot start as configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Everybody could do everything.
    #[error(
        "{0} can be reached from other machines, and no token is configured: configure tokens, or listen on loopback"
    )]
    Open(SocketAddr),
    /// A listener without an address.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The users cannot be read.
    #[error(transparent)]
    Users(#[from] Refusal),
}

/// Serves until the drain has begun and every connection has ended, or its time is over.
pub async fn serve(listeners: Vec<Listener>, options: Options) -> Result<(), Error> {
    let Options {
        broker,
        calls,
        catalog,
        definitions,
        loopback_needs_token,
        limits,
        clock,
        drain,
        figures,
        open,
        pushes,
        callbacks,
        redrives,
        routes,
        alerts,
    } = options;
    catalog.load(&broker).await?;
    let access = catalog.access();
    for listener in &listeners {
        if !listener.is_loopback() && access.is_empty() {
            return Err(Error::Open(listener.address()?));
        }
    }
    let door = Door::new(
        broker,
        calls,
        catalog,
        definitions,
        limits,
        drain,
        clock,
        figures,
        open,
        pushes,
        callbacks,
        redrives,
        routes,
        alerts,
    );
    let door = Arc::new(door);
    let router = adapter::router(door.clone());
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let is_open = listener.is_loopback() && !loopback_needs_token;
        let desk = Desk { door: door.clone(), router: router.clone(), is_open, peer: None };
        accepting.spawn(accept(listener, desk));
    }
    while let Some(ended) = accepting.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener failed");
        }
    }
    Ok(())
}

/// What a connection needs to be served.
#[derive(Clone)]
struct Desk {
    door: Arc<Door>,
    router: Router,
    /// Callers need no token.
    is_open: bool,
    /// Where the client is.
    peer: Option<SocketAddr>,
}

/// Accepts until the drain begins, then sees the connections out.
async fn accept(listener: Listener, desk: Desk) {
    let mut connections = JoinSet::new();
    let drain = desk.door.drain.clone();
    let mut watch = tokio::time::interval(TLS_WATCH);
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => break,
            (stream, peer) = listener.accept() => admit(&listener, &desk, &mut connections, stream, peer),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = watch.tick() => watch_tls(&listener),
        }
    }
    drop(listener);
    let time = Duration::from_millis(desk.door.limits.drain_ms);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(time, all_ended).await.is_err() {
        tracing::warn!(open = connections.len(), "closing connections that did not end in time");
        connections.shutdown().await;
    }
}

fn watch_tls(listener: &Listener) {
    match listener.tls().map(waystation_net::Tls::reload_if_changed) {
        Some(Ok(true)) => tracing::info!("certificate files have changed and are in use"),
        Some(Err(error)) => {
            tracing::error!(%error, "changed certificate files cannot be used; the old ones stay in use")
        }
        _ => {}
    }
}

fn admit(
    listener: &Listener,
    desk: &Desk,
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let Some(permit) = desk.door.connections.take() else {
        Counts::add(&desk.door.counts.turned_away, 1);
        if listener.tls().is_none() {
            turn_away(&stream, &desk.door);
        }
        return;
    };
    Counts::add(&desk.door.counts.connections, 1);
    let tls = listener.tls().cloned();
    let desk = Desk { peer: Some(peer), ..desk.clone() };
    connections.spawn(async move {
        let _permit = permit;
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let limit = Duration::from_millis(desk.door.limits.handshake_ms);
                match tls.handshake(stream, limit).await {
                    Ok(stream) => Stream::Tls(Box::new(stream)),
                    Err(error) => return tracing::debug!(%peer, %error, "no TLS"),
                }
            }
        };
        connection(desk, stream).await;
    });
}

/// Tells a client that there is no room, if it can be told without waiting.
fn turn_away(stream: &TcpStream, door: &Door) {
    let detail = format!("{} connections are open", door.connections.max());
    let answer =
        bare_answer(&Failure::new(Kind::Overloaded, detail), "503 Service Unavailable", "retry-after: 1\r\n");
    // What does not fit the socket's buffer now is not waited for.
    let _ = stream.try_write(answer.as_bytes());
}

/// An answer outside of a request.
fn bare_answer(failure: &Failure, status: &str, more: &str) -> String {
    let body = failure::to_json(&failure.0);
    let (kind, length) = (media::PROBLEM, body.len());
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{more}connection: close\r\n\r\n{body}"
    )
}

/// Serves one connection to its end.
async fn connection(desk: Desk, stream: Stream) {
    let door = desk.door.clone();
    let timed = Timed::new(stream, door.limits.times());
    let pace = timed.pace();
    let service = service_fn({
        let pace = pace.clone();
        move |request: Request<Incoming>| -> Pin<Box<dyn Future<Output = _> + Send>> {
            pace.busy();
            let (desk, pace) = (desk.clone(), pace.clone());
            Box::pin(async move { Ok::<_, Infallible>(answer(desk, request, pace).await) })
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(timed), service);
    let mut is_draining = door.drain.has_begun();
    let result = loop {
        tokio::select! {
            biased;
            result = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break result,
            () = door.drain.begun(), if !is_draining => {
                is_draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let mut stream = connection.into_parts().io.into_inner();
    match result {
        Ok(()) => linger(&mut stream).await,
        // A head that trickled in too slowly; silence between requests ends in silence.
        Err(error) if pace.is_in_head() && has_timed_out(&error) => {
            let detail = format!("the head of the request took longer than {} ms", door.limits.head_ms);
            let answer = bare_answer(&Failure::new(Kind::Timeout, detail), "408 Request Timeout", "");
            let _ = stream.write_all(answer.as_bytes()).await;
            linger(&mut stream).await;
        }
        // What cannot be parsed was answered with 400, 414 or 431.
        Err(error) => {
            tracing::debug!(%error, "a connection ended");
            linger(&mut stream).await;
        }
    }
}

/// Whether one of the connection's own time limits ended it.
fn has_timed_out(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Ends a connection so that the client gets to read the answer: a socket closed while bytes come in resets the peer, and
/// the answer is lost to it.
async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let drained = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut scrap = vec![0; 16 << 10];
        let mut read = 0;
        while read < LINGER_BYTES_MAX {
            match stream.read(&mut scrap).await {
                Ok(0) | Err(_) => return,
                Ok(count) => read += count,
            }
        }
    };
    // Past its time the connection is closed, read or not.
    let _ = timeout(LINGER, drained).await;
}

/// One request: who calls, may he, what is answered.
async fn answer(desk: Desk, request: Request<Incoming>, pace: Pace) -> Response<Body> {
    let (door, mut router) = (desk.door.clone(), desk.router.clone());
    let path = request.uri().path().to_owned();
    let mut request = request.map(Body::new);
    let response = match identify(&desk, request.headers(), &path).await {
        Err(failure) => axum::response::IntoResponse::into_response(failure),
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            match router.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    let mut response = failure::render(response, &path);
    let class = usize::from(response.status().as_u16() / 100).clamp(1, 5) - 1;
    Counts::add(&door.counts.answered[class], 1);
    if door.drain.has_begun() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| Body::new(Paced { body, pace }))
}

/// Whether a path may be asked by anybody: what an orchestrator of containers asks.
fn is_public(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz")
}

async fn identify(desk: &Desk, headers: &HeaderMap, path: &str) -> Result<Caller, Failure> {
    let access = desk.door.access();
    if let Some(caller) = auth::caller(access, headers, desk.peer).await? {
        // Everybody knows the guest's password: a web page can send it too.
        if caller.0.name() == Some(GUEST) {
            auth::check_origin(headers)?;
        }
        return Ok(caller);
    }
    if desk.is_open {
        auth::check_origin(headers)?;
        return Ok(Caller(access.local(), desk.peer));
    }
    if is_public(path) {
        return Ok(Caller(access.local(), desk.peer));
    }
    let detail = "send 'Authorization: Bearer' with a token, or 'Basic' with user and password";
    Err(Failure::new(Kind::Unauthenticated, detail))
}

/// A body that tells when it is over: from then on the connection is idle.
struct Paced {
    body: Body,
    pace: Pace,
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.pace.idle();
    }
}

impl http_body::Body for Paced {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
