//! How are routes made, shown, bound, unbound and removed?

use serde_json::{Value, json};
use waystation_broker::Kind;
use waystation_http::api::{Binding as Asked, Bindings, Declaration, Declared, Removed};

use super::{entities::Context, route_steps, show};
use crate::{
    args::routes::{Binding, RouteCommand},
    client::{Client, Info},
    exit::{Exit, Failure},
    output::Output,
};

pub async fn route(client: Client, command: RouteCommand, output: Output) -> Result<Exit, Failure> {
    let context = Context { client, output, kind: Kind::Route };
    match command {
        RouteCommand::Create { name, file: Some(file), .. } => {
            route_steps::put(&context, &name, &file, false).await
        }
        RouteCommand::Change { name, file: Some(file), .. } => {
            route_steps::put(&context, &name, &file, true).await
        }
        RouteCommand::Test(trial) => route_steps::test(&context, trial).await,
        RouteCommand::Explain { message } => route_steps::explain(&context, &message).await,
        RouteCommand::Pause { name } => route_steps::set(&context, &name, "pause").await,
        RouteCommand::Resume { name } => route_steps::set(&context, &name, "resume").await,
        RouteCommand::Create { name, kind, fields, .. } => {
            let mut fields = fields.fields();
            fields.extend(kind.map(|kind| ("kind".to_owned(), kind.into())));
            context.create(&name, fields).await
        }
        RouteCommand::List(list) => context.list(list).await,
        RouteCommand::Show { name } => show_one(&context, &name).await,
        RouteCommand::Change { name, fields, .. } => context.change(&name, fields.fields()).await,
        RouteCommand::Delete(delete) => context.delete(delete).await,
        RouteCommand::Bind(binding) => {
            let (name, asked) = asked(binding);
            let done: Declaration = context.client.post(Kind::Route, &name, "bind", &asked).await?;
            context.output.say(&done, || match done.declared {
                Declared::Unchanged => format!("route {name} is bound to {} already", end(&asked)),
                _ => format!("route {name} is bound to {}", end(&asked)),
            })?;
            Ok(Exit::Done)
        }
        RouteCommand::Unbind(binding) => {
            let (name, asked) = asked(binding);
            let done: Removed = context.client.post(Kind::Route, &name, "unbind", &asked).await?;
            context.output.say(&done, || match done.removed {
                0 => format!("route {name} is not bound to {}", end(&asked)),
                _ => format!("route {name} is bound to {} no more", end(&asked)),
            })?;
            Ok(Exit::Done)
        }
    }
}

fn asked(binding: Binding) -> (String, Asked) {
    let Binding { name, to, to_route, key, arguments } = binding;
    let arguments = match arguments {
        Some(Value::Object(arguments)) => arguments,
        _ => Default::default(),
    };
    (name, Asked { to, to_route, key, arguments })
}

/// Where a binding leads, and by which key.
fn end(binding: &Asked) -> String {
    let to = match (&binding.to, &binding.to_route) {
        (Some(to), _) => to.clone(),
        (None, route) => format!("route {}", route.as_deref().unwrap_or_default()),
    };
    let with = if binding.arguments.is_empty() {
        String::new()
    } else {
        format!(" with {}", Value::Object(binding.arguments.clone()))
    };
    format!("{to} by '{}'{with}", binding.key)
}

async fn show_one(context: &Context, name: &str) -> Result<Exit, Failure> {
    let info = context.client.show(Kind::Route, name).await?;
    let bindings: Bindings = match &info {
        Info::Route(info) if info.bindings > 0 => context.client.bindings(name).await?,
        _ => Bindings::default(),
    };
    let mut value = serde_json::to_value(&info).unwrap_or_default();
    value["bindings"] = json!(bindings.items);
    context.output.say(&value, || {
        let lines: Vec<String> =
            bindings.items.iter().map(|binding| format!("\n-> {}", end(binding))).collect();
        let gap = if lines.is_empty() { "" } else { "\n" };
        format!("{}{gap}{}", show::details(&info), lines.concat())
    })?;
    Ok(Exit::Done)
}
