//! What do management and command line do with users, beyond one change after the other? The rules about the guest and the
//! last administrator, and word to the doors of who is gone.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use waystation_host::Broker;

use crate::{
    Access, Caller, Credential, Error, UserChange,
    change::whole,
    user::{GUEST, User},
};

/// Somebody or something whose connections must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone<'a> {
    /// A user.
    User(&'a str),
    /// A virtual host.
    Vhost(&'a str),
}

/// Who wants to hear of it.
pub(crate) type Hear = Arc<dyn Fn(Gone<'_>) + Send + Sync>;

/// Those who want to hear.
#[derive(Default)]
pub(crate) struct Ears(RwLock<Vec<Hear>>);

impl fmt::Debug for Ears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ears = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_tuple("Ears").field(&ears.len()).finish()
    }
}

impl Access {
    /// Calls `hear` whenever somebody is gone, so that a door closes his connections.
    pub fn on_gone(&self, hear: impl Fn(Gone<'_>) + Send + Sync + 'static) {
        self.ears().0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(hear));
    }

    /// Tells the doors who is gone.
    pub fn tell_gone(&self, gone: Gone<'_>) {
        let ears = self.ears().0.read().unwrap_or_else(PoisonError::into_inner).clone();
        ears.iter().for_each(|hear| hear(gone));
    }

    /// Makes or changes a user on somebody's behalf; says whether it is new. If that would make the guest go who acts here,
    /// it stays, as a declared one.
    pub async fn put_user_as(
        &self,
        broker: &Broker,
        caller: &Caller,
        change: UserChange,
    ) -> Result<bool, Error> {
        if caller.name() == Some(GUEST) && change.name != GUEST {
            self.keep_guest(broker).await?;
        }
        self.put_user(broker, change).await
    }

    /// Removes users with their permissions: all of them, or none if one is not known or no administrator would be left.
    /// Without any administrator the guest would be back, with everything: whoever wants that deletes the users by hand.
    pub async fn delete_users(&self, broker: &Broker, names: &[&str]) -> Result<(), Error> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (access, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = access.changing().lock().await;
            if let Some(unknown) = names.iter().find(|name| access.user(name).is_none()) {
                return Err(Error::Unknown(unknown.clone()));
            }
            let stays = |user: &User| !names.contains(&user.name) && user.tags.is_administrator();
            if !access.users().iter().any(stays) {
                return Err(Error::LastAdministrator);
            }
            for name in &names {
                if name == GUEST {
                    access.declare_guest(&broker).await?;
                }
                access.remove_user(&broker, name).await?;
                access.tell_gone(Gone::User(name));
            }
            Ok(())
        })
        .await
    }

    /// In which member a user differs from what it would become; nothing if it is so already, or not there.
    pub async fn difference(&self, change: &UserChange) -> Result<Option<&'static str>, Error> {
        let Some(user) = self.user(&change.name) else { return Ok(None) };
        if change.tags.as_ref().is_some_and(|tags| *tags != user.tags) {
            return Ok(Some("tags"));
        }
        if change.limits.of(user.limits) != user.limits {
            return Ok(Some("limits"));
        }
        Ok(match &change.credential {
            Credential::Keep => None,
            Credential::Nothing => (!user.password_hash.is_empty()).then_some("password"),
            Credential::Hash(algorithm, hash) => {
                let same = user.hashing_algorithm == *algorithm && user.password_hash == *hash;
                (!same).then_some("password_hash")
            }
            Credential::Password(password) => {
                let is_right = self.is_password(&change.name, password).await.map_err(|_| Error::Busy)?;
                (!is_right).then_some("password")
            }
        })
    }
}
