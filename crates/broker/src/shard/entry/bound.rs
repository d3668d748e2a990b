//! A binding as journal and snapshot have it.

use smol_str::SmolStr;
use waystation_base::{
    EntityId,
    varint::{put, put_prefixed, take_prefixed},
};

use super::{Error, entity, text};
use crate::spec::Arguments;

/// A binding as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The route that hands on.
    pub route: EntityId,
    /// The queue, topic or route that it hands on to.
    pub to: EntityId,
    /// Under which key.
    pub key: SmolStr,
    /// With which arguments.
    pub arguments: Arguments,
}

/// Appends a binding, to the end of the payload.
pub fn put_bound(out: &mut Vec<u8>, bound: &Bound) {
    put(out, bound.route.0.into());
    put(out, bound.to.0.into());
    put_prefixed(out, bound.key.as_bytes());
    if !bound.arguments.is_empty() {
        serde_json::to_writer(out, &bound.arguments).expect("arguments have a JSON form");
    }
}

/// Takes a binding that reaches to the end of `input`.
pub fn take_bound(input: &mut &[u8]) -> Result<Bound, Error> {
    let (route, to) = (entity(input)?, entity(input)?);
    let key = text(take_prefixed(input)?)?;
    let json = std::mem::take(input);
    let arguments = if json.is_empty() { Arguments::new() } else { serde_json::from_slice(json)? };
    Ok(Bound { route, to, key: key.into(), arguments })
}
