//! Is the repository tidy? The rules that the compiler does not know, as ordinary tests.

mod broker;
mod dependencies;
mod documents;
mod files;
mod limits;
mod repository;
mod schemas;
mod words;
