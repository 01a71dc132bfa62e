//! The proof that no id stands twice, whatever the order of the rows: the ids are sorted by
//! themselves.

use super::id_keys::{IdKey, IdKeys};
use super::key_runs::KeyRunWriter;
use super::temp_folder::TempFolder;
use super::{SortError, Sorter};
use crate::domain::spec::OnDuplicateId;
use crate::input::InputError;
use crate::input::ids::unpacked_type;
use crate::input::order::{check_nulls, duplicate};
use crate::input::table::Columns;

/// What the id of a row is taken to need on disk before any is seen, bytes.
const INTEGER_BYTES: u64 = 8;
const TEXT_BYTES: u64 = 24;

/// Reads all ids; returns how many rows are dropped because their id stands earlier.
pub(super) fn prove(sorter: &Sorter<'_>) -> Result<u64, SortError> {
    let tables = sorter.tables;
    let stops_at_repeat = sorter.on_duplicate == OnDuplicateId::Error;
    let id_type = tables.schema().field(sorter.id).data_type();
    let mut keys = IdKeys::new(id_type);
    let mut spilled: Option<(TempFolder, KeyRunWriter)> = None;
    let mut first_row = 0_u64;
    for batch in tables.read_all(Columns::Only(sorter.id)) {
        let ids = batch?.column(0).clone();
        check_nulls(tables, &ids, first_row)?;
        first_row += ids.len() as u64;
        keys.extend(&ids).map_err(SortError::Ids)?;
        if keys.bytes_to_sort() > sorter.memory || keys.len() > u32::MAX as usize - ids.len() {
            let (_, runs) = match &mut spilled {
                Some(spilled) => spilled,
                None => {
                    let each = if unpacked_type(id_type).is_integer() {
                        INTEGER_BYTES
                    } else {
                        TEXT_BYTES
                    };
                    let folder = sorter.new_folder(tables.rows() * each)?;
                    let file = folder.new_file("proof")?;
                    spilled.insert((folder, KeyRunWriter::new(file, sorter.memory)))
                }
            };
            keys.write_sorted(runs.out())?;
            runs.end_run()?;
        }
    }
    let mut dropped = 0;
    let repeated = match spilled {
        None => {
            let order = keys.order();
            let mut pairs = order.windows(2).filter(|pair| keys.is_repeat(pair[0], pair[1]));
            match stops_at_repeat {
                true => pairs.next().map(|pair| keys.get(pair[0])),
                false => {
                    dropped = pairs.count() as u64;
                    None
                }
            }
        }
        Some((_folder, mut runs)) => {
            keys.write_sorted(runs.out())?;
            runs.end_run()?;
            let count = runs.len();
            runs.finish()?.merge::<SortError>(0..count, &keys, stops_at_repeat, |step| {
                dropped += u64::from(step.is_repeat);
                Ok(())
            })?
        }
    };
    match repeated {
        Some(key) => Err(name(sorter, &key)?.into()),
        None => Ok(dropped),
    }
}

/// The error that names the first two rows with this id.
pub(super) fn name(sorter: &Sorter<'_>, key: &IdKey) -> Result<InputError, SortError> {
    let tables = sorter.tables;
    let mut first = None;
    let mut first_row = 0;
    for batch in tables.read_all(Columns::Only(sorter.id)) {
        let ids = batch?.column(0).clone();
        let mut keys = IdKeys::new(ids.data_type());
        keys.extend(&ids).map_err(SortError::Ids)?;
        for row in keys.rows_of(key) {
            let row = first_row + row as u64;
            match first {
                None => first = Some(row),
                Some(first) => return Ok(duplicate(tables, first, row)),
            }
        }
        first_row += ids.len() as u64;
    }
    // The file changed between two looks at it.
    let files = tables.describe();
    Ok(InputError::Changed { file: files.into_iter().next().map_or(String::new(), |it| it.name) })
}
