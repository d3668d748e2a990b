//! How a stored message looks to the world: as a CloudEvent, its body and header values in JSON, its times as text. For every
//! part that hands messages out over HTTP: the HTTP door, and the sender of webhooks.
//!
//! This crate refuses to know sockets, requests and who asks.

pub mod body;
pub mod cloud;
pub mod time;
pub mod value;
