//! Of which kind is a route in the file? One table holds both: those with bindings, and those with `from` and `steps`. Their fields
//! are read together, so that an error has its place.

use serde::Deserialize;
use waystation_admin::bindings::{Binding, Route};
use waystation_broker::spec::{Arguments, BusinessKeys, RetryPolicy, RouteKind, RouteSpec};
use waystation_routes::{
    RouteSteps,
    spec::{From, KIND, Limits, Order, Step},
};

use super::declaration::Wrong;

/// Whatever a route may say.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    kind: Option<AnyKind>,
    durable: Option<bool>,
    auto_delete: Option<bool>,
    internal: Option<bool>,
    alternate: Option<String>,
    delay_header: Option<String>,
    business: Option<BusinessKeys>,
    arguments: Option<Arguments>,
    bindings: Option<Vec<Binding>>,
    from: Option<From>,
    steps: Option<Vec<Step>>,
    order: Option<Order>,
    dead_letter: Option<String>,
    retry: Option<RetryPolicy>,
    limits: Option<Limits>,
    cycle: Option<bool>,
    record: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnyKind {
    Direct,
    Fanout,
    Topic,
    Headers,
    Steps,
}

/// What it is.
pub enum Kind {
    /// Published to.
    Bindings(Route),
    /// It takes messages by itself.
    Steps(Box<RouteSteps>),
}

impl Fields {
    /// Tells the kind; fields of the other are an error.
    pub fn read(self) -> Result<Kind, Wrong> {
        let of_bindings = [
            ("durable", self.durable.is_some()),
            ("auto_delete", self.auto_delete.is_some()),
            ("internal", self.internal.is_some()),
            ("alternate", self.alternate.is_some()),
            ("delay_header", self.delay_header.is_some()),
            ("business", self.business.is_some()),
            ("arguments", self.arguments.is_some()),
            ("bindings", self.bindings.is_some()),
        ];
        let of_steps = [
            ("from", self.from.is_some()),
            ("steps", self.steps.is_some()),
            ("order", self.order.is_some()),
            ("dead_letter", self.dead_letter.is_some()),
            ("retry", self.retry.is_some()),
            ("limits", self.limits.is_some()),
            ("cycle", self.cycle.is_some()),
            ("record", self.record.is_some()),
        ];
        let has_steps = match self.kind {
            None => self.from.is_some() || self.steps.is_some(),
            Some(kind) => kind == AnyKind::Steps,
        };
        let (foreign, other) =
            if has_steps { (&of_bindings[..], "bindings") } else { (&of_steps[..], "steps") };
        if let Some((field, _)) = foreign.iter().find(|(_, given)| *given) {
            return Err(((*field).to_owned(), format!("belongs to routes with {other}")));
        }
        if has_steps { self.steps() } else { Ok(Kind::Bindings(self.bindings())) }
    }

    fn bindings(self) -> Route {
        let silent = RouteSpec::default();
        let kind = match self.kind {
            Some(AnyKind::Fanout) => RouteKind::Fanout,
            Some(AnyKind::Topic) => RouteKind::Topic,
            Some(AnyKind::Headers) => RouteKind::Headers,
            Some(AnyKind::Direct | AnyKind::Steps) | None => RouteKind::Direct,
        };
        let spec = RouteSpec {
            kind,
            durable: self.durable.unwrap_or(silent.durable),
            auto_delete: self.auto_delete.unwrap_or(silent.auto_delete),
            internal: self.internal.unwrap_or(silent.internal),
            alternate: self.alternate,
            delay_header: self.delay_header,
            business: self.business.map(Box::new),
            arguments: self.arguments.unwrap_or_default(),
        };
        Route { spec, bindings: self.bindings.unwrap_or_default() }
    }

    fn steps(self) -> Result<Kind, Wrong> {
        let needed = |field: &str| (field.to_owned(), format!("a route of the kind {KIND} needs it"));
        let silent = RouteSteps::silent();
        Ok(Kind::Steps(Box::new(RouteSteps {
            kind: silent.kind,
            from: self.from.ok_or_else(|| needed("from"))?,
            steps: self.steps.ok_or_else(|| needed("steps"))?,
            order: self.order.unwrap_or(silent.order),
            dead_letter: self.dead_letter,
            retry: self.retry.unwrap_or(silent.retry),
            limits: self.limits.unwrap_or(silent.limits),
            cycle: self.cycle.unwrap_or(silent.cycle),
            record: self.record.unwrap_or(silent.record),
        })))
    }
}
