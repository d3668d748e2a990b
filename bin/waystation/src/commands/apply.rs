//! How does the server's topology become what a file says, and the other way round?

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::{Map, Value, json};
use waystation_admin::{Action, Step, document::Format, plan::Difference};
use waystation_alerts::{AlertSpec, Rule};
use waystation_base::Name;
use waystation_broker::{Kind, spec::Spec};
use waystation_calls::Operation;
use waystation_http::api::{
    self as http, Declared, OperationDeclaration, OperationInfo, Removed, User, Vhost,
};
use waystation_webhooks::push::{PushInfo, PushSpec};

use crate::{
    args::server::{Apply, TopologyFormat},
    client::{Client, Info, segments},
    exit::{Exit, Failure},
    output::{self, Output},
    topology::{
        Declaration, Feature, File, Plan,
        plan::{self, Each, Note, Target},
        subjects::{self, Subject, Subjects},
    },
};

pub async fn run(client: Client, args: Apply, output: Output) -> Result<Exit, Failure> {
    let wanted = read(&args.file)?;
    let users = if wanted.subjects.users.is_empty() { Users::Unasked } else { Users::Needed };
    let mut plan = Plan::new(&current(&client, users).await?, &wanted, args.prune);
    ask(&client, &wanted, &mut plan).await?;
    let doing = !args.dry_run && !args.check && plan.is_possible();
    if !output.json {
        output::text(&plan.text())?;
    }
    if !plan.is_possible() {
        tell(&plan, 0, output)?;
        let advice = "nothing was changed; the lines that begin with ! say why";
        return Err(Failure::new(Exit::Refused, "the file cannot be applied").advise(advice));
    }
    let steps = if doing { carry_out(&client, &wanted, &plan, output).await? } else { 0 };
    tell(&plan, steps, output)?;
    match args.check && !plan.is_empty() {
        true => Ok(Exit::Differs),
        false => Ok(Exit::Done),
    }
}

fn tell(plan: &Plan, steps: usize, output: Output) -> Result<(), Failure> {
    match output.json {
        true => output.json(&json!({"plan": plan.json(), "steps_done": steps})),
        false if steps > 0 => output::text("applied"),
        false => Ok(()),
    }
}

/// Lets the server try what is planned for operations and pushes: it knows what is secret, and what it refuses.
async fn ask(client: &Client, wanted: &File, plan: &mut Plan) -> Result<(), Failure> {
    for mut step in std::mem::take(&mut plan.steps) {
        let declaration = &wanted.features[&(step.target.kind, step.target.name.clone())];
        match put(client, &step.target, declaration, true).await {
            Ok(done) if done.declared == Declared::Unchanged => plan.unchanged.push(step.target),
            Ok(_) => {
                if let plan::Action::Change { differences, .. } = &mut step.action
                    && differences.is_empty()
                {
                    differences.extend(declaration.secret_fields().into_iter().map(written));
                }
                plan.steps.push(step);
            }
            Err(Failure { exit: Exit::Refused, message, .. }) => {
                plan.conflicts.push(Note { target: step.target, text: message });
            }
            Err(failure) => return Err(failure.during(Each::Feature(&step).target())),
        }
    }
    Ok(())
}

/// That a field is set which is never shown.
fn written(field: &'static str) -> Difference {
    Difference { field: field.to_owned(), from: json!("(hidden)"), to: json!("(as in the file)") }
}

async fn put(
    client: &Client,
    target: &Target,
    declaration: &Declaration,
    dry_run: bool,
) -> Result<OperationDeclaration, Failure> {
    let request = client.request(Method::PUT, &path(target)).json(&declaration.body());
    client.json(request.query(&[("change", true), ("dry_run", dry_run)])).await
}

fn path(target: &Target) -> String {
    segments(&["v1", target.kind.path(), target.name.as_str()])
}

async fn carry_out(client: &Client, wanted: &File, plan: &Plan, output: Output) -> Result<usize, Failure> {
    let steps = plan.in_order();
    for (done, each) in steps.iter().enumerate() {
        let taken = match each {
            Each::Topology(step) => take(client, step).await,
            Each::Feature(step) => take_feature(client, wanted, step, output).await,
            Each::Subject(step) => take_subject(client, step).await,
        };
        taken.map_err(|failure| {
            let failure = failure.during(format!("{} (step {} of {})", each.target(), done + 1, steps.len()));
            match failure.advice {
                None => {
                    failure.advise(format!("{done} steps are done; apply the file again when this is mended"))
                }
                Some(_) => failure,
            }
        })?;
    }
    Ok(steps.len())
}

async fn take_feature(
    client: &Client,
    wanted: &File,
    step: &plan::Step,
    output: Output,
) -> Result<(), Failure> {
    let target = &step.target;
    if step.action == plan::Action::Delete {
        return gone(client.json(client.request(Method::DELETE, &path(target))).await);
    }
    let declaration = &wanted.features[&(target.kind, target.name.clone())];
    let done = put(client, target, declaration, false).await?;
    for warning in done.warnings.iter().filter(|_| !output.json) {
        writeln!(io::stderr(), "warning: {} {}: {warning}", target.kind, target.name)?;
    }
    Ok(())
}

async fn take_subject(client: &Client, step: &plan::Step<subjects::Target>) -> Result<(), Failure> {
    let subjects::Target { kind, name } = &step.target;
    // All of a virtual host; of a user that is there its limits alone.
    let method = match (kind, &step.action) {
        (Subject::User, plan::Action::Change { .. }) => Method::PATCH,
        _ => Method::PUT,
    };
    let request = client.request(method, &segments(&["v1", kind.table(), name])).json(&step.body());
    let request = if *kind == Subject::Vhost { request.query(&[("change", true)]) } else { request };
    client.json(request).await.map(|_: http::Declaration| ())
}

/// Gone between plan and step: that is what was wanted.
fn gone(removed: Result<Removed, Failure>) -> Result<(), Failure> {
    match removed {
        Err(failure) if failure.exit == Exit::NotFound => Ok(()),
        other => other.map(drop),
    }
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
        Action::Delete => gone(client.delete(kind, name, false, false).await),
    }
}

/// Writes the server's topology as a file.
pub async fn export(client: Client, to: Option<PathBuf>, format: TopologyFormat) -> Result<Exit, Failure> {
    let format = match format {
        TopologyFormat::Toml => Format::Toml,
        TopologyFormat::Json => Format::Json,
    };
    let text = current(&client, Users::Seen)
        .await?
        .write(format)
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
    let count = read(path)?.count();
    output.say(&json!({"file": path, "good": true, "declarations": count}), || {
        format!("{} is good: {count} declarations", path.display())
    })?;
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<File, Failure> {
    let named = path.display();
    let mut bytes = Vec::new();
    // One byte past the limit is enough to know that there are too many.
    let most = waystation_admin::document::DOCUMENT_BYTES_MAX as u64 + 1;
    let got = match path.as_os_str() == "-" {
        true => io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    got.map_err(|error| Failure::usage(format!("reading {named} failed: {error}")))?;
    File::read(&bytes).map_err(|error| Failure::usage(format!("{named}: {error}")))
}

/// Says that a route is not among what there is. Whoever may not see it may not change it either: a plan needs it not.
fn left_out(route: &Name) {
    let why = "how it is declared is shown only to those who may configure it";
    // What cannot be written is no reason to stop.
    let _ = writeln!(io::stderr(), "waystation: route '{route}' is left out: {why}");
}

/// Whether users are asked for: only administrators see them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Users {
    /// The file says nothing of them.
    Unasked,
    /// They go into an export, if they may be seen.
    Seen,
    /// The file says something of them.
    Needed,
}

async fn subjects_of(client: &Client, users: Users) -> Result<Subjects, Failure> {
    let mut subjects = Subjects::default();
    client.all("/v1/vhosts").await?.into_iter().for_each(|it: Vhost| subjects.insert_vhost(it));
    if users == Users::Unasked {
        return Ok(subjects);
    }
    match client.all("/v1/users").await {
        Ok(all) => all.into_iter().for_each(|it: User| subjects.insert_user(it)),
        Err(failure) if failure.exit == Exit::Denied && users == Users::Seen => {
            // What cannot be written is no reason to stop.
            let _ = writeln!(io::stderr(), "waystation: users are left out: only administrators see them");
        }
        Err(failure) => return Err(failure.during("reading the users that the file speaks of")),
    }
    Ok(subjects)
}

async fn current(client: &Client, users: Users) -> Result<File, Failure> {
    let mut file = File { subjects: subjects_of(client, users).await?, ..File::default() };
    for kind in [Kind::Queue, Kind::Topic, Kind::Subscription, Kind::Route] {
        for info in client.list(kind, None).await? {
            if let Info::Steps(info) = info {
                let Some(spec) = info.spec else {
                    left_out(&info.name);
                    continue;
                };
                let declaration = Declaration::Route(Box::new(spec));
                file.features.insert((Feature::Route, info.name), declaration);
                continue;
            }
            if let Some(spec) = info.spec() {
                file.topology.insert(info.name().clone(), spec);
            }
            if let Info::Route(info) = info
                && info.bindings > 0
            {
                let said = serde_json::to_value(client.bindings(info.name.as_str()).await?.items);
                let read = said.and_then(serde_json::from_value);
                let bindings = read.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
                file.topology.routes.entry(info.name).or_default().bindings = bindings;
            }
        }
    }
    for info in client.all("/v1/operations").await? {
        operation(&mut file, info)?;
    }
    for info in client.all("/v1/pushes").await? {
        push(&mut file, info);
    }
    for Rule { name, spec } in client.all("/v1/alert-rules").await? {
        file.features.insert((Feature::Alert, name), Declaration::Alert(Box::<AlertSpec>::new(spec)));
    }
    Ok(file)
}

fn operation(file: &mut File, info: OperationInfo) -> Result<(), Failure> {
    let OperationInfo { name, spec, upstream, callback_signatures } = info;
    let name = Name::new(name).map_err(|error| Failure::new(Exit::Failure, error))?;
    let headers = upstream.map(|upstream| upstream.header_names).unwrap_or_default();
    let hidden = [("callback_secrets", &callback_signatures), ("upstream.headers", &headers)];
    put_in(file, Feature::Operation, name, Declaration::Operation(Box::<Operation>::new(spec)), &hidden);
    Ok(())
}

fn push(file: &mut File, info: PushInfo) {
    let PushInfo { name, spec, signatures, header_names, .. } = info;
    let hidden = [("secrets", &signatures), ("headers", &header_names)];
    put_in(file, Feature::Push, name, Declaration::Push(Box::<PushSpec>::new(spec)), &hidden);
}

/// Puts in what a server shows, and a word on each field of it that is there and hidden.
fn put_in(
    file: &mut File,
    feature: Feature,
    name: Name,
    declaration: Declaration,
    hidden: &[(&str, &Vec<String>)],
) {
    let there = hidden.iter().filter(|(_, known)| !known.is_empty());
    let words: Vec<_> = there.map(|(field, known)| format!("{field} ({})", known.join(", "))).collect();
    if !words.is_empty() {
        file.left_out.insert((feature, name.clone()), words);
    }
    file.features.insert((feature, name), declaration);
}
