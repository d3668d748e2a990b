//! Frames to broker commands, answers to frames: one task for each connection.

mod actions;
mod calls;
mod certificate;
mod connection;
mod consume;
mod deliver;
mod direct;
mod door;
mod doubt;
mod outcome;
mod publish;
mod queues;
mod replies;
mod routes;
mod serve;
mod settle;
mod stream_offset;
mod turn;
mod wake;

pub use serve::{Error, Options, serve};
