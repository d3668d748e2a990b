//! Which operations can be there beside each other, and with which queues? Asked by whoever declares one, and by whoever plans to.

use waystation_base::Name;

use crate::{Operation, SpecError};

fn error(field: &'static str, reason: String) -> SpecError {
    SpecError { field, reason }
}

impl Operation {
    /// Checks it against all operations; one of its own name is not looked at.
    pub fn check_beside<'a>(
        &self,
        name: &Name,
        all: impl IntoIterator<Item = (&'a Name, &'a Operation)>,
    ) -> Result<(), SpecError> {
        let others = all.into_iter().filter(|(other, _)| *other != name);
        others.into_iter().try_for_each(|(other, spec)| {
            self.check_upstream(name, other, spec)?;
            self.check_intake(name, other, spec)
        })
    }

    /// An upstream takes what is on the queue: nobody else's requests may go there.
    fn check_upstream(&self, name: &Name, other: &Name, spec: &Operation) -> Result<(), SpecError> {
        let has_upstream = spec.upstream.is_some() || self.upstream.is_some();
        match has_upstream && spec.queue_name(other).ok() == self.queue_name(name).ok() {
            true => {
                let why = "with an upstream each needs its own";
                Err(error("queue", format!("operation '{other}' has this queue too; {why}")))
            }
            false => Ok(()),
        }
    }

    /// What an intake brings belongs to one operation, and is no other one's request.
    fn check_intake(&self, name: &Name, other: &Name, spec: &Operation) -> Result<(), SpecError> {
        let (intake, queue) = (self.intake_name().ok().flatten(), self.queue_name(name).ok());
        let (its_intake, its_queue) = (spec.intake_name().ok().flatten(), spec.queue_name(other).ok());
        let taken = intake.is_some() && (intake == its_intake || intake == its_queue);
        if !taken && (its_intake.is_none() || its_intake != queue) {
            return Ok(());
        }
        let (field, used) = if taken { ("intake", intake) } else { ("queue", queue) };
        let used = used.as_ref().map_or("", Name::as_str);
        let why = "and an intake has one operation";
        Err(error(field, format!("operation '{other}' uses the queue '{used}' already, {why}")))
    }

    /// Checks it against its queue, which gives a message up after so many attempts. One that gives up before its operation does would
    /// bury requests of which nobody then hears anything: their calls would wait for their deadlines.
    pub fn check_queue(&self, queue: &Name, attempts: Option<u32>) -> Result<(), SpecError> {
        match attempts.filter(|most| *most < self.max_attempts) {
            None => Ok(()),
            Some(most) => {
                let wanted = self.max_attempts;
                let what = format!("the queue '{queue}' gives up after {most} attempts, before {wanted}");
                let advice = format!("set this to at most {most}, or the queue's own max_attempts higher");
                Err(error("max_attempts", format!("{what}: {advice}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn operation(json: &str) -> Operation {
        serde_json::from_str(json).expect("an operation")
    }

    fn check(json: &str, other: &str, field: Option<&str>) {
        let (one, other) = (operation(json), operation(other));
        let found = one.check_beside(&name("a"), [(&name("a"), &one), (&name("b"), &other)]);
        assert_eq!(found.err().map(|error| error.field), field, "{json} beside {other:?}");
    }

    #[test]
    fn an_intake_and_an_upstreams_queue_belong_to_one_operation() {
        check("{}", "{}", None);
        check(r#"{"queue": "q"}"#, r#"{"queue": "q"}"#, None);
        check(r#"{"intake": "i"}"#, r#"{"intake": "j"}"#, None);
        check(r#"{"intake": "i"}"#, r#"{"intake": "i"}"#, Some("intake"));
        check(r#"{"intake": "b"}"#, "{}", Some("intake"));
        check("{}", r#"{"intake": "a"}"#, Some("queue"));
        check(r#"{"queue": "q", "upstream": {"url": "http://a/"}}"#, r#"{"queue": "q"}"#, Some("queue"));
    }

    #[test]
    fn a_queue_may_give_up_with_its_operation_and_not_before() {
        let operation = operation(r#"{"max_attempts": 3}"#);
        assert_eq!(operation.check_queue(&name("q"), None), Ok(()));
        assert_eq!(operation.check_queue(&name("q"), Some(3)), Ok(()));
        let error = operation.check_queue(&name("q"), Some(2)).expect_err("before it");
        assert!(
            error.field == "max_attempts" && error.reason.contains("after 2 attempts, before 3"),
            "{error}"
        );
    }
}
