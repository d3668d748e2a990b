//! Who may do what, for all doors: tokens of the configuration, and users with passwords, tags and permissions for each
//! virtual host, which are kept as documents in the broker.
//!
//! This crate refuses to know protocols: a door brings a name and a proof, and asks what the caller may do.

mod access;
mod caller;
mod change;
mod check;
mod grant;
mod operate;
mod password;
mod pattern;
mod state;
mod token;
mod user;

pub use access::{Access, LoginError, check_tokens};
pub use caller::{Action, Caller};
pub use change::{Credential, Error, UserChange};
pub use check::{TOKEN_BYTES_MAX, WAITING_MAX};
pub use grant::{Permission, REGEX_BYTES_MAX, TopicPermission};
pub use operate::Gone;
pub use password::{Algorithm, PASSWORD_BYTES_MAX};
pub use state::USERS_MAX;
pub use token::{NewToken, TokenEntry, TokenError, new_token};
pub use user::{GUEST, LimitsChange, Tags, USER_NAME_BYTES_MAX, User, UserLimits};
