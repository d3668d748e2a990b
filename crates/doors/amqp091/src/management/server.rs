//! How do connections become requests, and how does it all end?

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, Uri},
    response::IntoResponse,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tower::Service as _;
use waystation_base::Clock;
use waystation_catalog::Catalog;
use waystation_host::Broker;
use waystation_net::{Drain, Listener, Permits, Stream, Timed, Times};

use super::{
    desk::{BUFFERED_BYTES_MAX, Desk, Endpoint, Peer},
    failure::Failure,
};

use crate::Registry;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// Requests worked on at a time: a list of everything is a large thing.
const REQUESTS_MAX: usize = 16;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For requests under way when the server shuts down.
const LAST: Duration = Duration::from_secs(5);
/// For a client that does nothing, is slow with a head, or takes nothing.
const TIMES: Times =
    Times { idle: Duration::from_secs(120), head: Duration::from_secs(15), write: Duration::from_secs(60) };

/// What the interface is built from.
#[derive(Clone)]
pub struct Options {
    /// The broker behind it.
    pub broker: Broker,
    /// Users, virtual hosts, policies.
    pub catalog: Catalog,
    /// The live connections of the door.
    pub registry: Arc<Registry>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// When it begins, nothing more is accepted and what is open is finished.
    pub drain: Drain,
    /// This program's version.
    pub version: &'static str,
    /// Every address that the server listens on.
    pub endpoints: Vec<Endpoint>,
}

/// What a connection needs to be served.
#[derive(Clone)]
struct Office {
    router: Router,
    requests: Permits,
    drain: Drain,
}

/// What all requests share.
pub(super) fn desk(options: Options) -> Arc<Desk> {
    let Options { broker, catalog, registry, clock, drain: _, version, endpoints } = options;
    let started = clock.now();
    let buffered = Permits::new(BUFFERED_BYTES_MAX / 1024);
    Arc::new(Desk { broker, catalog, registry, clock, started, version, endpoints, buffered })
}

/// Serves until the drain has begun and what is open has ended.
pub async fn serve(listener: Listener, options: Options) {
    let drain = options.drain.clone();
    let desk = desk(options);
    let office =
        Office { router: super::router(desk), requests: Permits::new(REQUESTS_MAX), drain: drain.clone() };
    let permits = Permits::new(CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => break,
            (stream, peer) = listener.accept() => {
                // At the bound a connection is closed at once.
                let Some(permit) = permits.take() else { continue };
                let (tls, office) = (listener.tls().cloned(), office.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    if let Some(stream) = open(stream, peer, tls).await {
                        connection(office, stream, peer).await;
                    }
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(LAST, all_ended).await.is_err() {
        connections.shutdown().await;
    }
}

async fn open(stream: TcpStream, peer: SocketAddr, tls: Option<waystation_net::Tls>) -> Option<Stream> {
    let Some(tls) = tls else { return Some(Stream::Plain(stream)) };
    match tls.handshake(stream, HANDSHAKE).await {
        Ok(stream) => Some(Stream::Tls(Box::new(stream))),
        Err(error) => {
            tracing::debug!(%peer, %error, "no TLS");
            None
        }
    }
}

async fn connection(office: Office, stream: Stream, peer: SocketAddr) {
    let timed = Timed::new(stream, TIMES);
    let pace = timed.pace();
    let drain = office.drain.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        pace.busy();
        let (office, pace) = (office.clone(), pace.clone());
        async move {
            let response = answer(office, request, peer).await;
            pace.idle();
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(timed), service);
    let mut connection = std::pin::pin!(connection);
    let mut is_draining = drain.has_begun();
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "a connection ended");
                }
                return;
            }
            () = drain.begun(), if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(office: Office, request: Request<Incoming>, peer: SocketAddr) -> axum::response::Response {
    let Some(_permit) = office.requests.take() else {
        return Failure::busy(format!("{REQUESTS_MAX} requests are being worked on")).into_response();
    };
    let mut request = request.map(Body::new);
    if let Some(uri) = without_slash(request.uri()) {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(Peer(peer));
    let mut router = office.router;
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The same address without the slash at the end of its path: RabbitMQ's tools write either.
fn without_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/').filter(|path| !path.is_empty())?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{path}{query}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_is_not_part_of_an_address() {
        let check = |from: &str, to: Option<&str>| {
            let uri = without_slash(&from.parse().expect("an address"));
            assert_eq!(uri.map(|uri| uri.to_string()).as_deref(), to, "{from}");
        };
        check("/api/users/", Some("/api/users"));
        check("/api/queues/%2F/?page=1", Some("/api/queues/%2F?page=1"));
        check("/api/queues/a%2F", None);
        check("/api/users", None);
        check("/", None);
    }
}
