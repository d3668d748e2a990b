//! Which addresses are not for the outside? The special-purpose registries (RFC 6890, IANA) and the forms of IPv6 that carry
//! an IPv4 address inside.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address with the number of leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is written like 10.1.0.0/16 or fd00::/8")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Network, NoNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| NoNetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        match bits.unwrap_or(most) {
            bits if bits <= most => Ok(Network { address, bits }),
            _ => Err(NoNetwork),
        }
    }
}

impl Network {
    /// Whether the address lies in it. `::ffff:10.1.2.3` is 10.1.2.3.
    pub fn contains(self, address: IpAddr) -> bool {
        fn same(a: u128, b: u128, bits: u8, width: u32) -> bool {
            let shift = width - u32::from(bits);
            shift == width || a >> shift == b >> shift
        }
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), self.bits, 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                // A shift by all 128 bits is none that the machine has.
                self.bits == 0 || same(u128::from(a), u128::from(b), self.bits, 128)
            }
            _ => false,
        }
    }
}

/// Networks of IPv4 that are not for the outside: first address, bits, what it is.
const DENIED: &[([u8; 4], u8, &str)] = &[
    ([0, 0, 0, 0], 8, "this host or network"),
    ([10, 0, 0, 0], 8, "a private address"),
    ([100, 64, 0, 0], 10, "a carrier's shared address"),
    ([127, 0, 0, 0], 8, "a loopback address"),
    ([168, 63, 129, 16], 32, "a cloud's metadata address"),
    ([169, 254, 0, 0], 16, "a link-local address, where clouds keep their metadata"),
    ([172, 16, 0, 0], 12, "a private address"),
    ([192, 0, 0, 0], 24, "an address for protocols"),
    ([192, 0, 2, 0], 24, "an address for documentation"),
    ([192, 88, 99, 0], 24, "a 6to4 relay"),
    ([192, 168, 0, 0], 16, "a private address"),
    ([198, 18, 0, 0], 15, "an address for benchmarks"),
    ([198, 51, 100, 0], 24, "an address for documentation"),
    ([203, 0, 113, 0], 24, "an address for documentation"),
    ([224, 0, 0, 0], 4, "a multicast address"),
    ([240, 0, 0, 0], 4, "a reserved or broadcast address"),
];

fn why_denied_v4(address: Ipv4Addr) -> Option<&'static str> {
    let inside = |(first, bits, _): &&([u8; 4], u8, &str)| {
        Network { address: Ipv4Addr::from(*first).into(), bits: *bits }.contains(address.into())
    };
    DENIED.iter().find(inside).map(|(_, _, what)| *what)
}

/// What the address is, if it is not for the outside.
pub fn why_denied(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => why_denied_v4(address),
        IpAddr::V6(address) => why_denied_v6(address),
    }
}

fn why_denied_v6(address: Ipv6Addr) -> Option<&'static str> {
    let parts = address.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("the unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        // ::ffff:0:0/96, RFC 4291 §2.5.5.2
        [0, 0, 0, 0, 0, 0xffff, high, low] => why_denied_v4(inner(high, low)),
        // ::/96, RFC 4291 §2.5.5.1
        [0, 0, 0, 0, 0, 0, ..] => Some("an IPv4-compatible address"),
        // RFC 6052 §2.1: the translator reaches what the inner address names.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => why_denied_v4(inner(high, low)),
        [0x64, 0xff9b, ..] => Some("an address of a local translator"),
        [0xfc00..=0xfdff, ..] => Some("a unique local address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfec0..=0xfeff, ..] => Some("a site-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        // RFC 3056 §2
        [0x2002, high, low, ..] => why_denied_v4(inner(high, low)),
        // Teredo (RFC 4380) and the other protocol assignments (2001::/23).
        [0x2001, 0..=0x1ff, ..] => Some("an address for protocols"),
        [0x2001, 0xdb8, ..] => Some("an address for documentation"),
        [0x3fff, 0..=0xfff, ..] => Some("an address for documentation"),
        // RFC 5214 §6.1
        [.., 0 | 0x200, 0x5efe, high, low] => why_denied_v4(inner(high, low)),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("not a global address"),
    }
}
