//! What tests are made with: a disk that fails and forgets, and a simulation of the broker's heart on it that is decided by
//! a seed alone.
//!
//! This crate is for tests only: no other crate but tests may depend on it. It knows no tasks, threads or sockets.

pub mod disk;
pub mod model;
pub mod random;
pub mod seeds;
pub mod storage;
pub mod world;
