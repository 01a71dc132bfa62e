//! The ids of parts that interleave, as an input that grew leaves them, in one order.

use std::sync::Arc;

use bytes::Bytes;

use super::VerifyError;
use crate::domain::{Interleaved, RowId};
use crate::input::row_ids;
use crate::output::store::Store;
use crate::output::{Evidence, OutputError, PartScan};

/// Reads the ids of whole files, each given with its first id, once more and in order, with the file
/// that each stands in; only files that overlap are in memory together.
pub(super) fn ids_in_order<'a>(
    evidence: &'a Evidence,
    store: &'a dyn Store,
    id_column: &'a str,
    files: Vec<(RowId, String)>,
) -> impl Iterator<Item = Result<(RowId, Arc<str>), VerifyError>> + 'a {
    Interleaved::new(files, move |name| {
        let bytes: Bytes = store.read(&name).map_err(OutputError::from)?;
        let name: Arc<str> = name.into();
        // It was read whole a moment ago.
        let changed = {
            let name = Arc::clone(&name);
            move || VerifyError::Changed(name.to_string())
        };
        let scan = PartScan::open(&name, bytes, evidence.fingerprint, &[id_column]);
        Ok(scan.map_err(|_| changed())?.flat_map(move |batch| {
            let ids = batch.ok().and_then(|batch| row_ids(&batch, id_column).ok());
            let error = ids.is_none().then(|| Err(changed()));
            let name = Arc::clone(&name);
            let ids = ids.unwrap_or_default().into_iter();
            ids.map(move |id| Ok((id, Arc::clone(&name)))).chain(error)
        }))
    })
}
