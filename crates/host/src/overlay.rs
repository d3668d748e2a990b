//! How do policies reach everything that is declared, whichever door declares it? A door's crate that knows policies lays
//! them over each declaration just before it is carried out, so that none slips past a change of policies.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use waystation_base::Name;
use waystation_broker::{Command, command::Declare, spec::Spec};

/// Whoever knows the policies. Asked by the driver for each declaration: it must answer from memory.
pub trait Overlay: Send + Sync {
    /// What a thing of this name becomes that is declared so. Laid over its own result it gives the same.
    fn lay(&self, name: &Name, declared: Spec) -> Spec;
}

/// Where it stands, once somebody has brought it.
#[derive(Default)]
pub(crate) struct Place(OnceLock<Arc<dyn Overlay>>);

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.0.get().is_some()).finish()
    }
}

impl Place {
    /// The first one stays.
    pub(crate) fn set(&self, overlay: Arc<dyn Overlay>) {
        let _ = self.0.set(overlay);
    }

    /// Lays the policies over a declaration that is about to be carried out.
    pub(crate) fn lay(&self, command: &mut Command) {
        let (Some(overlay), Command::Declare(Declare { name, spec, .. })) = (self.0.get(), command) else {
            return;
        };
        let laid = overlay.lay(name, spec.clone());
        match laid.check() {
            Ok(()) => *spec = laid,
            Err(error) => tracing::warn!(%name, %error, "a policy cannot be applied"),
        }
    }
}
