//! How are users, permissions, virtual hosts and policies set, shown and taken away?

use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value, json};
use waystation_http::api::{
    Declaration, Declared, List, Permission, Policy, Removed, TopicPermission, User, Vhost,
};

use super::secret;
use crate::{
    args::{
        access::{
            PermissionCommand, PolicyCommand, PolicyPlace, UserCommand, UserLimitFields, VhostCommand,
            VhostFields,
        },
        entities::{self, Setting},
    },
    client::{Client, segments},
    exit::{Exit, Failure},
    output::{self, Output},
};

/// Items asked for with one request of a list.
const PAGE: &str = "1000";

/// A server and a place for results.
struct Context {
    client: Client,
    output: Output,
}

/// Texts with commas, or none.
fn words(said: &Setting<String>) -> Vec<String> {
    let all = said.0.iter().flat_map(|text| text.split(','));
    all.map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl Context {
    async fn put(&self, path: &str, change: bool, body: &Value, what: &str) -> Result<Exit, Failure> {
        let request = self.client.request(Method::PUT, path).json(body);
        let request = if change { request.query(&[("change", "true")]) } else { request };
        let done: Declaration = self.client.json(request).await?;
        self.declared(done, what)
    }

    fn declared(&self, done: Declaration, what: &str) -> Result<Exit, Failure> {
        let verb = match done.declared {
            Declared::Created => "is created",
            Declared::Changed => "is changed",
            Declared::Unchanged => "is there just so; nothing was changed",
        };
        self.output.say(&done, || format!("{what} {verb}"))?;
        Ok(Exit::Done)
    }

    async fn delete(&self, path: &str, if_exists: bool, what: &str) -> Result<Exit, Failure> {
        let removed: Removed = match self.client.json(self.client.request(Method::DELETE, path)).await {
            Err(failure) if failure.exit == Exit::NotFound && if_exists => {
                self.output.say(&Removed::default(), || format!("there is no {what}"))?;
                return Ok(Exit::Done);
            }
            other => other?,
        };
        self.output.say(&removed, || format!("{what} is deleted"))?;
        Ok(Exit::Done)
    }

    /// A table, or JSON; nothing for nothing.
    fn list<T: Serialize>(
        &self,
        columns: &[&str],
        items: &[T],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<Exit, Failure> {
        if self.output.json {
            self.output.json(&items)?;
        } else if !items.is_empty() {
            output::text(&output::table(columns, items.iter().map(row).collect()))?;
        }
        Ok(Exit::Done)
    }

    /// All pages of what is listed by name.
    async fn pages<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let request = self.client.request(Method::GET, path).query(&[("limit", PAGE)]);
            let request = match &after {
                Some(name) => request.query(&[("after", name)]),
                None => request,
            };
            let page: List<T> = self.client.json(request).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// What is listed at once, as far as these parameters say.
    async fn chosen<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        chosen: &[(&str, Option<String>)],
    ) -> Result<Vec<T>, Failure> {
        let given: Vec<(&str, &String)> =
            chosen.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
        let list: List<T> = self.client.json(self.client.request(Method::GET, path).query(&given)).await?;
        Ok(list.items)
    }
}

pub async fn user(client: Client, command: UserCommand, output: Output) -> Result<Exit, Failure> {
    let context = Context { client, output };
    let path = |name: &str| segments(&["v1", "users", name]);
    match command {
        UserCommand::Add { name, tags, limits, secret } => {
            let mut fields = Map::from_iter([("tags".to_owned(), json!(tags))]);
            put_limits(&mut fields, &limits);
            secret::put(&mut fields, &name, &secret, true)?;
            context.put(&path(&name), false, &fields.into(), &format!("user {name}")).await
        }
        UserCommand::List => {
            let users: Vec<User> = context.pages("/v1/users").await?;
            context.list(&["user", "tags", "password", "limits"], &users, |user| {
                let password = if user.has_password { "yes" } else { "none" };
                vec![user.name.clone(), user.tags.join(","), password.to_owned(), in_a_line(&user.limits)]
            })
        }
        UserCommand::Show { name } => show_user(&context, &name).await,
        UserCommand::Change { name, tags, limits } => {
            let mut fields = Map::new();
            if let Some(tags) = &tags {
                fields.insert("tags".to_owned(), json!(words(tags)));
            }
            put_limits(&mut fields, &limits);
            change_user(&context, &name, fields).await
        }
        UserCommand::Password { name, secret } => {
            let mut fields = Map::new();
            secret::put(&mut fields, &name, &secret, false)?;
            change_user(&context, &name, fields).await
        }
        UserCommand::Delete { name, if_exists } => {
            context.delete(&path(&name), if_exists, &format!("user {name}")).await
        }
    }
}

/// Puts the limits that were said into a request.
fn put_limits(fields: &mut Map<String, Value>, said: &UserLimitFields) {
    let mut limits = Map::new();
    entities::put(&mut limits, "max_connections", &said.max_connections);
    entities::put(&mut limits, "max_channels", &said.max_channels);
    if !limits.is_empty() {
        fields.insert("limits".to_owned(), limits.into());
    }
}

async fn change_user(context: &Context, name: &str, fields: Map<String, Value>) -> Result<Exit, Failure> {
    let path = segments(&["v1", "users", name]);
    let request = context.client.request(Method::PATCH, &path).json(&fields);
    let done = context.client.json(request).await?;
    context.declared(done, &format!("user {name}"))
}

async fn show_user(context: &Context, name: &str) -> Result<Exit, Failure> {
    let request = context.client.request(Method::GET, &segments(&["v1", "users", name]));
    let user: User = context.client.json(request).await?;
    let of = [("user", Some(name.to_owned()))];
    let permissions: Vec<Permission> = context.chosen("/v1/permissions", &of).await?;
    let topics: Vec<TopicPermission> = context.chosen("/v1/topic-permissions", &of).await?;
    let mut value = serde_json::to_value(&user).unwrap_or_default();
    (value["permissions"], value["topic_permissions"]) = (json!(permissions), json!(topics));
    context.output.say(&value, || {
        let password = if user.has_password { "yes" } else { "none" };
        let (name, tags, limits) = (&user.name, user.tags.join(","), in_a_line(&user.limits));
        let head = format!("user      {name}\ntags      {tags}\npassword  {password}\nlimits    {limits}");
        let mut parts = vec![head];
        if !permissions.is_empty() {
            parts.push(output::table(PERMISSION, permissions.iter().map(permission_row).collect()));
        }
        if !topics.is_empty() {
            parts.push(output::table(TOPIC_PERMISSION, topics.iter().map(topic_row).collect()));
        }
        parts.join("\n\n")
    })?;
    Ok(Exit::Done)
}

const PERMISSION: &[&str] = &["vhost", "user", "configure", "write", "read"];
const TOPIC_PERMISSION: &[&str] = &["vhost", "user", "exchange", "write", "read"];

fn permission_row(it: &Permission) -> Vec<String> {
    [&it.vhost, &it.user, &it.configure, &it.write, &it.read].map(Clone::clone).into()
}

fn topic_row(it: &TopicPermission) -> Vec<String> {
    [&it.vhost, &it.user, &it.exchange, &it.write, &it.read].map(Clone::clone).into()
}

pub async fn permission(client: Client, command: PermissionCommand, output: Output) -> Result<Exit, Failure> {
    let context = Context { client, output };
    match command {
        PermissionCommand::Grant { user, vhost, configure, write, read, all } => {
            let path = segments(&["v1", "permissions", &vhost, &user]);
            let expression = |given: String| if all { ".*".to_owned() } else { given };
            let [configure, write, read] = [configure, write, read].map(expression);
            let body = json!({"configure": configure, "write": write, "read": read});
            let what = format!("the permission of user {user} in virtual host {vhost}");
            context.put(&path, false, &body, &what).await
        }
        PermissionCommand::GrantTopic { user, exchange, vhost, write, read } => {
            let path = segments(&["v1", "topic-permissions", &vhost, &user, &exchange]);
            let body = json!({"write": write, "read": read});
            let what = format!("the topic permission of user {user} on exchange {exchange} in {vhost}");
            context.put(&path, false, &body, &what).await
        }
        PermissionCommand::List { user, vhost } => {
            let of = [("user", user), ("vhost", vhost)];
            let all: Vec<Permission> = context.chosen("/v1/permissions", &of).await?;
            context.list(PERMISSION, &all, permission_row)
        }
        PermissionCommand::ListTopics { user, vhost } => {
            let of = [("user", user), ("vhost", vhost)];
            let all: Vec<TopicPermission> = context.chosen("/v1/topic-permissions", &of).await?;
            context.list(TOPIC_PERMISSION, &all, topic_row)
        }
        PermissionCommand::Revoke { user, vhost } => {
            let what = format!("the permission of user {user} in virtual host {vhost}");
            context.delete(&segments(&["v1", "permissions", &vhost, &user]), false, &what).await
        }
        PermissionCommand::RevokeTopic { user, exchange, vhost } => {
            let path = segments(&["v1", "topic-permissions", &vhost, &user, &exchange]);
            let what = format!("the topic permission of user {user} on exchange {exchange} in {vhost}");
            context.delete(&path, false, &what).await
        }
    }
}

/// What was said, over what is there.
fn vhost_body(mut have: Vhost, fields: &VhostFields) -> Value {
    have.description = fields.description.clone().unwrap_or(have.description);
    have.tags = fields.tags.as_ref().map_or(have.tags, words);
    have.default_queue_type =
        fields.default_queue_type.as_ref().map_or(have.default_queue_type, |said| said.0.clone());
    let mut limits = serde_json::to_value(&have.limits).unwrap_or_default();
    let said = [
        ("rate", &fields.rate),
        ("concurrency", &fields.concurrency),
        ("max_queues", &fields.max_queues),
        ("max_connections", &fields.max_connections),
    ];
    for (name, value) in said.into_iter().filter_map(|(name, said)| Some((name, said.as_ref()?))) {
        limits[name] = value.0.clone().unwrap_or_default();
    }
    json!({
        "description": have.description,
        "tags": have.tags,
        "default_queue_type": have.default_queue_type,
        "limits": limits,
    })
}

/// The limits of a virtual host in a line, and which of them hold messages back now.
fn limits_of(host: &Vhost) -> String {
    let held_back = host.state.iter().flat_map(|state| &state.held_back);
    let why = held_back.map(|why| format!(" held back: {}", json!(why).as_str().unwrap_or_default()));
    in_a_line(&host.limits) + &why.collect::<String>()
}

/// Limits in a line.
fn in_a_line(limits: &impl Serialize) -> String {
    let limits = serde_json::to_value(limits).unwrap_or_default();
    let each = limits.as_object().into_iter().flatten().map(|(name, value)| match name.as_str() {
        "rate" => format!("rate={}/{}ms", value["messages"], value["per_ms"]),
        name => format!("{name}={value}"),
    });
    each.collect::<Vec<_>>().join(" ")
}

pub async fn vhost(client: Client, command: VhostCommand, output: Output) -> Result<Exit, Failure> {
    let context = Context { client, output };
    let path = |name: &str| segments(&["v1", "vhosts", name]);
    let what = |name: &str| format!("virtual host {name}");
    match command {
        VhostCommand::Create { name, fields } => {
            let body = vhost_body(Vhost::default(), &fields);
            context.put(&path(&name), false, &body, &what(&name)).await
        }
        VhostCommand::List => {
            let all: Vec<Vhost> = context.pages("/v1/vhosts").await?;
            context.list(&["vhost", "description", "tags", "default queue type", "limits"], &all, |it| {
                let kind = it.default_queue_type.clone().unwrap_or_default();
                vec![it.name.clone(), it.description.clone(), it.tags.join(","), kind, limits_of(it)]
            })
        }
        VhostCommand::Change { name, fields } => {
            let have = context.client.json(context.client.request(Method::GET, &path(&name))).await?;
            context.put(&path(&name), true, &vhost_body(have, &fields), &what(&name)).await
        }
        VhostCommand::Delete { name, if_exists } => {
            context.delete(&path(&name), if_exists, &what(&name)).await
        }
    }
}

fn policies(operator: bool) -> &'static str {
    if operator { "operator-policies" } else { "policies" }
}

pub async fn policy(client: Client, command: PolicyCommand, output: Output) -> Result<Exit, Failure> {
    let context = Context { client, output };
    let path =
        |place: &PolicyPlace, name: &str| segments(&["v1", policies(place.operator), &place.vhost, name]);
    let what = |place: &PolicyPlace, name: &str| format!("policy {name} in virtual host {}", place.vhost);
    match command {
        PolicyCommand::Set { name, pattern, definition, apply_to, priority, place } => {
            let body = json!({
                "pattern": pattern, "definition": definition, "apply_to": apply_to, "priority": priority
            });
            context.put(&path(&place, &name), true, &body, &what(&place, &name)).await
        }
        PolicyCommand::List { vhost, operator } => {
            let of = [("vhost", vhost)];
            let all: Vec<Policy> = context.chosen(&format!("/v1/{}", policies(operator)), &of).await?;
            context.list(
                &["vhost", "policy", "pattern", "applies to", ">priority", "definition"],
                &all,
                |it| {
                    let definition = Value::Object(it.definition.clone()).to_string();
                    let priority = it.priority.to_string();
                    [&it.vhost, &it.name, &it.pattern, &it.apply_to, &priority, &definition]
                        .map(Clone::clone)
                        .into()
                },
            )
        }
        PolicyCommand::Delete { name, if_exists, place } => {
            context.delete(&path(&place, &name), if_exists, &what(&place, &name)).await
        }
    }
}
