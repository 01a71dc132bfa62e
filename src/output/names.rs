//! The names of everything in an output folder.

use super::job::Layout;
use crate::domain::PartNumber;

/// The folder of what is not data; dataset readers skip names that begin with `_`.
pub const CONTROL: &str = "_batchclass";
/// Says that every planned row is done; written last.
pub const SUCCESS: &str = "_SUCCESS";

pub(super) const MANIFEST: &str = "_batchclass/manifest";
pub(super) const JOURNAL: &str = "_batchclass/journal";
pub(super) const JOB: &str = "_batchclass/job.json";

/// `_batchclass/probe-<run>`: what `check` asks storage with.
pub(super) fn probe(run: &str) -> String {
    format!("{CONTROL}/probe-{run}")
}

/// How often a part was written, from 1.
pub type Generation = u32;

/// How often a file had to be written under another name, from 1.
pub(super) type Edition = u32;

/// `_batchclass/job~2.json`: where `name`, of a JSON file, stands if a torn object burnt its name
/// and those of the editions before.
pub(super) fn edition(name: &str, edition: Edition) -> String {
    match name.strip_suffix(".json") {
        Some(stem) if edition > 1 => format!("{stem}~{edition}.json"),
        _ => name.to_owned(),
    }
}

/// The name of a file's first edition, and which one `name` is.
pub(super) fn parse_edition(name: &str) -> (String, Edition) {
    let parsed = name.strip_suffix(".json").and_then(|stem| {
        let (stem, digits) = stem.rsplit_once('~')?;
        Some((format!("{stem}.json"), digits.parse().ok()?))
    });
    match parsed {
        Some((first, number)) if edition(&first, number) == name => (first, number),
        _ => (name.to_owned(), 1),
    }
}

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

/// `_batchclass/claim-NAME.json`: that a run writes, or wants to.
pub(super) fn claim(name: &str) -> String {
    format!("{CONTROL}/claim-{name}.json")
}

/// `_batchclass/heartbeat-NAME-000001.json`: a sign of life of the claim with this name, from 1.
pub(super) fn heartbeat(name: &str, number: u32) -> String {
    format!("{CONTROL}/heartbeat-{name}-{number:06}.json")
}

/// `_batchclass/release-NAME.json`: that the claim with this name holds no more.
pub(super) fn release(name: &str) -> String {
    format!("{CONTROL}/release-{name}.json")
}

/// What an object says of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Claim,
    Heartbeat(u32),
    Release,
}

/// The claim's name, and what the object called `name` says of it.
pub(super) fn parse_sign(name: &str) -> Option<(&str, Sign)> {
    let stem = name.strip_prefix(CONTROL)?.strip_prefix('/')?.strip_suffix(".json")?;
    match stem.split_once('-')? {
        ("claim", claim) => Some((claim, Sign::Claim)),
        ("release", claim) => Some((claim, Sign::Release)),
        ("heartbeat", rest) => {
            let (claim, digits) = rest.rsplit_once('-')?;
            Some((claim, Sign::Heartbeat(number(digits)?)))
        }
        _ => None,
    }
}

/// The file of a part's generation: `part-000001.parquet` and, where nothing is replaced,
/// `part-000001-r01.parquet` for the second generation.
pub(super) fn part_file(layout: Layout, part: PartNumber, generation: Generation) -> String {
    match layout {
        Layout::Append if generation > 1 => format!("part-{part}-r{:02}.parquet", generation - 1),
        Layout::Append | Layout::Replace => part.file_name(),
    }
}

/// The part of a file in the top folder, and its generation so far as the name tells it.
pub(super) fn parse_part_file(layout: Layout, name: &str) -> Option<(PartNumber, Generation)> {
    let stem = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
    let (part, generation) = match stem.split_once("-r") {
        None => (number(stem)?, 1),
        Some((part, refill)) => (number(part)?, refill.parse::<u32>().ok()?.checked_add(1)?),
    };
    let parsed = (PartNumber(part), generation);
    (part > 0 && part_file(layout, parsed.0, generation) == name).then_some(parsed)
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
            assert_eq!(parse_part_file(Layout::Replace, &part.file_name()), Some((part, 1)));
            let name = part_file(Layout::Append, part, generation);
            assert_eq!(parse_part_file(Layout::Append, &name), Some((part, generation)));
        }
        assert_eq!(record(PartNumber(1), 2), "_batchclass/manifest/000001-g2.json");
        for name in [
            "part-1.parquet",
            "part-000000.parquet",
            "part-0000001.parquet",
            "part-+00001.parquet",
            "part-000001-r00.parquet",
            "part-000001-r1.parquet",
            "part-000001-r4294967295.parquet",
        ] {
            assert_eq!(parse_part_file(Layout::Append, name), None, "{name}");
        }
        assert_eq!(parse_part_file(Layout::Replace, "part-000001-r01.parquet"), None);
        assert_eq!(parse_record("_batchclass/manifest/000001-g1.json"), None);
        assert_eq!(parse_stretch(&stretch(2)), Some(2));
        assert_eq!(parse_stretch(JOB), None);
    }

    #[test]
    fn editions_read_back_and_first_ones_have_the_plain_name() {
        assert_eq!(edition(JOB, 1), JOB);
        assert_eq!(edition(JOB, 2), "_batchclass/job~2.json");
        for number in 1..12 {
            assert_eq!(parse_edition(&edition(JOB, number)), (JOB.to_owned(), number));
        }
        for name in ["a~1.json", "a~02.json", "a~x.json", "a~2"] {
            assert_eq!(parse_edition(name), (name.to_owned(), 1));
        }
    }

    #[test]
    fn what_is_said_of_a_claim_reads_back_with_the_claims_name() {
        let run = "20261124T141928Z-0a1b2c3d~2";
        assert_eq!(parse_sign(&claim(run)), Some((run, Sign::Claim)));
        assert_eq!(parse_sign(&release(run)), Some((run, Sign::Release)));
        assert_eq!(parse_sign(&heartbeat(run, 7)), Some((run, Sign::Heartbeat(7))));
        for name in [JOB, "claim-r1.json", "_batchclass/heartbeat-r1.json", "_batchclass/claim-r1"]
        {
            assert_eq!(parse_sign(name), None, "{name}");
        }
    }
}
