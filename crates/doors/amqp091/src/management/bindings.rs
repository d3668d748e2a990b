//! Bindings: shown by virtual host, by source, by destination and by both; made and removed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use waystation_access::Action;
use waystation_base::vhost;
use waystation_broker::{
    Refusal,
    command::{Bind, Destination},
    view::{Binding, BindingFilter},
};

use super::{
    desk::{Desk, Object, Who},
    failure::Failure,
    gather,
    list::Ask,
    objects::exchange_name,
    show,
};

type Answer = Result<Json<Value>, Failure>;

/// Whether a destination in a path is a queue (`q`) or an exchange (`e`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Queue,
    Exchange,
}

impl Sort {
    fn read(text: &str) -> Result<Sort, Failure> {
        match text {
            "q" => Ok(Sort::Queue),
            "e" => Ok(Sort::Exchange),
            _ => Err(Failure::not_found()),
        }
    }

    fn destination(self, host: &str, name: &str) -> Result<Destination, Failure> {
        let name = gather::address(host, name)?;
        Ok(match self {
            Sort::Queue => Destination::Address(name),
            Sort::Exchange => Destination::Route(name),
        })
    }
}

fn is_shown(who: &Who, host: Option<&str>, binding: &Binding) -> bool {
    let of = vhost::of(binding.route.as_str());
    host.is_none_or(|host| host == of) && who.sees(&of)
}

/// Those that are made, and those to the default exchange, which are there by themselves.
async fn all(who: &Who, host: Option<&str>) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    for found in gather::queues(&who.broker, host).await? {
        let (host, name) = vhost::split(found.name().as_str());
        if who.sees(&host) {
            items.push(show::default_binding(&host, &name));
        }
    }
    let made = who.broker.bindings(BindingFilter::All).await?;
    items.extend(made.iter().filter(|it| is_shown(who, host, it)).map(show::binding));
    let place = |item: &Value| {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        (text("vhost"), text("source"), text("destination"), text("properties_key"))
    };
    items.sort_by_cached_key(place);
    Ok(items)
}

pub(super) async fn bindings(who: Who, ask: Ask) -> Answer {
    ask.apply(all(&who, None).await?).map(Json)
}

pub(super) async fn bindings_of(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
) -> Answer {
    who.see(&desk, &host)?;
    ask.apply(all(&who, Some(&host)).await?).map(Json)
}

pub(super) async fn of_queue(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path((host, name)): Path<(String, String)>,
) -> Answer {
    who.see(&desk, &host)?;
    let found = gather::queue(&who.broker, &host, &name).await?;
    let made = who.broker.bindings(BindingFilter::To(Destination::Address(found.name().clone()))).await?;
    let mut items = vec![show::default_binding(&host, &name)];
    items.extend(made.iter().map(show::binding));
    ask.apply(items).map(Json)
}

/// Those of an exchange as their source or their destination.
pub(super) async fn of_exchange(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path((host, name, side)): Path<(String, String, String)>,
) -> Answer {
    who.see(&desk, &host)?;
    let name = exchange_name(&name);
    if name.is_empty() {
        let items = if side == "source" { all(&who, Some(&host)).await? } else { Vec::new() };
        let of_default = items.into_iter().filter(|item| item["source"] == "").collect();
        return ask.apply(of_default).map(Json);
    }
    let info = gather::exchange(&who.broker, &host, name).await?;
    let filter = match side.as_str() {
        "source" => BindingFilter::Of(info.name),
        "destination" => BindingFilter::To(Destination::Route(info.name)),
        _ => return Err(Failure::not_found()),
    };
    let made = who.broker.bindings(filter).await?;
    ask.apply(made.iter().map(show::binding).collect()).map(Json)
}

/// The bindings between a source and a destination, both of which must be there.
async fn between(who: &Who, host: &str, source: &str, to: &Destination) -> Result<Vec<Binding>, Failure> {
    let Ok(info) = gather::exchange(&who.broker, host, source).await else { return Ok(Vec::new()) };
    let mut made = who.broker.bindings(BindingFilter::Of(info.name)).await?;
    made.retain(|it| it.to == *to);
    Ok(made)
}

type Ends = (String, String, String, String);

pub(super) async fn of_ends(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path((host, source, sort, name)): Path<Ends>,
) -> Answer {
    who.see(&desk, &host)?;
    let (source, sort) = (exchange_name(&source), Sort::read(&sort)?);
    if source.is_empty() && sort == Sort::Queue {
        let is_there = gather::queue(&who.broker, &host, &name).await.is_ok();
        let items = if is_there { vec![show::default_binding(&host, &name)] } else { Vec::new() };
        return ask.apply(items).map(Json);
    }
    let made = between(&who, &host, source, &sort.destination(&host, &name)?).await?;
    ask.apply(made.iter().map(show::binding).collect()).map(Json)
}

/// A key's escapes undone, as far as they are any; what is not escaped may stand as it is.
fn unquote(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped =
            digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Whether a path's last part means this binding: as it is shown, or with the key as it is.
fn is_meant(binding: &Binding, path: &str) -> bool {
    let own = show::properties_key(&binding.key, &binding.arguments);
    let plain =
        binding.arguments.is_empty() && path != "~" && (unquote(path) == *binding.key || path == binding.key);
    own == path || plain || (path.contains('~') && own == quoted_again(path))
}

/// The key before the digest in the form in which we show it.
fn quoted_again(path: &str) -> String {
    let Some((key, digest)) = path.rsplit_once('~') else { return path.to_owned() };
    let shown = show::properties_key(&unquote(key), &serde_json::Map::new());
    if key.is_empty() { path.to_owned() } else { format!("{shown}~{digest}") }
}

type Whole = (String, String, String, String, String);

async fn find(who: &Who, (host, source, sort, name, key): &Whole) -> Result<Binding, Failure> {
    let to = Sort::read(sort)?.destination(host, name)?;
    let made = between(who, host, exchange_name(source), &to).await?;
    made.into_iter().find(|it| is_meant(it, key)).ok_or_else(Failure::not_found)
}

pub(super) async fn one(State(desk): State<Arc<Desk>>, who: Who, Path(path): Path<Whole>) -> Answer {
    who.see(&desk, &path.0)?;
    Ok(Json(show::binding(&find(&who, &path).await?)))
}

pub(super) async fn remove(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(path): Path<Whole>,
) -> Result<StatusCode, Failure> {
    let (host, source, _, name, _) = &path;
    who.enter(&desk, host)?;
    let found = find(&who, &path).await?;
    may_bind(&who, host, exchange_name(source), name, &found.key)?;
    let Binding { route, to, key, arguments } = found;
    who.broker.unbind(Bind { route, to, key, arguments }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// As by RabbitMQ's own protocol: write on the destination, read on the source.
fn may_bind(who: &Who, host: &str, source: &str, name: &str, key: &str) -> Result<(), Failure> {
    who.require(Action::Write, host, name)?;
    who.require(Action::Read, host, source)?;
    if who.caller.may_topic(Action::Read, host, source, key) {
        Ok(())
    } else {
        Err(Failure::access_refused())
    }
}

pub(super) async fn make(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, source, sort, name)): Path<Ends>,
    body: Object,
) -> Result<Response, Failure> {
    who.enter(&desk, &host)?;
    let source = exchange_name(&source);
    let key = body.text("routing_key")?.unwrap_or_default();
    if source.is_empty() {
        return Err(Failure::access_refused());
    }
    may_bind(&who, &host, source, &name, key)?;
    let arguments = body.object("arguments")?;
    let place = show::properties_key(key, &arguments);
    bind(&who, &host, source, (&sort, &name), key, arguments).await?;
    let location = HeaderValue::from_str(&format!("{}/{}", escape(&name), escape(&place)));
    let headers = location.ok().map(|location| [(header::LOCATION, location)]);
    Ok(match headers {
        Some(headers) => (StatusCode::CREATED, headers).into_response(),
        None => StatusCode::CREATED.into_response(),
    })
}

/// A part of a path (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Makes a binding; says whether it is new.
pub(super) async fn bind(
    who: &Who,
    host: &str,
    source: &str,
    (sort, name): (&str, &str),
    key: &str,
    arguments: serde_json::Map<String, Value>,
) -> Result<bool, Failure> {
    let sort = Sort::read(sort)?;
    let absent = |what: &str, name: &str| Failure::missing(format!("no {what} '{name}' in vhost '{host}'"));
    let route = gather::address(host, source).map_err(|_| absent("exchange", source))?;
    let what = if sort == Sort::Queue { "queue" } else { "exchange" };
    let to = sort.destination(host, name).map_err(|_| absent(what, name))?;
    let bind = Bind { route, to, key: key.into(), arguments };
    who.broker.bind(bind).await.map_err(|refusal| match &refusal {
        Refusal::NotFound { name: missing, .. } => {
            let is_source = vhost::split(missing).1 == source && sort != Sort::Exchange;
            let is_source = is_source || (vhost::split(missing).1 != name);
            if is_source { absent("exchange", source) } else { absent(what, name) }
        }
        _ => refusal.into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use waystation_base::Name;

    use super::*;

    fn check(key: &str, arguments: Value, path: &str, expected: bool) {
        let Value::Object(arguments) = arguments else { panic!("an object") };
        let name = || Name::new("x").expect("a name");
        let binding = Binding { route: name(), to: Destination::Route(name()), key: key.into(), arguments };
        assert_eq!(is_meant(&binding, path), expected, "{key} by {path}");
    }

    #[test]
    fn a_binding_is_meant_by_its_key_quoted_or_not() {
        check("a.*", json!({}), "a.%2A", true);
        check("a.*", json!({}), "a.*", true);
        check("a b", json!({}), "a+b", true);
        check("a b", json!({}), "a b", true);
        check("a+b", json!({}), "a+b", true);
        check("", json!({}), "~", true);
        check("~", json!({}), "~", false);
        check("~", json!({}), "%7E", true);
        check("a", json!({"x": 1}), "a", false);
        let shown = show::properties_key("a.*", json!({"x": 1}).as_object().expect("an object"));
        check("a.*", json!({"x": 1}), &shown, true);
        check("a.*", json!({"x": 1}), &shown.replace("%2A", "*"), true);
        check("a.*", json!({"x": 2}), &shown, false);
    }
}
