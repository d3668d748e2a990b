//! Who calls, and what may he do? Tokens with permissions; nothing of the kind for callers on this machine.

mod origin;
mod token;
mod verify;

use std::sync::Arc;

use waystation_base::{Name, name};

pub(crate) use origin::check as check_origin;
pub use token::{NewToken, TokenEntry, TokenError, new_token};
pub use verify::Auth;

use crate::failure::{Failure, Kind};
use token::Token;

/// What a token may allow, for names that match one of its patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Publish,
    Consume,
    Configure,
}

impl Permission {
    fn name(self) -> &'static str {
        match self {
            Permission::Publish => "publish",
            Permission::Consume => "consume",
            Permission::Configure => "configure",
        }
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Somebody on this machine: everything is allowed.
    Local,
    /// The bearer of a token.
    Bearer(Arc<Token>),
}

impl Caller {
    /// Refuses what the token does not allow, naming what is missing.
    pub fn require(&self, permission: Permission, name: &Name) -> Result<(), Failure> {
        self.require_all(permission, name.as_str())
    }

    /// The same for every name that a pattern stands for.
    pub fn require_all(&self, permission: Permission, pattern: &str) -> Result<(), Failure> {
        let Caller::Bearer(token) = self else { return Ok(()) };
        if token.patterns(permission).iter().any(|granted| covers(granted, pattern)) {
            return Ok(());
        }
        let missing = format!("{}:{pattern}", permission.name());
        let detail =
            format!("token '{}' lacks the permission {} on '{pattern}'", token.name, permission.name());
        Err(Failure::new(Kind::Forbidden, detail).with(|problem| problem.permission = Some(missing)))
    }

    /// Whether anything at all is allowed on a name, so that it may be seen.
    pub fn may_see(&self, name: &Name) -> bool {
        let Caller::Bearer(token) = self else { return true };
        let all = [Permission::Publish, Permission::Consume, Permission::Configure];
        let mut patterns = all.iter().flat_map(|permission| token.patterns(*permission));
        patterns.any(|pattern| name::matches(pattern, name.as_str()))
    }

    /// [`Caller::may_see`], or a refusal.
    pub fn require_sight(&self, name: &Name) -> Result<(), Failure> {
        if self.may_see(name) { Ok(()) } else { self.require(Permission::Configure, name) }
    }
}

/// Whether every name that `asked` stands for is one that `granted` stands for. It may say no where a longer look would
/// say yes, never the other way round.
fn covers(granted: &str, asked: &str) -> bool {
    fn words(granted: &[&str], asked: &[&str]) -> bool {
        match (granted, asked) {
            ([], asked) => asked.is_empty(),
            (["#", rest @ ..], asked) => {
                rest.is_empty() || (0..=asked.len()).any(|taken| words(rest, &asked[taken..]))
            }
            ([_, ..], []) => false,
            ([granted, rest @ ..], [asked, tail @ ..]) => {
                (*asked != "#" && (*granted == "*" || granted == asked)) && words(rest, tail)
            }
        }
    }
    // Without wildcards in what is asked, the matcher that everybody uses decides.
    if !name::is_pattern(asked) {
        return name::matches(granted, asked);
    }
    // A token's pattern with many '#' could make the search long; such a one grants plain names only.
    let granted: Vec<_> = granted.split('.').collect();
    let asked: Vec<_> = asked.split('.').collect();
    granted.iter().filter(|word| **word == "#").count() <= 2 && words(&granted, &asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_no_more_than_it_grants() {
        for (granted, asked, expected) in [
            ("#", "orders.#", true),
            ("orders.#", "orders.*", true),
            ("orders.#", "orders.#", true),
            ("orders.*", "orders.*", true),
            ("orders.*", "orders.#", false),
            ("orders.*", "orders.eu", true),
            ("orders.eu", "orders.*", false),
            ("#.late", "*.late", true),
            ("#.late", "#", false),
            ("*.#", "#", false),
            ("orders", "orders", true),
            ("orders", "order", false),
        ] {
            assert_eq!(covers(granted, asked), expected, "{granted} over {asked}");
        }
    }

    #[test]
    fn a_refusal_names_the_missing_permission() {
        let entry = TokenEntry { publish: vec!["orders.#".into()], ..TokenEntry::example("shop") };
        let caller = Caller::Bearer(Arc::new(Token::new(entry).expect("good")));
        let orders = Name::new("orders.eu").expect("a name");
        assert!(caller.require(Permission::Publish, &orders).is_ok());
        let Failure(problem) = caller.require(Permission::Consume, &orders).expect_err("not granted");
        assert_eq!((problem.status, problem.permission.as_deref()), (403, Some("consume:orders.eu")));
        assert!(caller.may_see(&orders));
        assert!(caller.require_sight(&Name::new("bills").expect("a name")).is_err());
        assert!(Caller::Local.require(Permission::Configure, &orders).is_ok());
    }
}
