//! What do queues, topics, subscriptions and routes have in common, and what is each one's own?

use serde::{Serialize, de::DeserializeOwned};
use waystation_base::Name;
use waystation_broker::{
    Kind as Thing,
    spec::{BEFORE, QueueSpec, RouteSpec, Spec, SubscriptionSpec, TopicSpec},
    view::{QueueInfo, RouteInfo, SubscriptionInfo, TopicInfo},
};
use waystation_host::View;

use crate::{
    auth::{Caller, Permission},
    failure::Failure,
};

/// What the kinds have in common.
pub trait Entity {
    type Spec: Serialize + DeserializeOwned + Send;
    type Info: Serialize + Send + 'static;
    const THING: Thing;
    fn spec(spec: Self::Spec) -> Spec;
    fn spec_of(info: &Self::Info) -> &Self::Spec;
    fn info(view: &View<'_>, name: &Name) -> Option<Self::Info>;
    /// What declaring it so lets somebody do elsewhere.
    fn check(caller: &Caller, spec: &Self::Spec) -> Result<(), Failure>;
}

pub struct Queue;
pub struct Topic;
pub struct Subscription;
pub struct Route;

/// A kind over which policies are laid: what was declared is told apart from what they made of it, which callers see beside.
macro_rules! under_policies {
    ($kind:ident, $spec:ident, $info:ident, $read:ident, $check:expr) => {
        impl Entity for $kind {
            type Spec = $spec;
            type Info = $info;
            const THING: Thing = Thing::$kind;

            fn spec(mut spec: $spec) -> Spec {
                spec.arguments.remove(BEFORE);
                Spec::$kind(spec)
            }

            fn spec_of(info: &$info) -> &$spec {
                &info.spec
            }

            fn info(view: &View<'_>, name: &Name) -> Option<$info> {
                let mut info = view.$read(name)?;
                let declared = info.spec.clone().declared();
                if declared != info.spec {
                    let mut effective = std::mem::replace(&mut info.spec, declared);
                    effective.arguments.remove(BEFORE);
                    info.effective = Some(Box::new(effective));
                }
                Some(info)
            }

            fn check(caller: &Caller, spec: &$spec) -> Result<(), Failure> {
                $check(caller, spec)
            }
        }
    };
}

under_policies!(Queue, QueueSpec, QueueInfo, queue, check_queue);
under_policies!(Topic, TopicSpec, TopicInfo, topic, |_: &Caller, _: &TopicSpec| Ok(()));
under_policies!(Route, RouteSpec, RouteInfo, route, |caller: &Caller, spec: &RouteSpec| {
    may_write(caller, spec.alternate.as_deref())
});

fn may_write(caller: &Caller, address: Option<&str>) -> Result<(), Failure> {
    address.map_or(Ok(()), |address| caller.require_all(Permission::Write, address))
}

fn check_queue(caller: &Caller, spec: &QueueSpec) -> Result<(), Failure> {
    if spec.exclusive {
        return Err(Failure::field("exclusive", "needs a session that lasts, which HTTP does not have"));
    }
    may_write(caller, spec.dead_letter.as_deref())?;
    may_write(caller, spec.dead_letter_route.as_deref().filter(|route| !route.is_empty()))
}

impl Entity for Subscription {
    type Spec = SubscriptionSpec;
    type Info = SubscriptionInfo;
    const THING: Thing = Thing::Subscription;

    fn spec(spec: SubscriptionSpec) -> Spec {
        Spec::Subscription(spec)
    }

    fn spec_of(info: &SubscriptionInfo) -> &SubscriptionSpec {
        &info.spec
    }

    fn info(view: &View<'_>, name: &Name) -> Option<SubscriptionInfo> {
        view.subscription(name)
    }

    fn check(caller: &Caller, spec: &SubscriptionSpec) -> Result<(), Failure> {
        caller.require_all(Permission::Read, &spec.topic)?;
        may_write(caller, spec.dead_letter.as_deref())
    }
}
