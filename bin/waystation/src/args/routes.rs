//! What can be said of routes and their bindings?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{
    entities::{Delete, List, Setting, business, object, put, put_business, put_plain, setting, text},
    messages::header,
};

/// The fields of a route that can be changed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Route")]
pub struct RouteFields {
    /// Whether it is there after a restart
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub durable: Option<bool>,
    /// It goes when its last binding has gone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub auto_delete: Option<bool>,
    /// Only other routes may bring messages to it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub internal: Option<bool>,
    /// The route for messages that nothing takes
    #[arg(long, value_name = "ROUTE|none", value_parser = setting(text))]
    pub alternate: Option<Setting<String>>,
    /// The header that holds a message's delay in milliseconds
    #[arg(long, value_name = "HEADER|none", value_parser = setting(text))]
    pub delay_header: Option<Setting<String>>,
    /// A business key by which what is published to it is found, like order=.order.id (a path in the JSON body) or
    /// customer=header:x-customer; may be said again; all keys are said anew, none takes them away
    #[arg(long, value_name = "KEY=PATH|none", value_parser = business)]
    pub business: Vec<Setting<(String, Value)>>,
    /// More to keep and show beside it, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub arguments: Option<Value>,
}

impl RouteFields {
    /// What was said, as the declaration's fields.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put_plain(&mut fields, "durable", &self.durable);
        put_plain(&mut fields, "auto_delete", &self.auto_delete);
        put_plain(&mut fields, "internal", &self.internal);
        put(&mut fields, "alternate", &self.alternate);
        put(&mut fields, "delay_header", &self.delay_header);
        put_business(&mut fields, &self.business);
        put_plain(&mut fields, "arguments", &self.arguments);
        fields
    }
}

/// One binding.
#[derive(Clone, Debug, Args)]
pub struct Binding {
    /// The route that hands on
    pub name: String,
    /// What it hands on to: a queue or topic
    #[arg(long, value_name = "ADDRESS", required_unless_present = "to_route", conflicts_with = "to_route")]
    pub to: Option<String>,
    /// What it hands on to: another route
    #[arg(long, value_name = "ROUTE")]
    pub to_route: Option<String>,
    /// The key to be equal to; for a route by topic a pattern (`*` one word, `#` any number, words parted by dots)
    #[arg(long, default_value = "", hide_default_value = true)]
    pub key: String,
    /// For a route by headers: what they must be, as a JSON object: {"x-match": "any", "region": "eu"}
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub arguments: Option<Value>,
}

/// Commands about routes.
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Make a route; fine if it is there just so
    Create {
        /// Its name
        name: String,
        /// A file (TOML or JSON; - for standard input) that declares it: `from`, `steps` and what else belongs to one with steps
        #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "RouteFields"])]
        file: Option<PathBuf>,
        /// direct: equal keys; fanout: everything; topic: patterns; headers: what the messages' headers are
        #[arg(long, value_name = "KIND", value_parser = ["direct", "fanout", "topic", "headers"])]
        kind: Option<String>,
        #[command(flatten)]
        fields: RouteFields,
    },
    /// List routes
    List(List),
    /// Show one with its bindings
    Show {
        /// Its name
        name: String,
    },
    /// Change what is given, and leave the rest as it is
    Change {
        /// Its name
        name: String,
        /// A file that declares it anew as one with steps; `route test --file` tells what would differ
        #[arg(long, value_name = "FILE", conflicts_with = "RouteFields")]
        file: Option<PathBuf>,
        #[command(flatten)]
        fields: RouteFields,
    },
    /// Delete one with its bindings
    Delete(Delete),
    /// Let it hand on to a queue, topic or route; fine if it does already
    Bind(Binding),
    /// Let it not hand on any more
    Unbind(Binding),
    /// Run a route on given or stored messages without any effect: what would come of them, and why
    Test(Trial),
    /// Say why a message went where it went: which routes took it, what they made of it, and what did not match
    Explain {
        /// Waystation's id of the message, a UUID
        message: String,
    },
    /// Let a route with steps rest; what it has not taken stays where it is
    Pause {
        /// Its name
        name: String,
    },
    /// Let it work again
    Resume {
        /// Its name
        name: String,
    },
}

/// What a route is tried on.
#[derive(Clone, Debug, Args)]
pub struct Trial {
    /// The route
    pub name: String,
    /// A file with another declaration: the differences to the present one are told
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// So many of the last messages that its source still has
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub last: usize,
    /// A message with this body; JSON if it is, else text
    #[arg(long, value_name = "TEXT", conflicts_with = "ndjson")]
    pub body: Option<String>,
    /// With --body: a header NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE", requires = "body", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// With --body: its media type
    #[arg(long, value_name = "TYPE", requires = "body")]
    pub content_type: Option<String>,
    /// With --body: its key
    #[arg(long, requires = "body")]
    pub key: Option<String>,
    /// A file of messages, one a line, as `publish --ndjson` takes them; - for standard input
    #[arg(long, value_name = "FILE")]
    pub ndjson: Option<PathBuf>,
    /// The address that given messages are published to; the source, if that is one queue or topic
    #[arg(long)]
    pub address: Option<String>,
    /// The routing key that given messages are published with
    #[arg(long, value_name = "KEY")]
    pub routing_key: Option<String>,
    /// Show only messages of which the present declaration makes something else
    #[arg(long, requires = "file")]
    pub differences: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use waystation_broker::spec::RouteSpec;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(arguments: &str) -> Result<RouteCommand, String> {
        let all = std::iter::once("waystation").chain(arguments.split_whitespace());
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Route(command) => Ok(command),
            other => panic!("{other:?} is not about routes"),
        }
    }

    #[test]
    fn every_field_of_a_route_has_an_option() {
        let all = "route create r --kind topic --durable=false --auto-delete --internal --alternate rest \
            --delay-header x-delay --business order=.order.id --arguments {}";
        let Ok(RouteCommand::Create { kind, fields, .. }) = parse(all) else { panic!("a route") };
        let mut fields = fields.fields();
        fields.insert("kind".into(), kind.into());
        let spec: RouteSpec = serde_json::from_value(Value::Object(fields.clone())).expect("a declaration");
        assert!(!spec.durable && spec.auto_delete && spec.internal);
        let Ok(Value::Object(known)) = serde_json::to_value(RouteSpec::default()) else {
            panic!("an object")
        };
        assert_eq!(fields.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_binding_has_exactly_one_end() {
        let Ok(RouteCommand::Bind(binding)) = parse("route bind r --to q --key a.#") else {
            panic!("a binding")
        };
        assert_eq!((binding.to.as_deref(), binding.key.as_str()), (Some("q"), "a.#"));
        assert!(parse("route unbind r --to-route other").is_ok());
        for wrong in ["route bind r", "route bind r --to q --to-route other"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
