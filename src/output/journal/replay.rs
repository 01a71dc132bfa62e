//! What earlier runs left in the journal. Reads only.
//!
//! A torn tail is no record; a damaged line in the middle costs that line alone; a segment of
//! another job or a later version is none of ours and is left alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::super::checked_line;
use super::super::job::{FORMAT_VERSION, Fingerprint};
use super::super::store::StoreError;
use super::record::{Line, ReplyRecord, parse_segment, segment_name};
use crate::domain::{PartNumber, Plan};

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Replies that were handed on.
    pub replies: u64,
    /// Lines that are torn or damaged.
    pub damaged_lines: u64,
    /// Segments of another job or a later version.
    pub foreign_segments: u64,
    segments: Vec<ReplayedSegment>,
    last_segment: u32,
}

/// A segment of this job and the parts that its rows belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplayedSegment {
    pub(super) number: u32,
    pub(super) parts: BTreeSet<PartNumber>,
}

impl Replay {
    pub(super) fn segments(&self) -> &[ReplayedSegment] {
        &self.segments
    }

    /// The highest number that a segment has, ours or not; 0 if there is none.
    pub(super) fn last_segment(&self) -> u32 {
        self.last_segment
    }
}

/// Hands every reply of `job` in the journal's `folder` to `visit`, in the order of their arrival;
/// a folder that does not exist holds none.
///
/// # Errors
/// If the folder or a segment can't be read.
pub fn replay(
    folder: &Path,
    job: Fingerprint,
    plan: &Plan,
    mut visit: impl FnMut(ReplyRecord),
) -> Result<Replay, StoreError> {
    let mut found = Replay::default();
    for number in segment_numbers(folder)? {
        found.last_segment = number;
        let path = folder.join(segment_name(number));
        let read = File::open(&path).and_then(|file| {
            read_segment(BufReader::new(file), number, job, plan, &mut found, &mut visit)
        });
        read.map_err(|source| StoreError::from_io("reading", path.display().to_string(), source))?;
    }
    Ok(found)
}

fn segment_numbers(folder: &Path) -> Result<Vec<u32>, StoreError> {
    let list = || -> io::Result<Vec<u32>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(parse_segment(&entry?.file_name().to_string_lossy()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    };
    list().map_err(|source| StoreError::from_io("listing", folder.display().to_string(), source))
}

fn read_segment(
    mut lines: impl BufRead,
    number: u32,
    job: Fingerprint,
    plan: &Plan,
    found: &mut Replay,
    visit: &mut impl FnMut(ReplyRecord),
) -> io::Result<()> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line)?;
    match checked_line::decode::<Line>(&line) {
        Some(Line::Segment(header)) if header.version <= FORMAT_VERSION && header.job == job => {}
        Some(_) => {
            found.foreign_segments += 1;
            return Ok(());
        }
        // The header is synced before anything follows it, so a torn one stands alone. What
        // follows a damaged one is bound to no job.
        None => {
            found.damaged_lines += 1;
            if !lines.fill_buf()?.is_empty() {
                found.foreign_segments += 1;
                return Ok(());
            }
        }
    }
    let mut parts = BTreeSet::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match checked_line::decode::<Line>(&line) {
            Some(Line::Reply(record)) => {
                parts.extend(record.rows.iter().filter_map(|row| plan.part_of(row.position)));
                found.replies += 1;
                visit(record.into_owned());
            }
            // A line end that follows a torn line stands alone.
            _ if line == b"\n" => {}
            _ => found.damaged_lines += 1,
        }
    }
    found.segments.push(ReplayedSegment { number, parts });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::num::NonZeroU32;

    use super::super::record::SegmentHeader;
    use super::super::record::tests::reply_for;
    use super::*;
    use crate::domain::UnixMillis;

    fn header() -> SegmentHeader {
        SegmentHeader {
            version: FORMAT_VERSION,
            job: Fingerprint::of(b"job"),
            run: "r1".into(),
            started: UnixMillis(1),
        }
    }

    fn segment(header: SegmentHeader, replies: u64) -> Vec<Vec<u8>> {
        let mut lines = vec![checked_line::encode(&Line::Segment(header)).unwrap()];
        for call in 1..=replies {
            let reply = Line::Reply(Cow::Owned(reply_for(call, &[call, call + 10])));
            lines.push(checked_line::encode(&reply).unwrap());
        }
        lines
    }

    fn read(bytes: &[u8]) -> (Vec<u64>, Replay) {
        let mut plan = Plan::default();
        plan.extend_to(40, NonZeroU32::new(10).unwrap()).unwrap();
        let (mut calls, mut found) = (Vec::new(), Replay::default());
        let job = Fingerprint::of(b"job");
        let mut visit = |record: ReplyRecord| calls.push(record.call);
        read_segment(bytes, 1, job, &plan, &mut found, &mut visit).unwrap();
        (calls, found)
    }

    #[test]
    fn a_tail_torn_at_any_byte_costs_no_earlier_reply_and_gives_no_false_one() {
        let lines = segment(header(), 3);
        let whole = lines.concat();
        for cut in lines[0].len()..=whole.len() {
            let mut end = 0;
            let complete = lines
                .iter()
                .filter(|line| {
                    end += line.len();
                    // The line end alone may be missing.
                    end - 1 <= cut
                })
                .count() as u64
                - 1;
            let (calls, found) = read(&whole[..cut]);
            assert_eq!(calls, (1..=complete).collect::<Vec<_>>(), "cut at {cut}");
            assert_eq!(found.replies, complete);
        }
    }

    #[test]
    fn a_damaged_line_costs_that_line_alone() {
        let mut lines = segment(header(), 3);
        lines[2][80] ^= 1;
        let (calls, found) = read(&lines.concat());
        assert_eq!((calls, found.damaged_lines), (vec![1, 3], 1));
        // A line that was torn in the middle of the file is ended by the next one.
        let half = lines[3].len() / 2;
        lines[2] = [&lines[3][..half], b"\n"].concat();
        let (calls, found) = read(&lines.concat());
        assert_eq!((calls, found.damaged_lines), (vec![1, 3], 1));
    }

    #[test]
    fn a_segment_of_another_job_or_a_later_version_is_left_alone() {
        let other = SegmentHeader { job: Fingerprint::of(b"other"), ..header() };
        let later = SegmentHeader { version: FORMAT_VERSION + 1, ..header() };
        for foreign in [other, later] {
            let (calls, found) = read(&segment(foreign, 3).concat());
            assert!(calls.is_empty() && found.segments.is_empty());
            assert_eq!(found.foreign_segments, 1);
        }
    }

    #[test]
    fn what_follows_a_damaged_header_is_bound_to_no_job() {
        let mut lines = segment(header(), 3);
        lines[0][40] ^= 1;
        let (calls, found) = read(&lines.concat());
        assert!(calls.is_empty() && found.segments.is_empty());
        // A torn header has nothing to bind.
        let (_, found) = read(&lines[0][..20]);
        assert_eq!((found.segments.len(), found.damaged_lines), (1, 1));
    }

    #[test]
    fn a_segment_names_the_parts_that_its_rows_wait_for() {
        let (_, found) = read(&segment(header(), 3).concat());
        let parts: Vec<u32> = found.segments[0].parts.iter().map(|part| part.0).collect();
        assert_eq!(parts, [1, 2]);
    }
}
