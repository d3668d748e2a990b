//! Who is let in: users, tokens, certificates, and the guest of a server that was just started.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use waystation_broker::Refusal;
use waystation_host::Broker;

use crate::{
    caller::Caller,
    check::{Busy, Checker, TOKEN_BYTES_MAX, WAITING_MAX},
    operate::Ears,
    password::PASSWORD_BYTES_MAX,
    state::{PREFIX, State},
    token::{Token, TokenEntry, TokenError, name_of},
    user::GUEST,
};

type Tokens = HashMap<String, Arc<Token>>;

/// Users and tokens that are valid now. Clones share them.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    tokens: RwLock<Arc<Tokens>>,
    state: RwLock<Arc<State>>,
    generation: AtomicU64,
    checker: Checker,
    loaded: tokio::sync::OnceCell<()>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    ears: Ears,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Wrong name, wrong password: which one is not told.
    #[error("name and password do not fit together")]
    Refused,
    /// The guest comes from another machine.
    #[error("user '{GUEST}' can only connect from this machine")]
    LoopbackOnly,
    /// Too many wait for their secrets to be checked.
    #[error("{WAITING_MAX} callers wait for their secrets to be checked")]
    Busy,
}

impl From<Busy> for LoginError {
    fn from(Busy: Busy) -> LoginError {
        LoginError::Busy
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Access").field(&self.tokens().keys()).finish()
    }
}

impl Access {
    /// With these tokens, and without users.
    pub fn new(tokens: Vec<TokenEntry>) -> io::Result<Access> {
        let tokens = index(tokens).map_err(io::Error::other)?;
        let state = State::read(Vec::<(_, Vec<u8>)>::new(), !tokens.is_empty());
        Ok(Access(Arc::new(Inner {
            tokens: RwLock::new(Arc::new(tokens)),
            state: RwLock::new(Arc::new(state)),
            generation: AtomicU64::new(0),
            checker: Checker::new()?,
            loaded: tokio::sync::OnceCell::new(),
            changing: tokio::sync::Mutex::default(),
            ears: Ears::default(),
        })))
    }

    /// Reads the users that the broker keeps. Each door calls it before it lets anybody in; the first call reads.
    pub async fn load(&self, broker: &Broker) -> Result<(), Refusal> {
        let read = async {
            let documents = broker.documents(PREFIX.to_owned()).await?;
            self.modify(|state| *state = State::read(documents, state.has_tokens));
            Ok(())
        };
        self.0.loaded.get_or_try_init(|| read).await.copied()
    }

    /// Puts other tokens in place of the present ones, at once and for all connections.
    pub fn replace_tokens(&self, entries: Vec<TokenEntry>) -> Result<(), TokenError> {
        let tokens = index(entries)?;
        let has_tokens = !tokens.is_empty();
        *self.0.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
        self.modify(|state| state.has_tokens = has_tokens);
        Ok(())
    }

    /// Whether there is neither token nor user.
    pub fn is_empty(&self) -> bool {
        self.tokens().is_empty() && self.state().users.is_empty()
    }

    /// Changes whenever an answer to "may it" may have changed.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Lets in who knows the password, or the token that is called so, given as password.
    pub async fn login(&self, name: &str, password: &str, is_loopback: bool) -> Result<Caller, LoginError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(LoginError::Refused);
        }
        if name_of(password) == Some(name) && self.tokens().contains_key(name) {
            return self.bearer(password).await;
        }
        if name == GUEST && self.state().has_user(name) && !is_loopback {
            return Err(LoginError::LoopbackOnly);
        }
        match self.is_password(name, password).await? {
            true => Ok(Caller::user(self.clone(), name)),
            false => Err(LoginError::Refused),
        }
    }

    /// Whether that is a user's password.
    pub(crate) async fn is_password(&self, name: &str, password: &str) -> Result<bool, Busy> {
        let state = self.state();
        match state.users.get(name) {
            Some(known) => self.0.checker.check(&known.secret, password).await,
            None => Ok(name == GUEST && state.has_implicit_guest() && password == GUEST),
        }
    }

    /// Lets in whose certificate was accepted and names this user.
    pub fn login_certificate(&self, common_name: &str, is_loopback: bool) -> Result<Caller, LoginError> {
        if let Some(token) = self.tokens().get(common_name) {
            return Ok(Caller::token(self.clone(), token.clone()));
        }
        match self.state().has_user(common_name) {
            true if common_name == GUEST && !is_loopback => Err(LoginError::LoopbackOnly),
            true => Ok(Caller::user(self.clone(), common_name)),
            false => Err(LoginError::Refused),
        }
    }

    /// Lets in the bearer of a token.
    pub async fn bearer(&self, text: &str) -> Result<Caller, LoginError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(LoginError::Refused);
        }
        let token =
            name_of(text).and_then(|name| self.tokens().get(name).cloned()).ok_or(LoginError::Refused)?;
        match self.0.checker.check(&token.secret, text).await? {
            true => Ok(Caller::token(self.clone(), token)),
            false => Err(LoginError::Refused),
        }
    }

    /// Somebody on this machine, on a server that asks nobody there for a proof.
    pub fn local(&self) -> Caller {
        Caller::local(self.clone())
    }

    pub(crate) fn tokens(&self) -> Arc<Tokens> {
        self.0.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn has_token(&self, token: &Arc<Token>) -> bool {
        self.tokens().get(&token.name).is_some_and(|known| Arc::ptr_eq(&known.secret, &token.secret))
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the picture; the documents have changed before.
    pub(crate) fn modify(&self, change: impl FnOnce(&mut State)) {
        let mut place = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = place.as_ref().clone();
        change(&mut state);
        state.settle_guest();
        *place = Arc::new(state);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn checker(&self) -> &Checker {
        &self.0.checker
    }

    pub(crate) fn ears(&self) -> &Ears {
        &self.0.ears
    }

    pub(crate) fn changing(&self) -> &tokio::sync::Mutex<()> {
        &self.0.changing
    }
}

/// What is wrong with the configured tokens.
pub fn check_tokens(entries: Vec<TokenEntry>) -> Result<(), TokenError> {
    index(entries).map(|_| ())
}

fn index(entries: Vec<TokenEntry>) -> Result<Tokens, TokenError> {
    let mut tokens = HashMap::new();
    for entry in entries {
        let token = Arc::new(Token::new(entry)?);
        if let Some(twice) = tokens.insert(token.name.clone(), token) {
            return Err(TokenError::Twice(twice.name.clone()));
        }
    }
    Ok(tokens)
}
