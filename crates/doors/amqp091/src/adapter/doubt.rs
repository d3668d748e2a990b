//! May a message go to an exchange whose topic permission does not allow its key? Only if the exchange is none of type topic
//! (RabbitMQ asks for topic permissions there alone), which only the broker knows.

use waystation_base::Name;
use waystation_broker::{spec::RouteKind, view::RouteInfo};

use super::{
    calls::Done,
    connection::{Connection, Context},
    outcome::failure,
    publish::Ready,
};
use crate::session::{Answer, Failure};

/// What speaks against a message if its exchange is of type topic.
#[derive(Debug)]
pub(super) struct Doubt {
    /// The exchange.
    pub route: Name,
    /// What the client is told then.
    pub failure: Failure,
}

/// Whether the doubt was right.
pub(super) async fn check(context: &Context, doubt: Doubt) -> Result<(), Failure> {
    let Doubt { route, failure: refused } = doubt;
    let is_topic = |info: RouteInfo| info.spec.kind == RouteKind::Topic;
    let found = context.door.broker.query(move |view| view.route(&route).is_some_and(is_topic)).await;
    if found.map_err(|refusal| failure(&refusal, &context.vhost))? { Err(refused) } else { Ok(()) }
}

impl Connection {
    /// Looks whether a message may go where it is to go; its channel waits meanwhile, so that nothing overtakes it.
    pub fn look_into(&mut self, doubt: Doubt, ready: Ready) {
        let Some(context) = self.context.clone() else { return };
        self.session.hold(ready.channel());
        self.calls.push(Box::pin(async move {
            let checked = check(&context, doubt).await;
            Done::LookedInto(Box::new(ready), checked)
        }));
    }

    /// It may, or may not.
    pub fn looked_into(&mut self, ready: Ready, checked: Result<(), Failure>) {
        let channel = ready.channel();
        let answer = match checked {
            Ok(()) => Answer::Sent,
            Err(failure) => Answer::Failed(failure),
        };
        if self.session.is_open(channel) && matches!(answer, Answer::Sent) {
            self.gather_ready(ready);
        }
        self.session.answered(channel, answer, &mut self.actions);
    }
}
