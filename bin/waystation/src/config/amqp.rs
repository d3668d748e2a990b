//! What can be configured of the AMQP 0-9-1 door?

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use waystation_amqp091::Limits;

use super::{Problem, problem, range};

/// The AMQP 0-9-1 door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amqp {
    pub address: Place,
    pub tls_address: Place,
    pub management: Place,
    pub connections_max: usize,
    pub channels_max: u16,
    pub frame_bytes_max: u32,
    pub message_bytes_max: usize,
    pub heartbeat_seconds: u16,
    pub handshake_ms: u64,
    pub write_ms: u64,
    pub drain_ms: u64,
}

/// Where a door is, if it is anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// At an address and port.
    At(SocketAddr),
    /// It is closed.
    Off,
}

/// Neither an address nor `off`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither an address with a port nor off")]
pub struct NoPlace(String);

const OFF: &str = "off";

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Place, NoPlace> {
        match text {
            OFF => Ok(Place::Off),
            address => address.parse().map(Place::At).map_err(|_| NoPlace(address.to_owned())),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = NoPlace;

    fn try_from(text: String) -> Result<Place, NoPlace> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> String {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::At(address) => address.fmt(f),
            Place::Off => f.write_str(OFF),
        }
    }
}

impl Place {
    /// The address, if it is open.
    pub fn address(self) -> Option<SocketAddr> {
        if let Place::At(address) = self { Some(address) } else { None }
    }
}

impl Default for Amqp {
    fn default() -> Amqp {
        let Limits {
            connections_max,
            channels_max,
            frame_bytes_max,
            message_bytes_max,
            heartbeat_seconds,
            handshake_ms,
            write_ms,
            drain_ms,
        } = Limits::default();
        Amqp {
            address: Place::At(([127, 0, 0, 1], 5672).into()),
            tls_address: Place::Off,
            management: Place::At(([127, 0, 0, 1], 15672).into()),
            connections_max,
            channels_max,
            frame_bytes_max,
            message_bytes_max,
            heartbeat_seconds,
            handshake_ms,
            write_ms,
            drain_ms,
        }
    }
}

impl Amqp {
    /// The bounds as the door takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            connections_max: self.connections_max,
            channels_max: self.channels_max,
            frame_bytes_max: self.frame_bytes_max,
            message_bytes_max: self.message_bytes_max,
            heartbeat_seconds: self.heartbeat_seconds,
            handshake_ms: self.handshake_ms,
            write_ms: self.write_ms,
            drain_ms: self.drain_ms,
        }
    }

    pub(super) fn check(&self, has_certificate: bool) -> Result<(), Problem> {
        if let Err((name, value, min, max)) = self.limits().check() {
            range(["amqp", name], value, min, max)?;
        }
        if self.tls_address != Place::Off && !has_certificate {
            return problem(["amqp", "tls_address"], "needs tls.certificate and tls.key".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let place: Option<Place> = text.parse().ok();
        assert_eq!(place.map(|place| place.to_string()).as_deref(), expected);
    }

    #[test]
    fn a_place_is_an_address_or_off() {
        check("127.0.0.1:5672", Some("127.0.0.1:5672"));
        check("[::1]:5672", Some("[::1]:5672"));
        check("off", Some("off"));
        check("on", None);
        check("127.0.0.1", None);
    }

    #[test]
    fn tls_needs_a_certificate_and_numbers_their_range() {
        let check = |change: fn(&mut Amqp), has_certificate, expected| {
            let mut amqp = Amqp::default();
            change(&mut amqp);
            let path = amqp.check(has_certificate).err().map(|problem| problem.path);
            assert_eq!(path, expected, "{amqp:?}");
        };
        check(|_| (), false, None);
        let tls: fn(&mut Amqp) = |it| it.tls_address = Place::At(([127, 0, 0, 1], 5671).into());
        check(tls, true, None);
        check(tls, false, Some(["amqp", "tls_address"]));
        check(|it| it.frame_bytes_max = 4_095, false, Some(["amqp", "frame_bytes_max"]));
    }
}
