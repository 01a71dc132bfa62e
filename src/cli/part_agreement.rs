//! Accuracy of parts in object storage, which the counting engine can't open: they are read through
//! their store, one at a time.

use std::error::Error;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use crate::domain::spec::OutputSpec;
use crate::output::{OutputFolder, PartScan};
use crate::summary::Agreement;

/// How the labels of the part files `names` of `output` agree with the known answers in the column `gold`.
///
/// # Errors
/// If storage fails, or a part is damaged or has no such column.
pub(super) fn of_objects(
    output: &OutputSpec,
    gold: &str,
    names: &[String],
) -> Result<Agreement, Box<dyn Error + Send + Sync>> {
    let folder = OutputFolder::at(&output.location, &output.cloud)?;
    let evidence = folder.evidence()?.ok_or("the output is gone")?;
    let mut agreement = Agreement::default();
    for name in names {
        let bytes = folder.store().read(name)?;
        let columns = [output.label_column.as_str(), gold];
        for batch in PartScan::open(name, bytes, evidence.fingerprint, &columns)? {
            let batch = batch?;
            let [labels, answers] = [texts(&batch, columns[0])?, texts(&batch, columns[1])?];
            for (label, answer) in labels.iter().zip(answers.iter()) {
                if let (Some(label), Some(answer)) = (label, answer) {
                    agreement.compared += 1;
                    agreement.correct += u64::from(label == answer);
                }
            }
        }
    }
    Ok(agreement)
}

fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray, Box<dyn Error + Send + Sync>> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"))?;
    let text = cast(column, &DataType::Utf8)?;
    Ok(text.as_any().downcast_ref::<StringArray>().ok_or("no text")?.clone())
}
