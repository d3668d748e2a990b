//! What is kept of a message that was stored, and what it can be found by.

use std::ops::Range;

use serde_json::Value as Json;
use waystation_base::{
    MessageId, Millis, Value,
    batch::{Error, Record, RecordHeaders},
    message::header,
    text::cut,
    trace::trace_id,
};
use waystation_broker::{entry::Step, spec::KeyFrom};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    alike::Open,
    fact::{ATTRIBUTE_BYTES_MAX, Attribute, Fate, Published, PublishedWriter},
    rules::Terms,
    runs::hash_of_run,
};

/// Bytes of a body past which no business key is looked for in it.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

/// The business key that a message's own key is.
const KEY: &str = "key";

/// What messages are looked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sought {
    pub(crate) hash: u64,
    /// What the run is found by that the id belongs to, if it may be one.
    pub(crate) run: Option<u64>,
}

impl Sought {
    /// By what a sender or Waystation calls them, or by what they have in common: an id or a text.
    pub fn text(text: &str) -> Sought {
        let id = uuid::Uuid::try_parse(text).ok();
        Sought { hash: hash_of(text), run: id.map(|id| hash_of_run(MessageId(id))) }
    }

    /// By their own id.
    pub fn id(id: MessageId) -> Sought {
        Sought { hash: hash_of_id(id), run: Some(hash_of_run(id)) }
    }
}

/// What a question looks for: hashes of ids and texts, sorted, and of runs.
pub(crate) struct Wanted {
    pub(crate) hashes: Vec<u64>,
    pub(crate) runs: Vec<u64>,
}

impl Wanted {
    pub(crate) fn of(sought: &[Sought]) -> Wanted {
        let mut hashes: Vec<u64> = sought.iter().map(|one| one.hash).collect();
        let mut runs: Vec<u64> = sought.iter().filter_map(|one| one.run).collect();
        for list in [&mut hashes, &mut runs] {
            list.sort_unstable();
            list.dedup();
        }
        Wanted { hashes, runs }
    }

    /// Whether something that is found by this is meant.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.hashes.binary_search(&hash).is_ok()
    }

    /// Whether one of the ids that differ from this one in the last byte alone may be meant.
    pub(crate) fn may_have(&self, id: MessageId) -> bool {
        self.runs.binary_search(&hash_of_run(id)).is_ok()
    }
}

/// What something is found by: ids of sixteen bytes by these, however they are written, anything else by its text.
fn hash_of(text: &str) -> u64 {
    match uuid::Uuid::try_parse(text) {
        Ok(id) => xxh3_64(id.as_bytes()),
        Err(_) => xxh3_64(cut(text, ATTRIBUTE_BYTES_MAX).as_bytes()),
    }
}

/// The same of a message's own id.
pub(crate) fn hash_of_id(id: MessageId) -> u64 {
    xxh3_64(id.as_bytes())
}

/// Asked of each header of each message: told apart by length first, as the compiler lays out patterns.
#[inline]
fn attribute(name: &[u8]) -> Option<Attribute> {
    const MESSAGE_ID: &[u8] = header::MESSAGE_ID.as_bytes();
    const CAUSE: &[u8] = header::CAUSE.as_bytes();
    const CORRELATION_ID: &[u8] = header::CORRELATION_ID.as_bytes();
    const TRACEPARENT: &[u8] = header::TRACEPARENT.as_bytes();
    const ROUTE: &[u8] = header::ROUTE.as_bytes();
    const ROUTING_KEY: &[u8] = header::ROUTING_KEY.as_bytes();
    const REPLY_TO: &[u8] = header::REPLY_TO.as_bytes();
    const TYPE: &[u8] = header::TYPE.as_bytes();
    const DEATH_REASON: &[u8] = header::DEATH_REASON.as_bytes();
    const DEATH_SOURCE: &[u8] = header::DEATH_SOURCE.as_bytes();
    const REDRIVE: &[u8] = header::REDRIVE.as_bytes();
    Some(match name {
        MESSAGE_ID => Attribute::MessageId,
        CAUSE => Attribute::Cause,
        CORRELATION_ID => Attribute::CorrelationId,
        TRACEPARENT => Attribute::Traceparent,
        ROUTE => Attribute::Route,
        ROUTING_KEY => Attribute::RoutingKey,
        REPLY_TO => Attribute::ReplyTo,
        TYPE => Attribute::Type,
        DEATH_REASON => Attribute::DeathReason,
        DEATH_SOURCE => Attribute::DeathSource,
        REDRIVE => Attribute::Redrive,
        b"ws-route" => Attribute::StepRoute,
        b"call-operation" => Attribute::Operation,
        b"callback-url" => Attribute::CallbackUrl,
        b"call-id" => Attribute::Call,
        _ => return None,
    })
}

/// Gives `tell` a header's value as text, if there is any; lists, maps and bytes have none.
fn with_text(value: &[u8], tag: Option<u8>, mut tell: impl FnMut(&str)) {
    let Some(tag) = tag else { return std::str::from_utf8(value).into_iter().for_each(tell) };
    match Value::from_plain(tag, value) {
        Ok(Value::String(text)) => tell(&text),
        Ok(Value::RawText(bytes)) => std::str::from_utf8(&bytes).into_iter().for_each(tell),
        Ok(Value::Bool(truth)) => tell(if truth { "true" } else { "false" }),
        Ok(other) => other.as_i64().into_iter().for_each(|number| tell(&number.to_string())),
        Err(_) => {}
    }
}

/// What was stored, when, by whom and in which step.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'r, 'a> {
    pub(crate) record: &'r Record<'a>,
    pub(crate) at: Millis,
    pub(crate) client: u32,
    pub(crate) step: Step,
    pub(crate) fate: Fate,
}

impl<'a> Stored<'_, 'a> {
    /// Appends the fact, its time counted from `base`; tells its id and what else it can be found by. After an error `out` may hold a
    /// part, and no id was told. `before` is what was told of the message before, in the same `out` and by the same `terms`: if the
    /// message can be told with that one, its fact is made to, nothing else is told, and the answer is false.
    pub(crate) fn put(
        &self,
        terms: &Terms,
        base: Millis,
        out: &mut Vec<u8>,
        before: &mut Before<'a>,
        id: impl FnOnce(MessageId),
        mut hash: impl FnMut(u64),
    ) -> Result<bool, Error> {
        let Stored { record, at, client, step, fate } = *self;
        let headers = record.headers()?;
        let system = headers.system;
        let says_same = before.says_same(&headers, record.key);
        if let Some(open) = before.open.take_if(|open| says_same && open.takes(record, &system)) {
            before.open = open.add(out, record, &system);
            return Ok(false);
        }
        let delay_ms = system.deliver_at.map(|due| due.since(at)).filter(|ms| *ms > 0);
        let life_ms = system.expires_at.map(|end| end.since(at));
        let message = (system.id, record.body_bytes() as u32, step, fate);
        let writer = PublishedWriter::of_fact(out, (at, base), client, message, [delay_ms, life_ms]);
        before.open = None;
        let more_at = writer.more_at();
        if says_same {
            writer.repeat(before.attributes.clone());
            before.hashes.iter().for_each(|it| hash(*it));
            before.open = Open::at(more_at, record, &system);
            id(system.id);
            return Ok(true);
        }
        before.of = None;
        before.hashes.clear();
        let hash = |it| {
            before.hashes.push(it);
            hash(it);
        };
        let mut attributes = Attributes { writer, hash };
        headers.visit(|name, value, tag| attributes.add_header(name, value, tag, terms))?;
        // What orders and partitions go by is mostly what a message is about.
        let key = record.key.and_then(|key| std::str::from_utf8(key).ok()).filter(|key| !key.is_empty());
        key.into_iter().for_each(|key| attributes.add_business(KEY, key));
        attributes.add_of_body(record, terms);
        before.attributes = attributes.writer.attributes();
        before.of = (!terms.reads_bodies()).then_some((headers, record.key));
        before.open = Open::at(more_at, record, &system);
        id(system.id);
        Ok(true)
    }
}

/// What was told of a message beside its id: the next one of its batch mostly says the same.
#[derive(Default)]
pub(crate) struct Before<'a> {
    /// What its sender said, if nothing else was looked at.
    of: Option<(RecordHeaders<'a>, Option<&'a [u8]>)>,
    /// Where its attributes are.
    attributes: Range<usize>,
    hashes: Vec<u64>,
    /// The fact that tells of it, if it may tell of one more.
    open: Option<Open>,
}

impl Before<'_> {
    #[inline]
    fn says_same(&self, headers: &RecordHeaders<'_>, key: Option<&[u8]>) -> bool {
        self.of.as_ref().is_some_and(|(before, its)| *its == key && before.says_same(headers))
    }
}

/// What a message is told of, on its way to the fact and to the index.
struct Attributes<'a, H> {
    writer: PublishedWriter<'a>,
    hash: H,
}

impl<H: FnMut(u64)> Attributes<'_, H> {
    fn add(&mut self, kind: Attribute, text: &str) {
        if self.writer.attribute(kind, text)
            && let Some(hash) = hash_of_attribute(kind, text)
        {
            (self.hash)(hash);
        }
    }

    fn add_business(&mut self, name: &str, value: &str) {
        self.add(Attribute::Business, cut(&format!("{name}={value}"), ATTRIBUTE_BYTES_MAX));
    }

    #[inline]
    fn add_header(&mut self, name: &[u8], value: &[u8], tag: Option<u8>, terms: &Terms) {
        if let Some(kind) = attribute(name) {
            with_text(value, tag, |text| {
                if !text.is_empty() {
                    self.add(kind, text);
                }
            });
        } else if let Some(key) = name.strip_prefix(header::BUSINESS_PREFIX.as_bytes())
            && let Ok(key) = std::str::from_utf8(key)
        {
            with_text(value, tag, |text| self.add_business(key, text));
        }
        for (key, from) in &terms.business {
            if let KeyFrom::Header(header) = from
                && header.as_bytes() == name
            {
                with_text(value, tag, |text| self.add_business(key, text));
            }
        }
    }

    fn add_of_body(&mut self, record: &Record<'_>, terms: &Terms) {
        let mut paths = terms.business.iter().filter_map(|(name, from)| match from {
            KeyFrom::Jq(path) => Some((name, path)),
            KeyFrom::Header(_) => None,
        });
        let Some(first) = paths.next() else { return };
        let body = record.value.filter(|body| body.len() <= BODY_BYTES_MAX);
        let Some(json) = body.and_then(|body| serde_json::from_slice::<Json>(body).ok()) else { return };
        for (name, path) in std::iter::once(first).chain(paths) {
            if let Some(value) = path.value(&json) {
                self.add_business(name, &value);
            }
        }
    }
}

/// What an attribute is found by.
fn hash_of_attribute(kind: Attribute, text: &str) -> Option<u64> {
    match kind {
        Attribute::MessageId | Attribute::Cause | Attribute::CorrelationId | Attribute::Call => {
            Some(hash_of(text))
        }
        Attribute::Traceparent => trace_id(text).map(hash_of),
        Attribute::Business => text.split_once('=').map(|(_, value)| hash_of(value)),
        _ => None,
    }
}

/// What a message can be found by beside its id; some of it may be there twice.
pub(crate) fn hashes(published: &Published) -> impl Iterator<Item = u64> {
    published.attributes.iter().filter_map(|(kind, text)| hash_of_attribute(*kind, text))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waystation_base::{
        Headers, Message, Name, Offset,
        batch::{self, Encoder, Scratch},
    };

    use super::*;
    use crate::{
        fact::{Fact, What, published_id},
        rules::Rule,
    };

    fn of(message: &Message, rule: &str) -> Published {
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(5), Millis(1000));
        let at = encoder.push(Offset(5), message);
        encoder.finish();
        let rules: Vec<Rule> = serde_json::from_str(rule).expect("rules");
        let name = Name::new("orders").expect("a name");
        let terms = Terms::of(&rules, Some(&name), false, None);
        let record = Record::read(&out, at).expect("a record");
        let stored =
            Stored { record: &record, at: Millis(1000), client: 3, step: Step::Request, fate: Fate::Dropped };
        let (mut fact, mut found) = (Vec::new(), Vec::new());
        let id = |id| assert_eq!(id, message.id);
        stored
            .put(&terms, Millis(7), &mut fact, &mut Before::default(), id, |hash| found.push(hash))
            .expect("read");
        assert_eq!(published_id(&fact), Some((message.id, 0)));
        let mut rest = &fact[..];
        let fact = Fact::take(&mut rest, Millis(7)).and_then(|mut it| it.next()).expect("a fact");
        assert_eq!((fact.at, fact.client, rest), (Millis(1000), 3, &[][..]));
        let What::Published(published) = fact.what else { panic!("{fact:?}") };
        assert_eq!(found, hashes(&published).collect::<Vec<_>>(), "written and read by the same rule");
        published
    }

    #[test]
    fn ids_texts_and_business_keys_are_kept_and_found() {
        let id = MessageId::new(Millis(5), 9);
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let headers = vec![
            ("content-type".into(), "application/json".into()),
            ("message-id".into(), "m-1".into()),
            ("ws-cause".into(), id.to_string().as_str().into()),
            ("traceparent".into(), format!("00-{trace}-00f067aa0ba902b7-01").as_str().into()),
            ("ws-business-shop".into(), Value::I64(7)),
            ("x-order".into(), "A-1".into()),
        ];
        let message = Message {
            id,
            headers: Headers(headers),
            body: Bytes::from_static(br#"{"customer": {"id": 4711}}"#),
            deliver_at: Some(Millis(1500)),
            key: Some(Bytes::from_static(b"k-1")),
            expires_at: Some(Millis(3000)),
            ..Message::default()
        };
        let rule = r#"[{"address": "orders", "business": {"order": {"header": "x-order"}, "customer": {"jq": ".customer.id"}}}]"#;
        let published = of(&message, rule);
        assert_eq!((published.id, published.bytes), (id, 26));
        assert_eq!((published.delay_ms, published.life_ms), (Some(500), Some(2000)));
        assert_eq!(published.attribute(Attribute::MessageId), Some("m-1"));
        let business: Vec<&str> = published
            .attributes
            .iter()
            .filter(|(kind, _)| *kind == Attribute::Business)
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(business, ["shop=7", "order=A-1", "key=k-1", "customer=4711"]);
        let found: Vec<u64> = hashes(&published).collect();
        for text in
            ["m-1", trace, "7", "A-1", "k-1", "4711", &id.to_string(), &id.to_string().replace('-', "")]
        {
            assert!(found.contains(&hash_of(text)), "{text}");
        }
        assert!(!found.contains(&hash_of("application/json")));
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn what_is_taken_over_from_the_message_before_is_what_the_message_says() {
        let text = |name: &str, value: &str| (name.into(), value.into());
        let call = || vec![text("call-id", "c-1"), text("routing-key", "r"), text("x-order", "A-1")];
        let many = (0..30).map(|n| text(&format!("ws-business-{n}"), "v")).collect();
        let number = vec![("call-id".into(), Value::I64(7))];
        let said = [call(), call(), vec![], vec![], number, vec![text("call-id", "7")], call(), many, call()];
        let keys = [None, None, None, Some("k"), Some("k"), None, Some("l"), None, None];
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(0), Millis(1000));
        let mut at = 0;
        for round in 0..2 {
            for (headers, key) in said.iter().zip(keys) {
                for _ in 0..=round {
                    let message = Message {
                        id: MessageId::new(Millis(5), at.into()),
                        headers: Headers(headers.clone()),
                        key: key.map(|key| Bytes::from(key.to_owned())),
                        body: Bytes::from(format!("{{\"n\":{at}}}")),
                        ..Message::default()
                    };
                    encoder.push(Offset(at.into()), &message);
                    at += 1u32;
                }
            }
        }
        encoder.finish();
        let keys = r#"{"order": {"header": "x-order"}}"#;
        for keys in ["{}", keys, r#"{"order": {"header": "x-order"}, "n": {"jq": ".n"}}"#] {
            let rules = format!(r#"[{{"address": "orders", "business": {keys}}}]"#);
            let rules: Vec<Rule> = serde_json::from_str(&rules).expect("rules");
            let terms = Terms::of(&rules, Some(&Name::new("orders").expect("a name")), false, None);
            let (mut one, mut all) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
            let mut before = Before::default();
            let records: Vec<Record<'_>> =
                batch::records(&out).expect("a batch").map(|record| record.expect("a record")).collect();
            for record in &records {
                let fate = Fate::Stored;
                let stored = Stored { record, at: Millis(1000), client: 3, step: Step::Request, fate };
                for (to, before) in [(&mut one, &mut Before::default()), (&mut all, &mut before)] {
                    let hash = |hash| to.1.push(hash);
                    stored.put(&terms, Millis(7), &mut to.0, before, |_| (), hash).expect("read");
                }
            }
            assert_eq!(one, all, "{keys}");
        }
    }

    #[test]
    fn a_body_is_read_only_for_a_key_and_within_its_bound() {
        let rule = r#"[{"address": "orders", "business": {"n": {"jq": ".n"}}}]"#;
        let body = |bytes: usize| Bytes::from(format!("{{\"n\":1{}}}", " ".repeat(bytes - 7)));
        let of_body = |bytes| of(&Message { body: body(bytes), ..Message::default() }, rule).attributes.len();
        assert_eq!((of_body(BODY_BYTES_MAX), of_body(BODY_BYTES_MAX + 1)), (1, 0));
        assert_eq!(
            of(&Message { body: Bytes::from_static(b"no json"), ..Message::default() }, rule).attributes,
            []
        );
    }
}
