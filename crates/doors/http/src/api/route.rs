//! What is said of routes with steps: what a trial is asked, and what it comes to?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_broker::{spec::RouteSpec, view::RouteInfo};
use waystation_routes::{Ending, RouteSteps, RouteStepsInfo, Said};

use super::{Line, Received};

/// A route of either kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AnyRoute {
    /// It takes messages from its source.
    Steps(Box<RouteStepsInfo>),
    /// It is published to.
    Bindings(Box<RouteInfo>),
}

impl AnyRoute {
    /// Its name.
    pub fn name(&self) -> &waystation_base::Name {
        match self {
            AnyRoute::Steps(info) => &info.name,
            AnyRoute::Bindings(info) => &info.name,
        }
    }
}

/// A declaration of either kind; `from` and `steps` tell one with steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum RouteDeclaration {
    /// It takes messages from its source.
    Steps(Box<RouteSteps>),
    /// It is published to.
    Bindings(Box<RouteSpec>),
}

/// What a route is to be tried on: messages that are given, the last ones of its source, or both.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrialRequest {
    /// Another declaration than the present one; differences are told. The route need not be there then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<RouteSteps>,
    /// Messages, at most 1000 together with `last`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Line>,
    /// The address that they are published to; none: the source, if that is one queue or topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The routing key that they are published with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// So many of the last messages that the source still has.
    pub last: usize,
}

/// What came of a trial.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Trial {
    /// Message by message.
    pub tried: Vec<TriedMessage>,
    /// Messages of which the present declaration would make something else.
    pub different: u64,
}

/// What came of one message. Nothing was published.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TriedMessage {
    /// The message.
    pub message: Received,
    /// What would become of it, in one word.
    pub ending: Ending,
    /// Why it fails, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// At which step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What would be sent, and where to.
    pub outputs: Vec<MadeOutput>,
    /// What each step says, and why.
    pub trail: Vec<Said>,
    /// With another declaration: whether the present one makes something else of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<bool>,
    /// With another declaration, if they differ: what the present one makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<Made>,
}

/// What a declaration makes of a message.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Made {
    /// In one word.
    pub ending: Ending,
    /// Why it fails, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// At which step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What would be sent, and where to.
    pub outputs: Vec<MadeOutput>,
    /// What each step says, and why.
    pub trail: Vec<Said>,
}

/// A message that would be sent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MadeOutput {
    /// Where to.
    pub to: String,
    /// The message.
    pub message: Received,
}
