//! The names of everything in an output folder.

use crate::domain::PartNumber;

/// The folder of what is not data; dataset readers skip names that begin with `_`.
pub const CONTROL: &str = "_batchclass";
/// Says that every planned row is done; written last.
pub const SUCCESS: &str = "_SUCCESS";

pub(super) const MANIFEST: &str = "_batchclass/manifest";
pub(super) const JOURNAL: &str = "_batchclass/journal";
pub(super) const JOB: &str = "_batchclass/job.json";

/// How often a part was written, from 1.
pub type Generation = u32;

/// `_batchclass/job-000002.json`: the plan's stretch with this number, from 2.
pub(super) fn stretch(number: u32) -> String {
    format!("{CONTROL}/job-{number:06}.json")
}

/// The number of a stretch's file.
pub(super) fn parse_stretch(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(CONTROL)?.strip_prefix("/job-")?.strip_suffix(".json")?;
    number(digits)
}

/// `_batchclass/manifest/000001.json`, later generations `000001-g2.json`.
pub(super) fn record(part: PartNumber, generation: Generation) -> String {
    match generation {
        1 => format!("{MANIFEST}/{part}.json"),
        later => format!("{MANIFEST}/{part}-g{later}.json"),
    }
}

/// The part and generation of a manifest entry's file.
pub(super) fn parse_record(name: &str) -> Option<(PartNumber, Generation)> {
    let stem = name.strip_prefix(MANIFEST)?.strip_prefix('/')?.strip_suffix(".json")?;
    let (part, generation) = match stem.split_once("-g") {
        None => (number(stem)?, 1),
        Some((part, generation)) => (number(part)?, generation.parse().ok()?),
    };
    let parsed = (PartNumber(part), generation);
    (record(parsed.0, parsed.1) == name).then_some(parsed)
}

/// The number of a part's file in the top folder.
pub(super) fn parse_part(name: &str) -> Option<PartNumber> {
    let part = PartNumber(number(name.strip_prefix("part-")?.strip_suffix(".parquet")?)?);
    (part.0 > 0 && part.file_name() == name).then_some(part)
}

fn number(digits: &str) -> Option<u32> {
    let is_plain = digits.len() >= 6 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_lookalikes_do_not() {
        for (part, generation) in [(1, 1), (1, 2), (1_234_567, 30)] {
            let part = PartNumber(part);
            assert_eq!(parse_record(&record(part, generation)), Some((part, generation)));
            assert_eq!(parse_part(&part.file_name()), Some(part));
        }
        assert_eq!(record(PartNumber(1), 2), "_batchclass/manifest/000001-g2.json");
        for name in
            ["part-1.parquet", "part-000000.parquet", "part-0000001.parquet", "part-+00001.parquet"]
        {
            assert_eq!(parse_part(name), None, "{name}");
        }
        assert_eq!(parse_record("_batchclass/manifest/000001-g1.json"), None);
        assert_eq!(parse_stretch(&stretch(2)), Some(2));
        assert_eq!(parse_stretch(JOB), None);
    }
}
