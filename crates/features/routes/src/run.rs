//! What becomes of one message in a route? The one evaluation that the engine, trials and explanations use: it publishes nothing.

use std::sync::Arc;

use waystation_base::{Message, Name, Value, message::header};

use crate::{
    Fault, FaultKind, Program, Said, Tools, Verdict,
    names::header as own,
    packet::Packet,
    spec::{Destination, Limits},
    steps::{self, Step},
    trail::Trail,
};

/// What the names begin with of the headers, besides [`header::REDRIVE`], by which a redrive knows its messages.
const REDRIVE_PREFIX: &str = "ws-redrive-";

/// Whether a header says how a redrive brought a message back.
pub(crate) fn is_of_redrive(name: &str) -> bool {
    name == header::REDRIVE || name.starts_with(REDRIVE_PREFIX)
}

/// What came of one message.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// What is to be published, in order; nothing, if it failed.
    pub outputs: Vec<Output>,
    /// What each step said.
    pub trail: Vec<Said>,
    /// Why it failed, if it did, and at which step.
    pub fault: Option<(Arc<str>, Fault)>,
}

impl Evaluation {
    /// Bytes of what is to be published.
    pub fn size(&self) -> usize {
        self.outputs.iter().map(|output| output.message.size()).sum()
    }
}

/// How much the steps say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Say {
    /// What each step did, and why.
    pub why: bool,
    /// Of cases that cannot hold, too.
    pub every: bool,
}

impl Say {
    /// All of it.
    pub const ALL: Say = Say { why: true, every: true };

    /// What was done and why, or nothing.
    pub fn why(why: bool) -> Say {
        Say { why, every: false }
    }
}

/// A message on its way out. Its id is still that of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Where to.
    pub to: Destination,
    /// The message.
    pub message: Message,
}

/// What is left of a message's way: steps, and what comes behind them.
#[derive(Clone, Copy)]
pub(crate) struct Rest<'a> {
    pub steps: &'a [Step],
    pub then: Option<&'a Rest<'a>>,
}

impl<'a> Rest<'a> {
    /// The next step, and what is left behind it.
    pub fn next(self) -> Option<(&'a Step, Rest<'a>)> {
        match (self.steps.split_first(), self.then) {
            (Some((step, steps)), then) => Some((step, Rest { steps, then })),
            (None, Some(then)) => then.next(),
            (None, None) => None,
        }
    }
}

/// An evaluation under way.
pub(crate) struct Run<'t> {
    pub tools: &'t Tools,
    pub route: &'t Name,
    pub limits: &'t Limits,
    pub level: Say,
    pub outputs: Vec<Output>,
    output_bytes: usize,
    /// What the message has become so far: one, or the parts that it was divided into.
    messages: usize,
    hops: u32,
    trail: Trail,
    part: Vec<u32>,
    failed_at: Option<Arc<str>>,
}

/// Routes that a message has passed, since somebody brought it back if somebody did: what went round too often can be tried again.
pub fn hops(message: &Message) -> u32 {
    if message.headers.get(header::REDRIVE).is_some() {
        return 0;
    }
    let hops = message.headers.get(own::HOPS).and_then(Value::as_i64).unwrap_or_default();
    u32::try_from(hops).unwrap_or_default()
}

/// Evaluates a message of this address.
pub async fn evaluate(
    program: &Program,
    tools: &Tools,
    address: Name,
    message: Message,
    level: Say,
) -> Evaluation {
    evaluate_steps(program, tools, &program.steps, Packet::new(address, message), level).await
}

/// Evaluates what some of a route's steps make of a message.
pub(crate) async fn evaluate_steps(
    program: &Program,
    tools: &Tools,
    steps: &[Step],
    packet: Packet,
    level: Say,
) -> Evaluation {
    let hops = hops(&packet.message);
    let mut run = Run {
        tools,
        route: &program.name,
        limits: &program.limits,
        level,
        outputs: Vec::new(),
        output_bytes: 0,
        messages: 1,
        hops,
        trail: Trail::default(),
        part: Vec::new(),
        failed_at: None,
    };
    let result = if hops >= program.limits.hops {
        let reason =
            format!("it has passed {hops} routes, and 'limits.hops' allows no more: do routes go round?");
        let fault = Fault::new(FaultKind::Hops, reason);
        run.failed(&Arc::from("limits.hops"), &fault);
        Err(fault)
    } else {
        let rest = Rest { steps, then: None };
        steps::go(&mut run, rest, packet).await
    };
    match result {
        Ok(()) => Evaluation { outputs: run.outputs, trail: run.trail.finish(), fault: None },
        Err(fault) => {
            let at = run.failed_at.unwrap_or_default();
            Evaluation { outputs: Vec::new(), trail: run.trail.finish(), fault: Some((at, fault)) }
        }
    }
}

/// An evaluation that fails before it begins.
pub(crate) fn failed(at: Arc<str>, fault: Fault) -> Evaluation {
    let said = Said {
        step: at.clone(),
        verdict: Verdict::Failed,
        part: Vec::new(),
        detail: Some(fault.reason.clone()),
    };
    Evaluation { outputs: Vec::new(), trail: vec![said], fault: Some((at, fault)) }
}

impl Run<'_> {
    /// Whether nothing may come of it: somebody tries, or asks for an explanation.
    pub fn is_trial(&self) -> bool {
        self.level == Say::ALL
    }

    /// A step says what it found or did, if somebody wants to know.
    pub fn say(&mut self, at: &Arc<str>, verdict: Verdict, detail: Option<String>) {
        if !self.level.why {
            return;
        }
        self.trail.say(Said { step: at.clone(), verdict, part: self.part.clone(), detail });
    }

    /// A step failed.
    pub fn failed(&mut self, at: &Arc<str>, fault: &Fault) {
        if self.failed_at.is_none() {
            self.failed_at = Some(at.clone());
            self.say(at, Verdict::Failed, Some(fault.reason.clone()));
        }
    }

    /// One of the messages that it has become is divided once more. They are bounded, since each is work, whether it is sent or not.
    pub fn divide(&mut self, parts: usize) -> Result<(), Fault> {
        self.messages += parts.saturating_sub(1);
        let most = self.limits.outputs;
        if self.messages > most as usize {
            return Err(Fault::limit(format!(
                "it is divided into more than {most} parts ('limits.outputs')"
            )));
        }
        Ok(())
    }

    /// What follows is about one part of what was split.
    pub fn enter_part(&mut self, index: u32) {
        self.part.push(index);
    }

    /// That part is done.
    pub fn leave_part(&mut self) {
        self.part.pop();
    }

    /// Sends a message to each of these.
    pub async fn send(&mut self, at: &Arc<str>, packet: &Packet, to: &[Destination]) -> Result<(), Fault> {
        let outgoing = packet.message().await?;
        for destination in to {
            let destination = destination.for_key(packet.routing_key());
            let message = self.leave(&outgoing, &destination);
            self.output_bytes += message.size();
            if self.outputs.len() == self.limits.outputs as usize {
                let reason = format!("it has more than {} outputs ('limits.outputs')", self.limits.outputs);
                return Err(Fault::limit(reason));
            }
            if self.output_bytes > self.limits.output_bytes {
                let most = self.limits.output_bytes;
                return Err(Fault::limit(format!(
                    "its outputs have more than {most} bytes ('limits.output_bytes')"
                )));
            }
            message.check().map_err(Fault::limit)?;
            self.outputs.push(Output { to: destination, message });
        }
        let names = || to.iter().map(Destination::to_string).collect::<Vec<_>>().join(", ");
        match to {
            [] => self.say(at, Verdict::Ended, None),
            _ if self.level.why => self.say(at, Verdict::Sent, Some(names())),
            _ => {}
        }
        Ok(())
    }

    /// What a message says of its way.
    fn leave(&self, outgoing: &Message, to: &Destination) -> Message {
        let mut message = outgoing.clone();
        let headers = &mut message.headers;
        // They say how it came here.
        for gone in [header::ROUTE, header::ROUTING_KEY, header::CC] {
            headers.remove(gone);
        }
        // What a redrive said of the input does not hold for what was made of it: an undo takes back what says so.
        headers.0.retain(|(name, _)| !is_of_redrive(name));
        if let Destination::Route(route, key) = to {
            headers.set(header::ROUTE, route.as_str());
            headers.set(header::ROUTING_KEY, key.as_deref().unwrap_or_default());
        }
        headers.set(header::CAUSE, message.id.to_string().as_str());
        headers.set(own::ROUTE, self.route.as_str());
        headers.set(own::HOPS, i64::from(self.hops) + 1);
        message.deliver_at = None;
        message
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waystation_base::os::OsClock;
    use waystation_jq::{Command, Pool};

    use super::*;
    use crate::RouteSteps;

    fn tools() -> Tools {
        // No program is run here.
        let command = Command { program: "/none".into(), arguments: Vec::new() };
        Tools::new(Pool::new(command, waystation_jq::Limits::default()), Arc::new(OsClock))
    }

    fn program(change: impl FnOnce(&mut RouteSteps)) -> Program {
        let json = serde_json::json!({
            "from": {"queue": "in"},
            "steps": [{"tap": ["a", "b"]}, {"to": {"route": "r"}}],
        });
        let mut spec: RouteSteps = serde_json::from_value(json).expect("a route");
        change(&mut spec);
        Program::compile(&name("r"), &spec).expect("it compiles")
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn message() -> Message {
        let mut message = Message { body: "body".into(), ..Message::default() };
        message.headers.set(header::ROUTING_KEY, "k");
        message.headers.set(header::REDRIVE, "r1");
        message.headers.set(header::REDRIVE_FROM, "dead");
        message
    }

    async fn run(change: impl FnOnce(&mut RouteSteps), message: Message) -> Evaluation {
        evaluate(&program(change), &tools(), name("in"), message, Say::ALL).await
    }

    #[tokio::test]
    async fn outputs_say_where_they_came_from_and_a_route_is_given_the_messages_key() {
        let outputs = run(|_| (), message()).await.outputs;
        let to: Vec<String> = outputs.iter().map(|output| output.to.to_string()).collect();
        assert_eq!(to, ["a", "b", "route r by 'k'"]);
        let text = |at: usize, name: &str| outputs[at].message.headers.text(name).map(str::to_owned);
        assert_eq!((text(0, header::ROUTING_KEY), text(0, own::ROUTE)), (None, Some("r".into())));
        assert_eq!(
            (text(2, header::ROUTING_KEY), text(2, header::ROUTE)),
            (Some("k".into()), Some("r".into()))
        );
        for output in &outputs {
            let headers = &output.message.headers;
            assert_eq!((headers.get(header::REDRIVE), headers.get(header::REDRIVE_FROM)), (None, None));
        }
        assert_eq!((hops(&outputs[0].message), text(0, header::CAUSE)), (1, Some(message().id.to_string())));
    }

    #[tokio::test]
    async fn limits_of_one_message_hold_at_their_bounds_and_nothing_is_sent_past_them() {
        let bytes = run(|_| (), message()).await.size();
        let hopped = |hops: u32| {
            let mut message = message();
            message.headers.remove(header::REDRIVE);
            message.headers.set(own::HOPS, i64::from(hops));
            message
        };
        let check = |evaluation: Evaluation, kind: Option<FaultKind>| {
            assert_eq!(evaluation.fault.as_ref().map(|(_, fault)| fault.kind), kind, "{evaluation:?}");
            assert_eq!(evaluation.outputs.len(), if kind.is_none() { 3 } else { 0 });
        };
        check(run(|it| it.limits.outputs = 3, message()).await, None);
        check(run(|it| it.limits.outputs = 2, message()).await, Some(FaultKind::Limit));
        check(run(|it| it.limits.output_bytes = bytes, message()).await, None);
        check(run(|it| it.limits.output_bytes = bytes - 1, message()).await, Some(FaultKind::Limit));
        check(run(|it| it.limits.hops = 5, hopped(4)).await, None);
        check(run(|it| it.limits.hops = 5, hopped(5)).await, Some(FaultKind::Hops));
        let mut redriven = hopped(5);
        redriven.headers.set(header::REDRIVE, "r1");
        check(run(|it| it.limits.hops = 5, redriven).await, None);
    }
}
