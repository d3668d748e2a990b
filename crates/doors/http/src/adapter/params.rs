//! Which parameters of queries do many requests have in common?

use serde::Deserialize;
use utoipa::IntoParams;

/// Of a declaration.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PutParams {
    /// If it is there and differs: change it, instead of refusing. Secrets that are left out stay.
    #[serde(default)]
    pub change: bool,
}

/// Of a declaration that can be tried first.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TryPutParams {
    /// If it is there and differs: change it, instead of refusing. Secrets that are left out stay.
    #[serde(default)]
    pub change: bool,
    /// Change nothing: check the fields and say what would be done. What they name need not be there yet.
    #[serde(default)]
    pub dry_run: bool,
}

/// Of a list in order of names.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// Names after this one.
    pub after: Option<String>,
    /// Most items on the page: 1 to 1000 (default 100).
    pub limit: Option<usize>,
}
