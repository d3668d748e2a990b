//! How is a receiver tried from the command line, and how does a secret come about?

use std::sync::Arc;

use serde_json::json;
use waystation_base::{Clock, Name, os::OsClock};
use waystation_webhooks::{
    Guard, Plan, Sender,
    push::{Endpoint, PushSpec, Tested, spec::Hidden, test_event},
    sign,
};

use super::pushes::answered;
use crate::{
    args::pushes::WebhookCommand,
    client,
    exit::{Exit, Failure},
    output::Output,
};

pub fn run(command: WebhookCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        WebhookCommand::Secret { asymmetric } => secret(asymmetric, output),
        WebhookCommand::Test { url, secret, format, timeout } => {
            let format = serde_json::from_value(json!(format)).map_err(Failure::usage)?;
            let made = secret.is_empty().then(sign::new_symmetric).transpose().map_err(failed)?;
            let secrets = secret.into_iter().chain(made.clone()).map(Hidden).collect();
            let spec = PushSpec { url, format, secrets, timeout_ms: timeout, ..PushSpec::default() };
            client::run(test(spec, made, output))
        }
    }
}

fn failed(error: impl ToString) -> Failure {
    Failure::new(Exit::Failure, error)
}

fn secret(asymmetric: bool, output: Output) -> Result<Exit, Failure> {
    if asymmetric {
        let (private, public) = sign::new_asymmetric().map_err(failed)?;
        let told = json!({"secret": private, "public": public});
        output.say(&told, || format!("signs:            {private}\nfor receivers:    {public}"))?;
    } else {
        let secret = sign::new_symmetric().map_err(failed)?;
        output.say(&json!({"secret": secret}), || secret.clone())?;
    }
    Ok(Exit::Done)
}

/// Sends from here, to wherever the caller likes: it is his machine and his word.
async fn test(spec: PushSpec, made: Option<String>, output: Output) -> Result<Exit, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(OsClock);
    let sender = Sender::new(Guard::open(), clock.clone(), None).map_err(failed)?;
    let plan = Endpoint::new(&spec, sender.guard()).map_err(Failure::usage)?;
    let address = Name::new("webhook-test").map_err(failed)?;
    let job = plan.job(&[test_event(address, clock.now())]).map_err(failed)?;
    let tested = Tested::new(&job.id, &sender.probe(&job).await);
    let mut told = json!(tested);
    if let Some(secret) = &made {
        told["secret"] = json!(secret);
    }
    output.say(&told, || {
        let by =
            made.as_ref().map(|secret| format!("\nsigned by a new secret: {secret}")).unwrap_or_default();
        format!("{}{by}", answered(&tested))
    })?;
    Ok(if tested.delivered { Exit::Done } else { Exit::Refused })
}
