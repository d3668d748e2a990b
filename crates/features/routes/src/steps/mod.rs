//! What does each step do? One file for each; here they are told apart.

mod aggregate;
mod choose;
mod claim;
pub(crate) mod condition;
mod enrich;
mod filter;
mod gather;
mod hold;
mod index;
mod recipients;
mod resequence;
mod send;
mod split;
mod table;
mod transform;

use crate::{
    Fault, Invalid,
    packet::Packet,
    program::{Compiler, invalid},
    run::{Rest, Run},
    spec::Step as Declared,
};

/// A step that can be run.
#[derive(Debug)]
pub(crate) enum Step {
    Filter(filter::Filter),
    Transform(transform::Transform),
    Split(split::Split),
    Send(send::Send),
    Choose(choose::Choose),
    Recipients(recipients::Recipients),
    Aggregate(aggregate::Aggregate),
    Resequence(resequence::Resequence),
    Gather(gather::Gather),
    Enrich(Box<enrich::Enrich>),
    Claim(claim::Claim),
    Redeem(claim::Redeem),
    Table(table::Table),
}

/// What becomes of a message after a step.
pub(crate) enum Flow<'p> {
    /// It goes on with the next one.
    On(Packet),
    /// It goes on with other steps, and then the next ones.
    Into(&'p [Step], Packet),
    /// Each of these goes on with the next one.
    Parts(Vec<Packet>),
    /// Nothing goes on.
    End,
}

impl Step {
    /// Compiles a step; says too whether messages may go on behind it.
    pub fn compile(compiler: &mut Compiler, at: &str, declared: &Declared) -> Result<(Step, bool), Invalid> {
        let main = main_member(at, declared)?;
        check_siblings(at, declared, main)?;
        let at = format!("{at}.{main}");
        match declared {
            Declared { filter: Some(condition), .. } => {
                let step = filter::Filter::compile(&at, condition, declared, false)?;
                Ok((Step::Filter(step), true))
            }
            Declared { validate: Some(condition), .. } => {
                let step = filter::Filter::compile(&at, condition, declared, true)?;
                Ok((Step::Filter(step), true))
            }
            Declared { transform: Some(spec), .. } => {
                Ok((Step::Transform(transform::Transform::compile(&at, spec)?), true))
            }
            Declared { split: Some(text), .. } => Ok((Step::Split(split::Split::compile(&at, text)?), true)),
            Declared { tap: Some(targets), .. } => {
                Ok((Step::Send(send::Send::compile(&at, targets, true)?), true))
            }
            Declared { to: Some(targets), .. } => {
                Ok((Step::Send(send::Send::compile(&at, targets, false)?), false))
            }
            Declared { choose: Some(cases), .. } => {
                let (step, goes_on) =
                    choose::Choose::compile(compiler, &at, cases, declared.otherwise.as_ref())?;
                Ok((Step::Choose(step), goes_on))
            }
            Declared { recipients: Some(text), .. } => {
                let allowed = declared.allowed.as_deref();
                Ok((Step::Recipients(recipients::Recipients::compile(&at, text, allowed)?), false))
            }
            Declared { aggregate: Some(spec), .. } => {
                Ok((Step::Aggregate(aggregate::Aggregate::compile(compiler, &at, spec)?), true))
            }
            Declared { resequence: Some(spec), .. } => {
                Ok((Step::Resequence(resequence::Resequence::compile(compiler, &at, spec)?), true))
            }
            Declared { gather: Some(spec), .. } => {
                Ok((Step::Gather(gather::Gather::compile(compiler, &at, spec)?), true))
            }
            Declared { enrich: Some(spec), .. } => {
                Ok((Step::Enrich(Box::new(enrich::Enrich::compile(&at, spec)?)), true))
            }
            Declared { claim: Some(spec), .. } => Ok((Step::Claim(claim::Claim::compile(&at, spec)?), true)),
            Declared { redeem: Some(store), .. } => {
                Ok((Step::Redeem(claim::Redeem::compile(&at, store)?), true))
            }
            Declared { table: Some(spec), .. } => {
                Ok((Step::Table(table::Table::compile(&at, spec, declared.otherwise_to.as_ref())?), false))
            }
            _ => unreachable!("one of its members is there"),
        }
    }

    /// Does it with one message.
    pub async fn run<'p>(&'p self, run: &mut Run<'_>, packet: Packet) -> Result<Flow<'p>, Fault> {
        match self {
            Step::Filter(step) => step.run(run, packet).await,
            Step::Transform(step) => step.run(run, packet).await,
            Step::Split(step) => step.run(run, packet).await,
            Step::Send(step) => step.run(run, packet).await,
            Step::Choose(step) => step.run(run, packet).await,
            Step::Recipients(step) => step.run(run, packet).await,
            Step::Aggregate(step) => step.run(run, packet).await,
            Step::Resequence(step) => step.run(run, packet).await,
            Step::Gather(step) => step.run(run, packet).await,
            Step::Enrich(step) => step.run(run, packet).await,
            Step::Claim(step) => step.run(run, packet).await,
            Step::Redeem(step) => step.run(run, packet).await,
            Step::Table(step) => step.run(run, packet).await,
        }
    }

    /// Where it stands.
    pub fn at(&self) -> &std::sync::Arc<str> {
        match self {
            Step::Filter(step) => &step.at,
            Step::Transform(step) => &step.at,
            Step::Split(step) => &step.at,
            Step::Send(step) => &step.at,
            Step::Choose(step) => &step.at,
            Step::Recipients(step) => &step.at,
            Step::Aggregate(step) => &step.place.at,
            Step::Resequence(step) => &step.place.at,
            Step::Gather(step) => &step.place.at,
            Step::Enrich(step) => &step.at,
            Step::Claim(step) => &step.at,
            Step::Redeem(step) => &step.at,
            Step::Table(step) => &step.at,
        }
    }
}

/// The one member that says what a step does.
fn main_member(at: &str, step: &Declared) -> Result<&'static str, Invalid> {
    let members = [
        ("filter", step.filter.is_some()),
        ("validate", step.validate.is_some()),
        ("transform", step.transform.is_some()),
        ("split", step.split.is_some()),
        ("tap", step.tap.is_some()),
        ("choose", step.choose.is_some()),
        ("recipients", step.recipients.is_some()),
        ("aggregate", step.aggregate.is_some()),
        ("resequence", step.resequence.is_some()),
        ("gather", step.gather.is_some()),
        ("enrich", step.enrich.is_some()),
        ("claim", step.claim.is_some()),
        ("redeem", step.redeem.is_some()),
        ("table", step.table.is_some()),
        ("to", step.to.is_some()),
    ];
    let mut given = members.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
    match (given.next(), given.next()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(other)) => Err(invalid(
            at,
            format!("has '{one}' and '{other}'; a step does one thing: make two steps of it"),
        )),
        (None, _) => {
            let names: Vec<_> = members.iter().map(|(name, _)| *name).collect();
            Err(invalid(at, format!("says nothing to do; give one of {}", names.join(", "))))
        }
    }
}

/// Members that belong to others.
fn check_siblings(at: &str, step: &Declared, main: &str) -> Result<(), Invalid> {
    let siblings: [(&str, bool, &[&str]); 3] = [
        ("else", step.otherwise_to.is_some(), &["filter", "validate", "table"]),
        ("otherwise", step.otherwise.is_some(), &["choose"]),
        ("allowed", step.allowed.is_some(), &["recipients"]),
    ];
    for (name, given, belongs_to) in siblings {
        if given && !belongs_to.contains(&main) {
            let reason = format!("belongs to {}, not to '{main}'", belongs_to.join(" and "));
            return Err(invalid(format!("{at}.{name}"), reason));
        }
    }
    Ok(())
}

/// Runs a message through what is left of its way.
pub(crate) fn go<'a>(
    run: &'a mut Run<'_>,
    rest: Rest<'a>,
    packet: Packet,
) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>> {
    Box::pin(async move {
        let (mut rest, mut packet) = (rest, packet);
        loop {
            let Some((step, behind)) = rest.next() else { return Ok(()) };
            let flow = step.run(run, packet).await.inspect_err(|fault| run.failed(step.at(), fault))?;
            match flow {
                Flow::On(on) => (rest, packet) = (behind, on),
                Flow::Into(steps, on) => return go(run, Rest { steps, then: Some(&behind) }, on).await,
                Flow::End => return Ok(()),
                Flow::Parts(parts) => {
                    for (index, part) in parts.into_iter().enumerate() {
                        run.enter_part(index as u32);
                        go(run, behind, part).await?;
                        run.leave_part();
                    }
                    return Ok(());
                }
            }
        }
    })
}
