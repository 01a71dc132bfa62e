//! The ids of parts that interleave, as an input that grew leaves them, in one order.

use bytes::Bytes;

use super::VerifyError;
use crate::domain::{Interleaved, PartNumber, RowId};
use crate::input::row_ids;
use crate::output::store::Store;
use crate::output::{Evidence, OutputError, PartScan};

/// Reads the ids of whole parts, each given with its first id, once more and in order; only parts
/// that overlap are in memory together.
pub(super) fn ids_in_order<'a>(
    evidence: &'a Evidence,
    store: &'a dyn Store,
    id_column: &'a str,
    parts: Vec<(RowId, PartNumber)>,
) -> impl Iterator<Item = Result<(RowId, PartNumber), VerifyError>> + 'a {
    Interleaved::new(parts, move |part| {
        let name = part.file_name();
        let bytes: Bytes = store.read(&name).map_err(OutputError::from)?;
        // It was read whole a moment ago.
        let changed = move || VerifyError::Changed(part);
        let scan = PartScan::open(&name, bytes, evidence.fingerprint, &[id_column]);
        Ok(scan.map_err(|_| changed())?.flat_map(move |batch| {
            let ids = batch.ok().and_then(|batch| row_ids(&batch, id_column).ok());
            let error = ids.is_none().then(|| Err(changed()));
            ids.unwrap_or_default().into_iter().map(move |id| Ok((id, part))).chain(error)
        }))
    })
}
