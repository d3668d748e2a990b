//! Alerts: dead letters that grow, consumers that are gone, queues and subscriptions that lag. Each is a fact on the topic `$alerts`,
//! raised once and resolved once, and names the page that says what to do.
//!
//! This crate refuses to know doors, the journal and how alerts are delivered: a push or any subscriber takes them from the topic.

pub mod alert;
mod alerts;
mod judge;
pub mod rule;

pub use alert::{Alert, Kind, State};
pub use alerts::{Alerts, Engine, Error, Rule, TOPIC};
pub use rule::{AlertSpec, Invalid};
