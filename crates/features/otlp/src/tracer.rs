//! Which spans do facts make? One of each wait of a message, `wait`, and one of each time that a consumer held it, `deliver`.
//!
//! Both are children of whoever published: the `traceparent` goes on to the consumer as it came, so his spans are beside them. A message that
//! came from another one links to the delivery in which that was done.

use std::{collections::VecDeque, sync::Arc};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use waystation_base::{
    EntityId, Millis, Name,
    trace::{Context, SpanId, TraceId, delivery_span, span_id},
};
use waystation_broker::entry::Reason;
use waystation_record::{Attribute, Client, Fact, Fate, Place, Published, Tap, Told, What};

use crate::{
    HashMap,
    export::Counts,
    outlet::Outlet,
    span::{Draft, number, text},
};

/// Messages that are followed at a time, and deliveries that are remembered for links; of more the oldest are forgotten, and counted.
pub const MESSAGES_MAX: usize = 1 << 16;

/// A message under way.
struct Message {
    context: Context,
    address: Name,
    published: Published,
    /// From when on it could be handed out.
    ready_at: Millis,
    /// Of a topic: what each subscription makes of it. Of a queue: one, without a name.
    copies: Vec<Copy>,
}

/// What a queue or subscription makes of a message.
struct Copy {
    subscription: Option<EntityId>,
    stage: Stage,
    /// What its consumer said of the failure that the next fact is about.
    said: Option<String>,
}

enum Stage {
    Waits { since: Millis },
    Held { since: Millis, attempt: u32, client: Option<Client> },
}

/// Hears facts, gives spans.
pub struct Tracer {
    messages: HashMap<Place, Message>,
    order: VecDeque<Place>,
    /// By message id: the delivery in which it was done, for those that came from it.
    deliveries: HashMap<String, (TraceId, SpanId)>,
    delivered: VecDeque<String>,
    outlet: Arc<Outlet>,
    counts: Arc<Counts>,
}

impl Tracer {
    pub(crate) fn new(outlet: Arc<Outlet>, counts: Arc<Counts>) -> Tracer {
        let (messages, deliveries) = (HashMap::default(), HashMap::default());
        Tracer { messages, order: VecDeque::new(), deliveries, delivered: VecDeque::new(), outlet, counts }
    }

    fn begin(&mut self, told: &Told<'_>, published: &Published) {
        let context = published.attribute(Attribute::Traceparent).and_then(Context::parse);
        let Some((context, address)) = context.filter(|context| context.is_sampled).zip(told.address) else {
            return;
        };
        let ready_at = told.fact.at.plus(published.delay_ms.unwrap_or(0));
        let (address, published) = (address.clone(), published.clone());
        let message = Message { context, address, published, ready_at, copies: Vec::new() };
        if self.messages.insert(told.place, message).is_none() {
            self.order.push_back(told.place);
        }
        while self.order.len() > MESSAGES_MAX {
            if let Some(oldest) = self.order.pop_front()
                && self.messages.remove(&oldest).is_some()
            {
                self.counts.forgotten();
            }
        }
    }

    fn go_on(&mut self, told: &Told<'_>) {
        let Some(message) = self.messages.get_mut(&told.place) else { return };
        let Fact { at, subscription, what, .. } = told.fact;
        let ready_at = message.ready_at;
        let known = message.copies.iter().position(|copy| copy.subscription == *subscription);
        let index = known.unwrap_or_else(|| {
            let stage = Stage::Waits { since: ready_at };
            message.copies.push(Copy { subscription: *subscription, stage, said: None });
            message.copies.len() - 1
        });
        if let What::Failed { error, .. } = what {
            message.copies[index].said = error.clone();
            return;
        }
        let next = match what {
            What::Handed { attempt, .. } => {
                Some(Stage::Held { since: *at, attempt: attempt.0, client: told.client.cloned() })
            }
            What::Returned { delay_ms, .. } => Some(Stage::Waits { since: at.plus(*delay_ms) }),
            What::Condemned { .. } => Some(Stage::Waits { since: *at }),
            What::Done { .. } => None,
            What::Published(_) | What::Failed { .. } | What::Extended { .. } | What::Called { .. } => return,
        };
        let is_over = next.is_none() && subscription.is_none();
        let copy = &mut message.copies[index];
        let before = std::mem::replace(&mut copy.stage, next.unwrap_or(Stage::Waits { since: *at }));
        let said = copy.said.take();
        self.end(told, &before, said);
        if is_over {
            self.messages.remove(&told.place);
            self.forget_order();
        }
    }

    /// The order names messages that are over, too: not more of them than of the others.
    fn forget_order(&mut self) {
        if self.order.len() > 64 && self.order.len() > 2 * self.messages.len() {
            let messages = &self.messages;
            self.order.retain(|place| messages.contains_key(place));
        }
    }

    /// Gives the span of the stage that ends with this fact.
    fn end(&mut self, told: &Told<'_>, stage: &Stage, said: Option<String>) {
        let Some(message) = self.messages.get(&told.place) else { return };
        let mut attributes = common(message, told.subscription);
        let place = told.place.key().to_be_bytes();
        let copy = told.fact.subscription.map_or(0, |id| id.0).to_be_bytes();
        let at = told.fact.at;
        let (operation, kind, from, id, error) = match stage {
            Stage::Waits { since } => {
                let error = match &told.fact.what {
                    What::Done { reason, .. } if *reason == Reason::DeadLettered => return,
                    What::Done { reason, .. } => Some(left(*reason, &mut attributes)),
                    _ => None,
                };
                let id = span_id(&[b"wait", &place, &copy, &since.0.to_be_bytes()]);
                ("wait", SpanKind::Consumer, *since, id, error.flatten())
            }
            Stage::Held { since, attempt, client } => {
                let error = outcome(&told.fact.what, said, &mut attributes);
                attributes.push(number("waystation.attempt", (*attempt).into()));
                client.iter().for_each(|client| consumer(client, &mut attributes));
                let id = match &told.fact.what {
                    // Handed out again it has the same number.
                    What::Returned { attempt: next, .. } if next.0 < *attempt => {
                        span_id(&[b"released", &place, &copy, &since.0.to_be_bytes()])
                    }
                    _ => delivery_of(message, told, *attempt),
                };
                ("deliver", SpanKind::Producer, *since, id, error)
            }
        };
        let links = message.published.attribute(Attribute::Cause);
        let links = links.and_then(|cause| self.deliveries.get(cause)).copied().into_iter().collect();
        let draft = Draft {
            context: message.context,
            id,
            name: format!("{operation} {}", message.address),
            kind,
            from,
            to: at,
            attributes,
            error,
            links,
        };
        let span = draft.span();
        if operation == "deliver" {
            let cause = (message.context.trace_id, id);
            let message = message.published.id.to_string();
            self.remember(message, cause);
            self.outlet.send_delivery(id, span);
        } else {
            self.outlet.send(span);
        }
    }

    fn remember(&mut self, id: String, delivery: (TraceId, SpanId)) {
        if self.deliveries.insert(id.clone(), delivery).is_none() {
            self.delivered.push_back(id);
        }
        if self.delivered.len() > MESSAGES_MAX
            && let Some(oldest) = self.delivered.pop_front()
        {
            self.deliveries.remove(&oldest);
        }
    }
}

impl Tap for Tracer {
    fn tell(&mut self, told: &Told<'_>) {
        match &told.fact.what {
            // What nothing took waits nowhere and goes to nobody.
            What::Published(published) if published.fate != Fate::Stored => {}
            What::Published(published) => self.begin(told, published),
            _ => self.go_on(told),
        }
    }
}

/// What whoever has the delivery calls its span.
fn delivery_of(message: &Message, told: &Told<'_>, attempt: u32) -> SpanId {
    let (id, copy) = (message.published.id, told.subscription.map_or("", Name::as_str));
    delivery_span(id, message.address.as_str(), told.place.offset, copy, attempt)
}

type Attributes = Vec<opentelemetry_proto::tonic::common::v1::KeyValue>;

fn common(message: &Message, subscription: Option<&Name>) -> Attributes {
    let published = &message.published;
    let mut attributes = vec![
        text("messaging.system", "waystation"),
        text("messaging.destination.name", message.address.as_str()),
        text("messaging.message.id", published.id.to_string()),
        number("messaging.message.body.size", published.bytes.into()),
    ];
    let told = [
        (Attribute::CorrelationId, "messaging.message.conversation_id"),
        (Attribute::MessageId, "waystation.message.sender_id"),
        (Attribute::Cause, "waystation.cause"),
        (Attribute::Route, "waystation.exchange"),
        (Attribute::RoutingKey, "messaging.rabbitmq.destination.routing_key"),
        (Attribute::StepRoute, "waystation.route"),
        (Attribute::Redrive, "waystation.redrive"),
        (Attribute::DeathReason, "waystation.dead_letter.reason"),
        (Attribute::DeathSource, "waystation.dead_letter.source"),
        (Attribute::Operation, "waystation.operation"),
        (Attribute::Call, "waystation.call"),
    ];
    for (kind, key) in told {
        attributes.extend(published.attribute(kind).map(|value| text(key, value)));
    }
    attributes
        .extend(subscription.map(|name| text("messaging.destination.subscription.name", name.as_str())));
    attributes
}

fn consumer(client: &Client, attributes: &mut Attributes) {
    attributes.push(text("waystation.consumer.door", client.door.as_str()));
    let told = [
        (&client.address, "client.address"),
        (&client.user, "waystation.consumer.user"),
        (&client.name, "messaging.client.id"),
    ];
    for (value, key) in told {
        if !value.is_empty() {
            attributes.push(text(key, value.as_str()));
        }
    }
}

/// Why a message left that nobody held.
fn left(reason: Reason, attributes: &mut Attributes) -> Option<String> {
    attributes.push(text("messaging.operation.type", "settle"));
    attributes.push(text("waystation.outcome", reason.as_str()));
    let is_good = matches!(reason, Reason::Accepted | Reason::Filtered | Reason::Purged);
    (!is_good).then(|| format!("it left unread: {}", reason.as_str()))
}

/// How a delivery ended.
fn outcome(what: &What, said: Option<String>, attributes: &mut Attributes) -> Option<String> {
    attributes.push(text("messaging.operation.type", "process"));
    let (outcome, error) = match what {
        What::Done { reason, .. } => (reason.as_str(), (*reason != Reason::Accepted).then(String::new)),
        What::Condemned { reason, error, .. } => (reason.as_str(), Some(error.clone().unwrap_or_default())),
        What::Returned { .. } => ("returned", Some(said.unwrap_or_default())),
        _ => ("handed on", None),
    };
    attributes.push(text("waystation.outcome", outcome));
    let error = error.map(|said| if said.is_empty() { outcome.to_owned() } else { said });
    if error.is_some() {
        attributes.push(text("error.type", outcome));
    }
    error
}
