//! What does a content header say about a message? Fourteen properties, each there or not (AMQP 0-9-1 §4.2.6.1).
//!
//! ```text
//! flags u16: bit 15 content-type ... bit 2 cluster-id, bit 0 further flags follow (never) | those that are there, in order
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use smol_str::SmolStr;

use super::{Error, Put, Reader, Table};

/// Which properties are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

macro_rules! flags {
    ($($name:ident = $bit:literal;)*) => {
        impl Flags {
            $(#[allow(missing_docs)] pub const $name: Flags = Flags(1 << $bit);)*
        }
    };
}

flags! {
    CONTENT_TYPE = 15;
    CONTENT_ENCODING = 14;
    HEADERS = 13;
    DELIVERY_MODE = 12;
    PRIORITY = 11;
    CORRELATION_ID = 10;
    REPLY_TO = 9;
    EXPIRATION = 8;
    MESSAGE_ID = 7;
    TIMESTAMP = 6;
    KIND = 5;
    USER_ID = 4;
    APP_ID = 3;
    CLUSTER_ID = 2;
}

impl Flags {
    /// The bits that stand for a property.
    pub const ALL: Flags = Flags(0xfffc);

    /// Reads the flags and refuses those that announce more flags. Bit 1, which has no meaning, is dropped.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Flags, Error> {
        let bits = reader.u16()?;
        if bits & 1 == 0 { Ok(Flags(bits & Flags::ALL.0)) } else { Err(Error::PropertyFlags(bits)) }
    }

    /// Whether that property is there.
    #[inline]
    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    /// Adds a property.
    #[inline]
    pub fn add(&mut self, flag: Flags) {
        self.0 |= flag.0;
    }
}

/// A short string that should be text and need not be: some clients put bytes into correlation ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Text.
    Utf8(SmolStr),
    /// Other bytes.
    Raw(Bytes),
}

impl Text {
    /// Text where the bytes are text.
    #[inline]
    pub fn new(bytes: &[u8]) -> Text {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Utf8(SmolStr::new(text)),
            Err(_) => Text::Raw(Bytes::copy_from_slice(bytes)),
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        if let Text::Utf8(text) = self { Some(text) } else { None }
    }

    /// The bytes, text or not.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Utf8(text) => text.as_bytes(),
            Text::Raw(bytes) => bytes,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text::Utf8(text.into())
    }
}

/// The properties of one message; `type` is `kind` here.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Properties {
    pub content_type: Option<Text>,
    pub content_encoding: Option<Text>,
    pub headers: Option<Table>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<Text>,
    pub reply_to: Option<Text>,
    pub expiration: Option<Text>,
    pub message_id: Option<Text>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    pub kind: Option<Text>,
    pub user_id: Option<Text>,
    pub app_id: Option<Text>,
    pub cluster_id: Option<Text>,
}

impl Properties {
    /// Reads flags and properties as a content header holds them ([`super::ContentHeader::properties`]).
    pub fn read(bytes: &[u8]) -> Result<Properties, Error> {
        let mut reader = Reader::new(bytes);
        let flags = Flags::read(&mut reader)?;
        let text = |reader: &mut Reader<'_>, flag| {
            flags.has(flag).then(|| reader.short_bytes().map(Text::new)).transpose()
        };
        let properties = Properties {
            content_type: text(&mut reader, Flags::CONTENT_TYPE)?,
            content_encoding: text(&mut reader, Flags::CONTENT_ENCODING)?,
            headers: flags.has(Flags::HEADERS).then(|| Table::read(&mut reader)).transpose()?,
            delivery_mode: flags.has(Flags::DELIVERY_MODE).then(|| reader.u8()).transpose()?,
            priority: flags.has(Flags::PRIORITY).then(|| reader.u8()).transpose()?,
            correlation_id: text(&mut reader, Flags::CORRELATION_ID)?,
            reply_to: text(&mut reader, Flags::REPLY_TO)?,
            expiration: text(&mut reader, Flags::EXPIRATION)?,
            message_id: text(&mut reader, Flags::MESSAGE_ID)?,
            timestamp: flags.has(Flags::TIMESTAMP).then(|| reader.u64()).transpose()?,
            kind: text(&mut reader, Flags::KIND)?,
            user_id: text(&mut reader, Flags::USER_ID)?,
            app_id: text(&mut reader, Flags::APP_ID)?,
            cluster_id: text(&mut reader, Flags::CLUSTER_ID)?,
        };
        reader.finish()?;
        Ok(properties)
    }

    /// Writes flags and properties.
    pub fn write(&self, out: &mut BytesMut) {
        let at = out.len();
        out.put_u16(0);
        let mut flags = Flags::default();
        let text = |out: &mut BytesMut, flags: &mut Flags, flag, value: &Option<Text>| {
            if let Some(value) = value {
                flags.add(flag);
                out.put_short_bytes(value.as_bytes());
            }
        };
        text(out, &mut flags, Flags::CONTENT_TYPE, &self.content_type);
        text(out, &mut flags, Flags::CONTENT_ENCODING, &self.content_encoding);
        if let Some(headers) = &self.headers {
            flags.add(Flags::HEADERS);
            headers.write(out);
        }
        for (flag, value) in [(Flags::DELIVERY_MODE, self.delivery_mode), (Flags::PRIORITY, self.priority)] {
            if let Some(value) = value {
                flags.add(flag);
                out.put_u8(value);
            }
        }
        text(out, &mut flags, Flags::CORRELATION_ID, &self.correlation_id);
        text(out, &mut flags, Flags::REPLY_TO, &self.reply_to);
        text(out, &mut flags, Flags::EXPIRATION, &self.expiration);
        text(out, &mut flags, Flags::MESSAGE_ID, &self.message_id);
        if let Some(seconds) = self.timestamp {
            flags.add(Flags::TIMESTAMP);
            out.put_u64(seconds);
        }
        text(out, &mut flags, Flags::KIND, &self.kind);
        text(out, &mut flags, Flags::USER_ID, &self.user_id);
        text(out, &mut flags, Flags::APP_ID, &self.app_id);
        text(out, &mut flags, Flags::CLUSTER_ID, &self.cluster_id);
        out[at..at + 2].copy_from_slice(&flags.0.to_be_bytes());
    }
}
