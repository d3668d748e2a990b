//! Small named documents of the doors: kept and given back, never read.

use bytes::Bytes;
use waystation_base::{
    Name,
    limits::{DOCUMENT_BYTES_MAX, DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX},
};

use super::{Ctx, Shard, entry::Entry};
use crate::{Kind, ROUTE_CLAIM, Refusal};

impl Shard {
    /// Writes or deletes a document.
    pub(super) fn document(
        &mut self,
        name: Name,
        body: Option<Bytes>,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), Refusal> {
        self.check_document(&name, body.as_ref())?;
        if body.as_ref() == self.documents.get(&name) {
            return Ok(());
        }
        Entry::Document(name.clone(), body.as_deref()).append(ctx.log);
        // A copy of its own: the caller's may be a slice of something large.
        self.apply_document(name, body.map(|body| Bytes::copy_from_slice(&body)));
        Ok(())
    }

    fn check_document(&self, name: &Name, body: Option<&Bytes>) -> Result<(), Refusal> {
        let Some(body) = body else { return Ok(()) };
        if body.len() > DOCUMENT_BYTES_MAX {
            let (count, limit) = (body.len() as u64, DOCUMENT_BYTES_MAX as u64);
            return Err(Refusal::TooLarge { what: "bytes of a document", count, limit });
        }
        let claimed =
            name.as_str().strip_prefix(ROUTE_CLAIM).and_then(|name| self.route_names.get_key_value(name));
        if let Some((name, _)) = claimed {
            let field = "kind: it has bindings".to_owned();
            return Err(Refusal::Exists { kind: Kind::Route, name: name.clone(), field });
        }
        let before = self.documents.get(name).map_or(0, |old| old.len() + name.as_str().len());
        if before == 0 && self.documents.len() >= DOCUMENTS_MAX {
            return Err(Refusal::Limit { what: "documents", limit: DOCUMENTS_MAX as u64 });
        }
        if self.document_bytes - before + body.len() + name.as_str().len() > DOCUMENTS_BYTES_MAX {
            return Err(Refusal::Limit { what: "bytes of all documents", limit: DOCUMENTS_BYTES_MAX as u64 });
        }
        Ok(())
    }

    /// Takes over a document, now or after a restart.
    pub(super) fn apply_document(&mut self, name: Name, body: Option<Bytes>) {
        let name_bytes = name.as_str().len();
        let old = match body {
            Some(body) => {
                self.document_bytes += body.len() + name_bytes;
                self.documents.insert(name, body)
            }
            None => self.documents.remove(&name),
        };
        self.document_bytes -= old.map_or(0, |old| old.len() + name_bytes);
    }

    /// Documents whose names begin so, by name.
    pub fn documents(&self, prefix: &str) -> Vec<(Name, Bytes)> {
        let from =
            self.documents.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        let found = from.take_while(|(name, _)| name.as_str().starts_with(prefix));
        found.map(|(name, body)| (name.clone(), body.clone())).collect()
    }
}
