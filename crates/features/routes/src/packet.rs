//! What is a message on its way through the steps? Its body is brought to JSON when the first step asks for it, and back when it
//! leaves.

use bytes::Bytes;
use serde::Serialize;
use waystation_base::{Headers, Message, Name, message::header};
use waystation_content::aside;
use waystation_events::{
    body::{Kind, kind},
    value::Written,
};
use waystation_selector::Value as Property;

use crate::fault::Fault;

/// A message under way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// As it is now; its body may be behind [`Packet::json`].
    pub message: Message,
    /// The address that it was published to.
    pub address: Name,
    json: Json,
}

#[derive(Clone, Debug)]
enum Json {
    /// Nobody has asked.
    Unread,
    /// The body, read.
    Read(Bytes),
    /// The body is still to be written from this.
    Written(Bytes),
}

/// Headers as a jq program sees them: by name, the first of each.
struct Shown<'a>(&'a Headers);

impl Serialize for Shown<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let all = &self.0.0;
        let is_first = |index: usize| all[..index].iter().all(|(name, _)| *name != all[index].0);
        let firsts = all.iter().enumerate().filter(|(index, _)| is_first(*index));
        to.collect_map(firsts.map(|(_, (name, value))| (name, Written(value))))
    }
}

impl Packet {
    /// A message as it came.
    pub fn new(address: Name, message: Message) -> Packet {
        Packet { message, address, json: Json::Unread }
    }

    /// The body as JSON.
    pub async fn json(&mut self) -> Result<Bytes, Fault> {
        match &self.json {
            Json::Read(json) | Json::Written(json) => Ok(json.clone()),
            Json::Unread => {
                let json = self.read().await?;
                self.json = Json::Read(json.clone());
                Ok(json)
            }
        }
    }

    async fn read(&self) -> Result<Bytes, Fault> {
        let headers = &self.message.headers;
        match headers.text(header::CONTENT_ENCODING) {
            None | Some("" | "identity") => {}
            Some(coding) => {
                return Err(Fault::content(format!(
                    "the body is coded as '{coding}', which no step can look into"
                )));
            }
        }
        match headers.text(header::CONTENT_TYPE) {
            // Whoever reads it finds out whether it is.
            None => Ok(self.message.body.clone()),
            Some(text) if is_plain_json(text) => Ok(self.message.body.clone()),
            other => aside::read(other, &self.message.body).await.map_err(Fault::content),
        }
    }

    /// Gives it a new body.
    pub fn set_json(&mut self, json: Bytes) {
        self.json = Json::Written(json);
    }

    /// Gives it a new body, and says that it is JSON.
    pub fn replace(&mut self, json: Bytes) {
        self.message.headers.set(header::CONTENT_TYPE, "application/json");
        self.message.headers.remove(header::CONTENT_ENCODING);
        self.json = Json::Written(json);
    }

    /// Says what media type the body shall have when it leaves.
    pub async fn set_content_type(&mut self, content_type: &str) -> Result<(), Fault> {
        let json = self.json().await?;
        self.message.headers.set(header::CONTENT_TYPE, content_type);
        self.json = Json::Written(json);
        Ok(())
    }

    /// The headers as a JSON object.
    pub fn headers_json(&self) -> Bytes {
        to_json(&Shown(&self.message.headers))
    }

    /// The key as JSON: text, or null if there is none or it is no text.
    pub fn key_json(&self) -> Bytes {
        let key = self.message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        to_json(&key)
    }

    /// The message as it leaves here.
    pub async fn message(&self) -> Result<Message, Fault> {
        let mut message = self.message.clone();
        if let Json::Written(json) = &self.json {
            match message.headers.text(header::CONTENT_TYPE) {
                None => {
                    message.body = json.clone();
                    message.headers.set(header::CONTENT_TYPE, "application/json");
                }
                Some(text) if is_plain_json(text) => message.body = json.clone(),
                other => {
                    message.body = aside::write(other, json).await.map_err(Fault::content)?;
                }
            }
        }
        Ok(message)
    }

    /// The routing key with which it was published.
    pub fn routing_key(&self) -> Option<&str> {
        self.message.headers.text(header::ROUTING_KEY)
    }

    /// A property by a selector's name (JMS 2.0 §3.8.1.1): a header field that JMS defines, or a header. An identifier has no
    /// '-', so that `content_type` finds `content-type`.
    pub fn property(&self, name: &str) -> Option<Property<'_>> {
        use waystation_selector::Header as Jms;
        let message = &self.message;
        let header = |name: &str| message.headers.get(name).and_then(Property::of);
        match Jms::named(name) {
            Some(Jms::Priority) => Some(i64::from(message.priority.min(9)).into()),
            Some(Jms::Timestamp) => Some((message.timestamp.0 as i64).into()),
            Some(Jms::MessageId) => {
                header(header::MESSAGE_ID).or_else(|| Some(message.id.to_string().into()))
            }
            Some(Jms::CorrelationId) => header(header::CORRELATION_ID),
            Some(Jms::Type) => header(header::TYPE),
            // Only persistent messages are stored here.
            Some(Jms::DeliveryMode) => Some("PERSISTENT".into()),
            None if name == "JMSXGroupID" => {
                message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).map(Property::from)
            }
            None => {
                header(name).or_else(|| name.contains('_').then(|| header(&name.replace('_', "-"))).flatten())
            }
        }
    }
}

/// Whether a body of this type is JSON as programs take it.
fn is_plain_json(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1);
    let charset = |it: &str| it.trim().to_ascii_lowercase().strip_prefix("charset=").map(str::to_owned);
    let is_utf8 = |charset: String| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii");
    kind(Some(content_type)) == Kind::Json && parameters.filter_map(charset).all(is_utf8)
}

/// Texts, numbers and lists of them as JSON.
pub fn to_json(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(value);
    json.unwrap_or_else(|error| unreachable!("texts and numbers are JSON: {error}")).into()
}
