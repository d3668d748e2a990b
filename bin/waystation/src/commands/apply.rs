//! How does the server's topology become what a file says, and the other way round?

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use waystation_admin::{Action, Plan, Step, Topology, document::Format, export as file, plan, render};
use waystation_broker::{Kind, spec::Spec};

use crate::{
    args::server::{Apply, TopologyFormat},
    client::{Client, Info},
    exit::{Exit, Failure},
    output::{self, Output},
};

pub async fn run(client: Client, args: Apply, output: Output) -> Result<Exit, Failure> {
    let wanted = read(&args.file)?;
    let plan = plan(&current(&client).await?, &wanted, args.prune);
    let doing = !args.dry_run && !args.check && plan.conflicts.is_empty();
    if !output.json {
        output::text(&render::plan(&plan))?;
    }
    if !plan.conflicts.is_empty() {
        tell(&plan, 0, output)?;
        let advice = "nothing was changed; the lines that begin with ! say why";
        return Err(Failure::new(Exit::Refused, "the file cannot be applied").advise(advice));
    }
    let steps = if doing { carry_out(&client, &plan).await? } else { 0 };
    tell(&plan, steps, output)?;
    match args.check && !plan.is_empty() {
        true => Ok(Exit::Differs),
        false => Ok(Exit::Done),
    }
}

fn tell(plan: &Plan, steps: usize, output: Output) -> Result<(), Failure> {
    match output.json {
        true => output.json(&json!({"plan": plan, "steps_done": steps})),
        false if steps > 0 => output::text("applied"),
        false => Ok(()),
    }
}

async fn carry_out(client: &Client, plan: &Plan) -> Result<usize, Failure> {
    for (done, step) in plan.steps.iter().enumerate() {
        take(client, step).await.map_err(|failure| {
            let at = format!("{} (step {} of {})", render::target(&step.target), done + 1, plan.steps.len());
            let failure = failure.during(at);
            match failure.advice {
                None => {
                    failure.advise(format!("{done} steps are done; apply the file again when this is mended"))
                }
                Some(_) => failure,
            }
        })?;
    }
    Ok(plan.steps.len())
}

async fn take(client: &Client, step: &Step) -> Result<(), Failure> {
    let (kind, name) = (step.target.kind, step.target.name.as_str());
    match &step.action {
        Action::Create { spec } => match spec {
            Spec::Queue(spec) => client.declare(kind, name, spec).await.map(drop),
            Spec::Topic(spec) => client.declare(kind, name, spec).await.map(drop),
            Spec::Subscription(spec) => client.declare(kind, name, spec).await.map(drop),
            Spec::Route(spec) => client.declare(kind, name, spec).await.map(drop),
        },
        Action::Change { differences, .. } => {
            let fields: Map<String, Value> =
                differences.iter().map(|change| (change.field.clone(), change.to.clone())).collect();
            client.change(kind, name, &fields).await.map(drop)
        }
        Action::Bind { binding } => client.post(kind, name, "bind", binding).await.map(|_: Value| ()),
        Action::Unbind { binding } => client.post(kind, name, "unbind", binding).await.map(|_: Value| ()),
        Action::Delete => match client.delete(kind, name, false, false).await {
            // Gone between plan and step: that is what was wanted.
            Err(failure) if failure.exit == Exit::NotFound => Ok(()),
            other => other.map(drop),
        },
    }
}

/// Writes the server's topology as a file.
pub async fn export(client: Client, to: Option<PathBuf>, format: TopologyFormat) -> Result<Exit, Failure> {
    let format = match format {
        TopologyFormat::Toml => Format::Toml,
        TopologyFormat::Json => Format::Json,
    };
    let text = file::write(&file::governed(&current(&client).await?), format)
        .map_err(|error| Failure::usage(error.to_string()).advise("--format json writes all of it"))?;
    match to {
        Some(path) => fs::write(&path, text)
            .map_err(|error| Failure::from(error).during(format!("writing {}", path.display())))?,
        None => output::text(&text)?,
    }
    Ok(Exit::Done)
}

/// Checks a file without a server.
pub fn check(path: &Path, output: Output) -> Result<Exit, Failure> {
    let topology = read(path)?;
    let count = topology.specs().len();
    output.say(&json!({"file": path, "good": true, "declarations": count}), || {
        format!("{} is good: {count} declarations", path.display())
    })?;
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<Topology, Failure> {
    let named = path.display();
    let mut bytes = Vec::new();
    // One byte past the limit is enough to know that there are too many.
    let most = waystation_admin::document::DOCUMENT_BYTES_MAX as u64 + 1;
    let got = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    got.map_err(|error| Failure::usage(format!("reading {named} failed: {error}")))?;
    Topology::read(&bytes).map_err(|error| Failure::usage(format!("{named}: {error}")))
}

async fn current(client: &Client) -> Result<Topology, Failure> {
    let mut topology = Topology::default();
    for kind in [Kind::Queue, Kind::Topic, Kind::Subscription, Kind::Route] {
        for info in client.list(kind, None).await? {
            topology.insert(info.name().clone(), info.spec());
            if let Info::Route(info) = info
                && info.bindings > 0
            {
                let said = serde_json::to_value(client.bindings(info.name.as_str()).await?.items);
                let read = said.and_then(serde_json::from_value);
                let bindings = read.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
                topology.routes.entry(info.name).or_default().bindings = bindings;
            }
        }
    }
    Ok(topology)
}
