//! How is the server put together, run and ended?

use crate::{
    args::server::Serve,
    exit::{Exit, Failure},
    output::Output,
};

pub fn run(args: &Serve, _output: Output) -> Result<Exit, Failure> {
    let mut config = crate::config::layers::load(args.config.as_deref(), super::configuration::variables())?;
    args.overlay(&mut config);
    Err(Failure::new(Exit::Failure, "not yet"))
}
