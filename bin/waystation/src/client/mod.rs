//! How do the client commands talk to the server?

pub mod problem;

use std::{fs, time::Duration};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, header};
use serde::{Serialize, de::DeserializeOwned};
use waystation_base::{Name, name};
use waystation_broker::{Kind, spec::Spec, view};
use waystation_http::api::{AnyRoute, Bindings, Declaration, List, Removed, Status, media};
use waystation_routes::RouteStepsInfo;

use crate::{
    args::ServerAddress,
    exit::{Exit, Failure},
};

/// Names asked for with one request of a list.
const PAGE: usize = 1000;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The server, as the client commands see it.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// Anything that is listed.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Info {
    /// A queue.
    Queue(view::QueueInfo),
    /// A topic.
    Topic(view::TopicInfo),
    /// A subscription.
    Subscription(view::SubscriptionInfo),
    /// A route with bindings.
    Route(view::RouteInfo),
    /// A route with steps.
    Steps(RouteStepsInfo),
}

impl From<AnyRoute> for Info {
    fn from(route: AnyRoute) -> Info {
        match route {
            AnyRoute::Steps(info) => Info::Steps(*info),
            AnyRoute::Bindings(info) => Info::Route(*info),
        }
    }
}

/// The path of a kind.
pub fn collection(kind: Kind) -> &'static str {
    waystation_admin::topology::table(kind)
}

impl Client {
    /// Prepares to talk to the server; nothing is sent yet.
    pub fn new(address: &ServerAddress) -> Result<Client, Failure> {
        let base = address.server.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(Failure::usage(format!("'{base}' is not a server's address"))
                .advise("write it like http://127.0.0.1:7400 or https://broker.example:7400"));
        }
        waystation_net::tls::install_provider();
        let mut builder = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT);
        if let Some(path) = &address.ca {
            let wrong =
                |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
            let pem = fs::read(path).map_err(|error| wrong(&error))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(path) = &address.cert {
            let wrong =
                |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
            let pem = fs::read(path).map_err(|error| wrong(&error))?;
            builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(|error| wrong(&error))?);
        }
        let http = builder.build().map_err(|error| Failure::new(Exit::Failure, problem::chain(&error)))?;
        Ok(Client { http, base, token: address.token.clone() })
    }

    /// The server's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to a path, with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request; anything but success is a failure that says why.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| problem::unreachable(&self.base, &error))?;
        if response.status().is_success() { Ok(response) } else { Err(problem::refusal(response).await) }
    }

    /// The JSON of an answer.
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let bytes = self.bytes(request).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Exit::Failure, format!("the answer of {} cannot be understood: {error}", self.base))
                .advise("is it a Waystation server of the same version?")
        })
    }

    async fn bytes(&self, request: RequestBuilder) -> Result<Bytes, Failure> {
        let response = self.send(request).await?;
        response.bytes().await.map_err(|error| problem::unreachable(&self.base, &error))
    }

    /// The server as it is now.
    pub async fn status(&self) -> Result<Status, Failure> {
        self.json(self.request(Method::GET, "/v1/status")).await
    }

    /// One thing as it is now.
    pub async fn show(&self, kind: Kind, name: &str) -> Result<Info, Failure> {
        let request = self.request(Method::GET, &path(kind, name));
        Ok(match kind {
            Kind::Queue => Info::Queue(self.json(request).await?),
            Kind::Topic => Info::Topic(self.json(request).await?),
            Kind::Subscription => Info::Subscription(self.json(request).await?),
            Kind::Route => self.json::<AnyRoute>(request).await?.into(),
        })
    }

    /// All things of a kind whose names match, in order.
    pub async fn list(&self, kind: Kind, pattern: Option<&str>) -> Result<Vec<Info>, Failure> {
        Ok(match kind {
            Kind::Queue => self.pages(kind).await?.into_iter().map(Info::Queue).collect::<Vec<_>>(),
            Kind::Topic => self.pages(kind).await?.into_iter().map(Info::Topic).collect(),
            Kind::Subscription => self.pages(kind).await?.into_iter().map(Info::Subscription).collect(),
            Kind::Route => self.pages::<AnyRoute>(kind).await?.into_iter().map(Info::from).collect(),
        }
        .into_iter()
        .filter(|info| pattern.is_none_or(|pattern| name::matches(pattern, info.name().as_str())))
        .collect())
    }

    async fn pages<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<T>, Failure> {
        self.all(&format!("/v1/{}", collection(kind))).await
    }

    /// All that is listed under a path, page by page.
    pub async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let request = self.request(Method::GET, path);
            let request = request.query(&[("limit", PAGE.to_string())]);
            let request = match &after {
                Some(name) => request.query(&[("after", name)]),
                None => request,
            };
            let page: List<T> = self.json(request).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Declares it as given, or leaves it alone if it is there just so.
    pub async fn declare(
        &self,
        kind: Kind,
        name: &str,
        fields: &impl Serialize,
    ) -> Result<Declaration, Failure> {
        self.json(self.request(Method::PUT, &path(kind, name)).json(fields)).await
    }

    /// Changes the given fields.
    pub async fn change(
        &self,
        kind: Kind,
        name: &str,
        fields: &impl Serialize,
    ) -> Result<Declaration, Failure> {
        self.json(self.request(Method::PATCH, &path(kind, name)).json(fields)).await
    }

    /// Deletes it with what it holds.
    pub async fn delete(
        &self,
        kind: Kind,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<Removed, Failure> {
        let request = self.request(Method::DELETE, &path(kind, name));
        let request = if if_unused { request.query(&[("if_unused", "true")]) } else { request };
        let request = if if_empty { request.query(&[("if_empty", "true")]) } else { request };
        self.json(request).await
    }

    /// What a route hands on to.
    pub async fn bindings(&self, route: &str) -> Result<Bindings, Failure> {
        self.json(self.request(Method::GET, &format!("{}/bindings", path(Kind::Route, route)))).await
    }

    /// Sends a JSON body to `/v1/<kind>s/<name>/<what>`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.json(self.request(Method::POST, &format!("{}/{what}", path(kind, name))).json(body)).await
    }

    /// A request that publishes lines of messages and is told of their progress.
    pub fn publish(
        &self,
        kind: Kind,
        name: &str,
        partition: Option<u32>,
        routing_key: Option<&str>,
    ) -> RequestBuilder {
        let request = self.request(Method::POST, &format!("{}/messages", path(kind, name)));
        let request =
            request.header(header::CONTENT_TYPE, media::NDJSON).header(header::ACCEPT, media::NDJSON);
        let request = match partition {
            Some(partition) => request.query(&[("partition", partition)]),
            None => request,
        };
        match routing_key {
            Some(key) => request.query(&[("key", key)]),
            None => request,
        }
    }

    /// Which of the kinds has something of that name; asked in this order.
    pub async fn kind_of(&self, name: &str, said: Option<&str>, kinds: &[Kind]) -> Result<Kind, Failure> {
        let wrong = |error| Failure::usage(format!("'{name}': {error}"));
        if name == name::CALL_REPLIES && kinds.contains(&Kind::Route) {
            // What may be published to may be this queue.
            return Ok(Kind::Queue);
        }
        // Some of Waystation's own are topics and some are queues.
        let checked = if name.starts_with('$') { Name::reserved(name) } else { Name::new(name) };
        checked.map_err(wrong)?;
        if let Some(kind) = kinds.iter().find(|kind| said == Some(&kind.to_string())) {
            return Ok(*kind);
        }
        for kind in kinds {
            match self.show(*kind, name).await {
                Ok(_) => return Ok(*kind),
                Err(failure) if failure.exit == Exit::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
        let words: Vec<String> = kinds.iter().map(Kind::to_string).collect();
        Err(Failure::new(Exit::NotFound, format!("there is no {} '{name}'", words.join(" and no "))).advise(
            format!(
                "`waystation {} create {name}` makes one; `waystation status` lists what is there",
                words[0]
            ),
        ))
    }
}

impl Info {
    /// Its name.
    pub fn name(&self) -> &Name {
        match self {
            Info::Queue(info) => &info.name,
            Info::Topic(info) => &info.name,
            Info::Subscription(info) => &info.name,
            Info::Route(info) => &info.name,
            Info::Steps(info) => &info.name,
        }
    }

    /// How it is declared, if the broker knows it; routes with steps are above it.
    pub fn spec(&self) -> Option<Spec> {
        Some(match self {
            Info::Queue(info) => Spec::Queue(info.spec.clone()),
            Info::Topic(info) => Spec::Topic(info.spec.clone()),
            Info::Subscription(info) => Spec::Subscription(info.spec.clone()),
            Info::Route(info) => Spec::Route(info.spec.clone()),
            Info::Steps(_) => return None,
        })
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.spec().map_or(Kind::Route, |spec| spec.kind())
    }
}

/// `/v1/<kind>s/<name>`.
pub fn path(kind: Kind, name: &str) -> String {
    segments(&["v1", collection(kind), name])
}

/// A path of these segments, each in percent-encoding (RFC 3986 §2.1).
pub fn segments(all: &[&str]) -> String {
    let mut path = String::new();
    for segment in all {
        path.push('/');
        for byte in segment.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => path.push(byte.into()),
                _ => path += &format!("%{byte:02X}"),
            }
        }
    }
    path
}

/// Runs a client command to its end on this thread.
pub fn run<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(path(Kind::Queue, "a/b:1.x_-"), "/v1/queues/a%2Fb%3A1.x_-");
        assert_eq!(path(Kind::Subscription, "ä?"), "/v1/subscriptions/%C3%A4%3F");
    }

    #[test]
    fn an_address_without_scheme_is_refused_with_an_example() {
        let address = ServerAddress { server: "localhost:7400".into(), token: None, ca: None, cert: None };
        let failure = Client::new(&address).expect_err("refused");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.advice.expect("advice").contains("http://127.0.0.1:7400"));
    }
}
